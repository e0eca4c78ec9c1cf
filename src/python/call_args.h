// SPDX-License-Identifier: MIT
//
// python/call_args.h: arguments of call_soon() and its kin: (positional..., callback, *args, context=None).
#pragma once

#include "python/handle.h"

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

}  // namespace cxxloop::python
