// SPDX-License-Identifier: MIT
#include "python/interp/fd_witness.h"

#include "python/interp/cpython.h"

namespace cxxloop::python {

const int* number_field(const ModuleState& state, PyObject* file) noexcept {
  for (PyObject* const type : {state.imports.socket_type, state.imports.file_io}) {
    if (PyObject_TypeCheck(file, reinterpret_cast<PyTypeObject*>(type))) return number_field_of(file);
  }
  return nullptr;
}

const int* fd_witness_of(const ModuleState& state, PyObject* file, int fd) noexcept {
  const int* const field = number_field(state, file);
  return field != nullptr && *field == fd ? field : nullptr;
}

}  // namespace cxxloop::python
