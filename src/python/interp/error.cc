// SPDX-License-Identifier: MIT
#include "python/interp/error.h"

namespace cxxloop::python {

PyObject* raise_errno(Gil, Errno error) noexcept {
  errno = static_cast<int>(error);
  return PyErr_SetFromErrno(PyExc_OSError);
}

Ref make_os_error(Gil gil, Errno error) noexcept {
  raise_errno(gil, error);
  return take_exception(gil);
}

Ref take_exception(Gil) noexcept {
#if PY_VERSION_HEX >= 0x030C0000
  return Ref::steal(PyErr_GetRaisedException());
#else
  PyObject *type = nullptr, *value = nullptr, *traceback = nullptr;
  PyErr_Fetch(&type, &value, &traceback);
  if (type == nullptr) return {};
  PyErr_NormalizeException(&type, &value, &traceback);
  if (traceback != nullptr) PyException_SetTraceback(value, traceback);
  Py_XDECREF(type);
  Py_XDECREF(traceback);
  return Ref::steal(value);
#endif
}

void set_exception(Gil, Ref exception) noexcept {
#if PY_VERSION_HEX >= 0x030C0000
  PyErr_SetRaisedException(exception.release());
#else
  PyObject* const type = reinterpret_cast<PyObject*>(Py_TYPE(exception.get()));
  PyObject* const traceback = PyException_GetTraceback(exception.get());
  Py_INCREF(type);
  PyErr_Restore(type, exception.release(), traceback);
#endif
}

bool is_exit(PyObject* exception) noexcept {
  return PyErr_GivenExceptionMatches(exception, PyExc_SystemExit) != 0 ||
         PyErr_GivenExceptionMatches(exception, PyExc_KeyboardInterrupt) != 0;
}

ContextScope::~ContextScope() {
  if (!entered_ || !context_) return;
  Ref exception = take_exception(gil_);
  if (PyContext_Exit(context_.get()) < 0) PyErr_WriteUnraisable(context_.get());
  if (exception) set_exception(gil_, std::move(exception));
}

}  // namespace cxxloop::python
