// SPDX-License-Identifier: MIT
//
// python/loop/run_handle.cc: running one handle: native, asyncio's own, or timed in debug mode.
#include "python/interp/error.h"
#include "python/loop/loop.h"

namespace cxxloop::python {
namespace {

// Debug mode: asyncio's warning about callbacks that keep the loop waiting.
bool warn_if_slow(LoopCore& core, PyObject* handle, int64_t took_ns) noexcept {
  PyObject* const loop = as_object(core.self);
  const Ref limit = Ref::steal(PyObject_GetAttr(loop, core.state.names.slow_callback_duration));
  if (!limit) return false;
  const Ref took = Ref::steal(PyFloat_FromDouble(static_cast<double>(took_ns) / 1e9));
  if (!took) return false;
  const int slow = PyObject_RichCompareBool(took.get(), limit.get(), Py_GE);
  if (slow <= 0) return slow == 0;
  const Ref text = Ref::steal(PyObject_CallOneArg(core.state.imports.format_handle, handle));
  const Ref format = Ref::steal(PyUnicode_FromString("Executing %s took %.3f seconds"));
  // Looked up each time: programs' tests replace this name to see the warning.
  const Ref base_events = Ref::steal(PyImport_ImportModule("asyncio.base_events"));
  const Ref logger = base_events ? Ref::steal(PyObject_GetAttrString(base_events.get(), "logger")) : Ref();
  if (!text || !format || !logger) return false;
  PyObject* const args[] = {logger.get(), format.get(), text.get(), took.get()};
  return static_cast<bool>(Ref::steal(PyObject_VectorcallMethod(core.state.names.warning, args, 4, nullptr)));
}

}  // namespace

bool run_any_handle(Gil gil, LoopCore& core, PyObject* handle) noexcept {
  if (is_native_handle(core.state, handle)) {
    HandleObject& native = *reinterpret_cast<HandleObject*>(handle);
    if (native.cancelled) return true;
    return core.replaced.handle_run ? run_handle_by_asyncio(gil, native) : run_handle(gil, native);
  }
  const Ref cancelled = Ref::steal(PyObject_GetAttr(handle, core.state.names._cancelled));
  if (!cancelled) return false;
  const int is_cancelled = PyObject_IsTrue(cancelled.get());
  if (is_cancelled != 0) return is_cancelled > 0;
  return static_cast<bool>(Ref::steal(PyObject_CallMethodNoArgs(handle, core.state.names._run)));
}

bool run_timed(Gil gil, LoopCore& core, PyObject* handle) noexcept {
  PyObject* const loop = as_object(core.self);
  if (PyObject_SetAttr(loop, core.state.names._current_handle, handle) < 0) return false;
  const int64_t start_ns = monotonic_ns();
  bool go_on = run_any_handle(gil, core, handle);
  if (go_on) go_on = warn_if_slow(core, handle, monotonic_ns() - start_ns);
  Ref exception = go_on ? Ref() : take_exception(gil);
  const bool reset = PyObject_SetAttr(loop, core.state.names._current_handle, Py_None) == 0;
  if (exception) set_exception(gil, std::move(exception));
  return go_on && reset;
}

}  // namespace cxxloop::python
