// SPDX-License-Identifier: MIT
#include "python/interp/fd_witness.h"

namespace cxxloop::python {

const int* number_field(const ModuleState& state, PyObject* file) noexcept {
  for (PyObject* const type : {state.imports.socket_type, state.imports.file_io}) {
    // The first field of both since Python 3.0.
    if (PyObject_TypeCheck(file, reinterpret_cast<PyTypeObject*>(type))) {
      return reinterpret_cast<const int*>(reinterpret_cast<const char*>(file) + sizeof(PyObject));
    }
  }
  return nullptr;
}

const int* fd_witness_of(const ModuleState& state, PyObject* file, int fd) noexcept {
  const int* const field = number_field(state, file);
  return field != nullptr && *field == fd ? field : nullptr;
}

}  // namespace cxxloop::python
