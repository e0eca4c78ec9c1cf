// SPDX-License-Identifier: MIT
#include "python/interp/report.h"

#include "python/interp/error.h"

namespace cxxloop::python {
namespace {

// Whether `exception` is `sought` or has come up while it was handled.
bool leads_to(PyObject* exception, PyObject* sought) noexcept {
  Ref link = Ref::borrow(exception);
  while (link && link.get() != sought) link = Ref::steal(PyException_GetContext(link.get()));
  return static_cast<bool>(link);
}

// The indicator is set: its exception came up while `exception` was handled, which Python itself would write down.
void chain_to(Gil gil, PyObject* exception) noexcept {
  Ref raised = take_exception(gil);
  const Ref former = Ref::steal(PyException_GetContext(raised.get()));
  if (!former && !leads_to(exception, raised.get())) PyException_SetContext(raised.get(), Py_NewRef(exception));
  set_exception(gil, std::move(raised));
}

bool call_exception_handler(const ModuleState& state, PyObject* loop, const Ref& message, PyObject* exception,
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

}  // namespace

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

bool report_exception(Gil gil, const ModuleState& state, PyObject* loop, const Ref& message, PyObject* exception,
                      ReportFields fields) noexcept {
  {
    const HandledScope handled(gil, exception);  // handlers call logging.exception(), as they may on asyncio
    if (call_exception_handler(state, loop, message, exception, fields)) return true;
  }
  chain_to(gil, exception);
  return false;
}

}  // namespace cxxloop::python
