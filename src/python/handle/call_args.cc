// SPDX-License-Identifier: MIT
#include "python/handle/call_args.h"

namespace cxxloop::python {
namespace {

// Puts one keyword argument where it belongs. False: TypeError is set.
bool take_keyword(const char* method, const char* leading_name, PyObject* name, PyObject* value,
                  ScheduleArgs* out) noexcept {
  PyObject** target = nullptr;
  if (PyUnicode_CompareWithASCIIString(name, "context") == 0) {
    out->handle.context = value;
    return true;
  }
  if (PyUnicode_CompareWithASCIIString(name, "callback") == 0) target = &out->handle.callback;
  if (leading_name != nullptr && PyUnicode_CompareWithASCIIString(name, leading_name) == 0) target = &out->leading;
  if (target == nullptr) {
    PyErr_Format(PyExc_TypeError, "%s() got an unexpected keyword argument '%U'", method, name);
    return false;
  }
  if (*target != nullptr) {
    PyErr_Format(PyExc_TypeError, "%s() got multiple values for argument '%U'", method, name);
    return false;
  }
  *target = value;
  return true;
}

bool require(const char* method, const char* name, PyObject* value) noexcept {
  if (value != nullptr) return true;
  PyErr_Format(PyExc_TypeError, "%s() missing 1 required positional argument: '%s'", method, name);
  return false;
}

}  // namespace

bool parse_schedule_args(Gil, const char* method, const char* leading_name, PyObject* const* args, Py_ssize_t nargs,
                         PyObject* kwnames, ScheduleArgs* out) noexcept {
  Py_ssize_t used = 0;
  if (leading_name != nullptr && used < nargs) out->leading = args[used++];
  if (used < nargs) out->handle.callback = args[used++];
  out->handle.args = args + used;
  out->handle.nargs = nargs - used;
  const Py_ssize_t keywords_count = kwnames != nullptr ? PyTuple_GET_SIZE(kwnames) : 0;
  for (Py_ssize_t i = 0; i < keywords_count; ++i) {
    if (!take_keyword(method, leading_name, PyTuple_GET_ITEM(kwnames, i), args[nargs + i], out)) return false;
  }
  return (leading_name == nullptr || require(method, leading_name, out->leading)) &&
         require(method, "callback", out->handle.callback);
}

bool check_count(const char* method, Py_ssize_t nargs, Py_ssize_t count) noexcept {
  if (nargs == count) return true;
  PyErr_Format(PyExc_TypeError, "%s() takes exactly %zd arguments (%zd given)", method, count, nargs);
  return false;
}

PyObject* named_argument(const char* method, const char* name, PyObject* const* args, Py_ssize_t nargs,
                         PyObject* kwnames) noexcept {
  const Py_ssize_t keywords_count = kwnames != nullptr ? PyTuple_GET_SIZE(kwnames) : 0;
  if (nargs + keywords_count == 1 &&
      (nargs == 1 || PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(kwnames, 0), name) == 0)) {
    return args[0];
  }
  PyErr_Format(PyExc_TypeError, "%s() takes exactly one argument: %s", method, name);
  return nullptr;
}

}  // namespace cxxloop::python
