// SPDX-License-Identifier: MIT
//
// python/interp/report.h: the one way to report a callback that failed: to loop.call_exception_handler().
//
// SystemExit and KeyboardInterrupt are not reported: they leave run_forever(). Who calls from a callback of the backend,
// and can return no error, uses report_or_leave() (python/loop/loop.h).
// Thread: loop thread.
#pragma once

#include <initializer_list>

#include "python/interp/module_state.h"

namespace cxxloop::python {

struct ReportField {
  PyObject* name;   // borrowed
  PyObject* value;  // borrowed; null: the field is left out
};
using ReportFields = std::initializer_list<ReportField>;

// Reports the exception in the indicator, which must be set, with these fields.
// False: the indicator is set, to SystemExit or KeyboardInterrupt, or because reporting failed. Runs Python: the user's
// handler.
[[nodiscard]] bool report(Gil gil, const ModuleState& state, PyObject* loop, const char* message,
                          ReportFields fields = {}) noexcept;

// The two halves of report(), for a message that takes work to make, or an exception that is no indicator.
// Takes the exception out of the indicator. Null: it is a SystemExit or KeyboardInterrupt, and stays in the indicator.
Ref take_reportable(Gil gil) noexcept;
// loop.call_exception_handler({"message": message, "exception": exception, **fields}); a null message: its maker has
// failed. False: the indicator is set, to an exception with `exception` as its __context__. Runs Python: the user's handler.
[[nodiscard]] bool report_exception(Gil gil, const ModuleState& state, PyObject* loop, const Ref& message,
                                    PyObject* exception, ReportFields fields) noexcept;

}  // namespace cxxloop::python
