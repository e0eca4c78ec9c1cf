// SPDX-License-Identifier: MIT
//
// python/handle/run.cc: running one native handle: its context, its callback, the report of a failure.
#include "python/handle/handle.h"
#include "python/interp/report.h"

namespace cxxloop::python {
namespace {

PyObject* call_callback(HandleObject& handle) noexcept {
  if (handle.args_tuple != nullptr) {
    PyObject* const* const args = reinterpret_cast<PyTupleObject*>(handle.args_tuple)->ob_item;
    return PyObject_Vectorcall(handle.callback, args, static_cast<size_t>(handle.nargs), nullptr);
  }
  return PyObject_Vectorcall(handle.callback, handle.inline_args + 1,
                             static_cast<size_t>(handle.nargs) | PY_VECTORCALL_ARGUMENTS_OFFSET, nullptr);
}

Ref format_callback(Gil gil, HandleObject& handle) noexcept {
  // As asyncio sees it, cancel() has already taken both from a handle that its own callback cancelled.
  PyObject* const callback = handle.clear_after_run ? Py_None : handle.callback;
  const Ref args = handle.clear_after_run ? Ref::borrow(Py_None) : handle_args(gil, handle);
  if (!args) return {};
  PyObject* const function = handle.host->state.imports.format_callback_source;
#if PY_VERSION_HEX >= 0x030D0000
  const Ref keywords = Ref::steal(PyTuple_Pack(1, handle.host->state.names.debug));
  if (!keywords) return {};
  PyObject* const values[] = {callback, args.get(), handle.host->debug ? Py_True : Py_False};
  return Ref::steal(PyObject_Vectorcall(function, values, 2, keywords.get()));
#else
  PyObject* const values[] = {callback, args.get()};
  return Ref::steal(PyObject_Vectorcall(function, values, 2, nullptr));
#endif
}

// The callback raised: tell the loop as asyncio.Handle._run() does.
bool report_handle(Gil gil, HandleObject& handle) noexcept {
  const Ref exception = take_reportable(gil);
  if (!exception) return false;
  const Ref source = format_callback(gil, handle);
  const Ref message = source ? Ref::steal(PyUnicode_FromFormat("Exception in callback %U", source.get())) : Ref();
  const Names& names = handle.host->state.names;
  return report_exception(
      gil, handle.host->state, handle.host->loop, message, exception.get(),
      {{names.handle, as_object(&handle)}, {names.source_traceback, handle.source_traceback}});
}

// The loop keeps one empty context for handles that have none: it is theirs while they run, and taken back unless the
// callback has left something in it or kept it.
bool lend_context(HandleHost& host, HandleObject& handle) noexcept {
  Ref spare = host.spare_context ? host.spare_context.take() : Ref::steal(PyContext_New());
  handle.context = spare.release();
  return handle.context != nullptr;
}

void take_context_back(HandleHost& host, HandleObject& handle) noexcept {
  if (Py_REFCNT(handle.context) != 1 || PyObject_Size(handle.context) != 0) return;
  host.spare_context = Ref::steal(std::exchange(handle.context, nullptr));
}

// asyncio calls context.run(callback, *args), whatever the program gave it for a context.
bool call_by_run_method(HandleObject& handle) noexcept {
  const Ref run = Ref::steal(PyObject_GetAttrString(handle.context, "run"));
  const Ref args = run ? handle_args(Gil::in_slot(), handle) : Ref();
  const Ref callback = args ? Ref::steal(PyTuple_Pack(1, handle.callback)) : Ref();
  const Ref all = callback ? Ref::steal(PySequence_Concat(callback.get(), args.get())) : Ref();
  // Runs Python: the object's run(), which may do what a callback may do.
  return all && Ref::steal(PyObject_CallObject(run.get(), all.get()));
}

bool call_in_own_context(HandleObject& handle) noexcept {
  if (PyContext_Enter(handle.context) < 0) {
    if (PyContext_CheckExact(handle.context)) return false;
    PyErr_Clear();
    return call_by_run_method(handle);
  }
  // Runs Python: the callback may cancel this handle, close the loop, or raise; `running` keeps the arguments alive.
  PyObject* const result = call_callback(handle);
  if (PyContext_Exit(handle.context) < 0) {
    Py_XDECREF(result);
    return false;
  }
  Py_XDECREF(result);
  return result != nullptr;
}

bool call_in_context(HandleObject& handle) noexcept {
  if (handle.context != nullptr) return call_in_own_context(handle);
  HandleHost& host = *handle.host;
  if (!lend_context(host, handle)) return false;
  const bool succeeded = call_in_own_context(handle);
  take_context_back(host, handle);
  return succeeded;
}

void end_running(HandleObject& handle) noexcept {
  handle.running = false;
  if (handle.clear_after_run) {
    handle.clear_after_run = false;
    clear_handle_args(handle);
  }
#if PY_VERSION_HEX >= 0x030E0000
  if (handle.kind == HandleKind::threadsafe) handle.host->running_ended.notify_all();
#endif
}

}  // namespace

bool run_handle(Gil gil, HandleObject& handle) noexcept {
  handle.running = true;
  const bool succeeded = call_in_context(handle);
  const bool go_on = succeeded || report_handle(gil, handle);
  end_running(handle);
  return go_on;
}

bool run_handle_by_asyncio(Gil, HandleObject& handle) noexcept {
  const ModuleState& state = handle.host->state;
  const Ref run = Ref::steal(PyObject_GetAttr(state.imports.handle_type, state.names._run));
  if (!run) return false;
  handle.running = true;
  const Ref result = Ref::steal(PyObject_CallOneArg(run.get(), as_object(&handle)));
  end_running(handle);
  return static_cast<bool>(result);
}

}  // namespace cxxloop::python
