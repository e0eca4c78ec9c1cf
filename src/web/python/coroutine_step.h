// SPDX-License-Identifier: MIT
//
// web/python/coroutine_step.h: a step of a coroutine that is native, in the three shapes in which Python asks for one.
//
// Thread: any that holds the GIL.
#pragma once

#include "python/interp/ref.h"

namespace cxxloop::python {

// What the method send() or throw() returns: StopIteration is raised for the end. Takes `result`, which is null for
// PYGEN_ERROR. Null: the indicator is set.
[[nodiscard]] PyObject* result_of_step(PySendResult how, PyObject* result) noexcept;
// As tp_iternext returns it: null without an exception means None, which saves making a StopIteration.
[[nodiscard]] PyObject* next_of_step(PySendResult how, PyObject* result) noexcept;
// The other way: `result` of a method throw(). Of a StopIteration the value is taken out of the indicator.
[[nodiscard]] PySendResult step_of_result(Gil gil, PyObject** result) noexcept;
// Sets the indicator to what throw() was given: an exception, or (type, value, traceback).
void raise_thrown(Gil gil, PyObject* const* args, Py_ssize_t nargs) noexcept;

}  // namespace cxxloop::python
