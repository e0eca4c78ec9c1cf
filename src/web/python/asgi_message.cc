// SPDX-License-Identifier: MIT
#include "web/python/asgi_message.h"

namespace cxxloop::python {

PyObject* require(const WebState& state, PyObject* message, Name key) noexcept {
  PyObject* const value = find(state, message, key);
  if (value == nullptr && PyErr_Occurred() == nullptr) PyErr_SetObject(PyExc_KeyError, state.name(key));
  return value;
}

int find_truth(const WebState& state, PyObject* message, Name key) noexcept {
  PyObject* const value = find(state, message, key);
  if (value == Py_True) return 1;
  if (value == nullptr) return PyErr_Occurred() != nullptr ? -1 : 0;
  return PyObject_IsTrue(value);
}

bool find_number(const WebState& state, PyObject* message, Name key, std::optional<uint64_t>* number) noexcept {
  PyObject* const value = find(state, message, key);
  if (value == nullptr) return PyErr_Occurred() == nullptr;
  if (value == Py_None) return true;
  const long long signed_number = PyLong_AsLongLong(value);
  if (signed_number == -1 && PyErr_Occurred() != nullptr) return false;
  if (signed_number < 0) {
    PyErr_Format(PyExc_ValueError, "%U must not be negative", state.name(key));
    return false;
  }
  *number = static_cast<uint64_t>(signed_number);
  return true;
}

int require_status(const WebState& state, PyObject* message) noexcept {
  PyObject* const status = require(state, message, Name::status);
  if (status == nullptr) return -1;
  const long number = PyLong_AsLong(status);
  if (number == -1 && PyErr_Occurred() != nullptr) return -1;
  if (number >= 200 && number <= 599) return static_cast<int>(number);
  PyErr_Format(PyExc_RuntimeError, "Invalid HTTP status code: %ld", number);
  return -1;
}

std::string_view type_of(const WebState& state, PyObject* message) noexcept {
  PyObject* const type = require(state, message, Name::type);
  if (type == nullptr) return {};
  Py_ssize_t size = 0;
  const char* const text = PyUnicode_Check(type) ? PyUnicode_AsUTF8AndSize(type, &size) : nullptr;
  if (text == nullptr || size == 0) {
    if (PyErr_Occurred() == nullptr) PyErr_Format(PyExc_RuntimeError, "The type of an ASGI message is no text: %R", type);
    return {};
  }
  return {text, static_cast<size_t>(size)};
}

bool raise_fault(const char* fault) noexcept {
  if (fault != nullptr) PyErr_SetString(PyExc_RuntimeError, fault);
  return fault == nullptr;
}

}  // namespace cxxloop::python
