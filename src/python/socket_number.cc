// SPDX-License-Identifier: MIT
#include "python/socket_number.h"

namespace cxxloop::python {

void SocketNumber::watch(const ModuleState& state, PyObject* sock) noexcept {
  PyTypeObject* const base = reinterpret_cast<PyTypeObject*>(state.imports.socket_type);
  if (PyType_IsSubtype(Py_TYPE(sock), base) == 0) return;
  const int* const field = reinterpret_cast<const int*>(reinterpret_cast<const char*>(sock) + sizeof(PyObject));
  if (*field == fd_) field_ = field;  // as laid out since Python 2; else it stays unseen
}

}  // namespace cxxloop::python
