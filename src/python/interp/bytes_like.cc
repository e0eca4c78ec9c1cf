// SPDX-License-Identifier: MIT
#include "python/interp/bytes_like.h"

namespace cxxloop::python {

bool raise_not_bytes_like(Gil, PyObject* data, const char* text) noexcept {
  const Ref name = Ref::steal(PyObject_GetAttrString(reinterpret_cast<PyObject*>(Py_TYPE(data)), "__name__"));
  if (name) PyErr_Format(PyExc_TypeError, text, name.get());
  return false;
}

}  // namespace cxxloop::python
