// SPDX-License-Identifier: MIT
//
// python/handle/call_args.h: arguments of native methods that may be given by position or by name: those of call_soon() and its
// kin, (positional..., callback, *args, context=None), a single one, and a fixed number of them.
#pragma once

#include "python/handle/handle.h"

namespace cxxloop::python {

// What scheduling methods are called with. `leading` is delay or when, null for call_soon().
struct ScheduleArgs {
  PyObject* leading = nullptr;
  HandleArgs handle{};
};

// `leading_name`: the parameter before `callback`, or null. All but *args may be given by keyword, as in asyncio.
// False: TypeError is set.
[[nodiscard]] bool parse_schedule_args(Gil gil, const char* method, const char* leading_name, PyObject* const* args,
                                       Py_ssize_t nargs, PyObject* kwnames, ScheduleArgs* out) noexcept;

// Null: TypeError is set.
[[nodiscard]] PyObject* named_argument(const char* method, const char* name, PyObject* const* args, Py_ssize_t nargs,
                                       PyObject* kwnames) noexcept;

// For a method that takes exactly `count` arguments, by position. False: TypeError is set.
[[nodiscard]] bool check_count(const char* method, Py_ssize_t nargs, Py_ssize_t count) noexcept;

// The only parameter of a method. Borrowed; null: TypeError is set.
[[nodiscard]] inline PyObject* only_argument(const char* method, const char* name, PyObject* const* args,
                                             Py_ssize_t nargs, PyObject* kwnames) noexcept {
  if (nargs == 1 && kwnames == nullptr) [[likely]] return args[0];
  return named_argument(method, name, args, nargs, kwnames);
}

}  // namespace cxxloop::python
