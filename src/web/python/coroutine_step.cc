// SPDX-License-Identifier: MIT
#include "web/python/coroutine_step.h"

#include "python/interp/error.h"

namespace cxxloop::python {
namespace {

// As `return value` in a coroutine: a tuple or an exception must not be taken for the arguments of StopIteration.
void raise_stop_iteration(PyObject* value) noexcept {
  const Ref exception = Ref::steal(PyObject_CallOneArg(PyExc_StopIteration, value));
  if (exception) PyErr_SetObject(PyExc_StopIteration, exception.get());
}

}  // namespace

PyObject* result_of_step(PySendResult how, PyObject* result) noexcept {
  if (how == PYGEN_NEXT) return result;
  if (how == PYGEN_RETURN) raise_stop_iteration(Ref::steal(result).get());
  return nullptr;
}

PyObject* next_of_step(PySendResult how, PyObject* result) noexcept {
  if (how == PYGEN_RETURN && result == Py_None) {
    Py_DECREF(result);
    return nullptr;
  }
  return result_of_step(how, result);
}

PySendResult step_of_result(Gil gil, PyObject** result) noexcept {
  if (*result != nullptr) return PYGEN_NEXT;
  if (PyErr_ExceptionMatches(PyExc_StopIteration) == 0) return PYGEN_ERROR;
  const Ref stop = take_exception(gil);
  *result = PyObject_GetAttrString(stop.get(), "value");
  return *result != nullptr ? PYGEN_RETURN : PYGEN_ERROR;
}

void raise_thrown(Gil, PyObject* const* args, Py_ssize_t nargs) noexcept {
  if (nargs < 1 || nargs > 3) {
    PyErr_Format(PyExc_TypeError, "throw expected 1 to 3 arguments, got %zd", nargs);
    return;
  }
  const bool has_value = nargs > 1 && args[1] != Py_None;
  if (PyExceptionInstance_Check(args[0])) {
    PyErr_SetObject(PyExceptionInstance_Class(args[0]), args[0]);
  } else if (PyExceptionClass_Check(args[0])) {
    PyErr_SetObject(args[0], has_value ? args[1] : nullptr);
  } else {
    PyErr_Format(PyExc_TypeError, "exceptions must be classes or instances deriving from BaseException, not %R",
                 Py_TYPE(args[0]));
  }
}

}  // namespace cxxloop::python
