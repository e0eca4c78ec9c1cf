// SPDX-License-Identifier: MIT
#include "python/interp/report.h"

#include "python/interp/error.h"

namespace cxxloop::python {

bool report(Gil gil, const ModuleState& state, PyObject* loop, const char* message, ReportFields fields) noexcept {
  const Ref exception = take_reportable(gil);
  return exception &&
         report_exception(gil, state, loop, Ref::steal(PyUnicode_FromString(message)), exception.get(), fields);
}

Ref take_reportable(Gil gil) noexcept {
  Ref exception = take_exception(gil);
  if (!is_exit(exception.get())) return exception;
  set_exception(gil, std::move(exception));
  return {};
}

bool report_exception(Gil, const ModuleState& state, PyObject* loop, const Ref& message, PyObject* exception,
                      ReportFields fields) noexcept {
  const Ref context = message ? Ref::steal(PyDict_New()) : Ref();
  if (!context || PyDict_SetItem(context.get(), state.names.message, message.get()) < 0 ||
      PyDict_SetItem(context.get(), state.names.exception, exception) < 0) {
    return false;
  }
  for (const ReportField& field : fields) {
    if (field.value != nullptr && PyDict_SetItem(context.get(), field.name, field.value) < 0) return false;
  }
  return static_cast<bool>(
      Ref::steal(PyObject_CallMethodOneArg(loop, state.names.call_exception_handler, context.get())));
}

}  // namespace cxxloop::python
