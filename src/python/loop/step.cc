// SPDX-License-Identifier: MIT
//
// python/loop/step.cc: one step of a turn: a handle, native (handle/run.cc) or asyncio's own, or one completion; timed in debug mode.
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
  const Ref format = text ? Ref::steal(PyUnicode_FromString("Executing %s took %.3f seconds")) : Ref();
  const Ref logger = format ? Ref::steal(PyObject_GetAttrString(core.state.imports.base_events_module, "logger")) : Ref();
  if (!logger) return false;
  PyObject* const args[] = {logger.get(), format.get(), text.get(), took.get()};
  return static_cast<bool>(Ref::steal(PyObject_VectorcallMethod(core.state.names.warning, args, 4, nullptr)));
}

// Debug mode: `step` runs as asyncio runs `handle`. The loop's clock measures, and the loop knows the handle meanwhile.
template <class Step>
bool time_step(Gil gil, LoopCore& core, PyObject* handle, Step&& step) noexcept {
  PyObject* const loop = as_object(core.self);
  int64_t start_ns = 0;
  int64_t end_ns = 0;
  if (PyObject_SetAttr(loop, core.state.names._current_handle, handle) < 0) return false;
  bool go_on = loop_time_ns(gil, core, &start_ns) && check_closed(gil, core) && step();
  if (go_on) go_on = loop_time_ns(gil, core, &end_ns) && warn_if_slow(core, handle, end_ns - start_ns);
  Ref exception = go_on ? Ref() : take_exception(gil);
  const bool reset = PyObject_SetAttr(loop, core.state.names._current_handle, Py_None) == 0;
  if (exception) set_exception(gil, std::move(exception));
  return go_on && reset;
}

// One step of a transport or a listening socket, as the reader or writer of asyncio's that it stands for.
struct IoStep {
  int fd;
  bool sends;
  Ref transport;         // null: a listening socket
  const Served* served;  // the native side of `transport`
};

// A handle that is looked at and never run. Null: nobody known is served, or the indicator is set.
Ref make_handle_of_step(Gil gil, LoopCore& core, const IoStep& step) noexcept {
  PyObject* const loop = as_object(core.self);
  if (step.transport) {
    PyObject* const args[] = {loop, step.transport.get(), step.sends ? Py_True : Py_False};
    const Ref callback = Ref::steal(PyObject_VectorcallMethod(core.state.names._step_of, args, 3, nullptr));
    if (!callback) return {};
    return Ref::steal(as_object(make_handle(gil, core, {callback.get(), nullptr, 0, nullptr})));
  }
  const Ref args = accept_args_of(gil, core, step.fd);
  const Ref callback = args ? Ref::steal(PyObject_GetAttr(loop, core.state.names._accept_connection)) : Ref();
  if (!callback) return {};
  PyObject* const* const values = reinterpret_cast<PyTupleObject*>(args.get())->ob_item;
  return Ref::steal(as_object(make_handle(gil, core, {callback.get(), values, PyTuple_GET_SIZE(args.get()), nullptr})));
}

// asyncio cancels the handle of a reader or writer that is removed, by whoever that was.
bool cancel_if_over(Gil gil, const IoStep& step, PyObject* handle) noexcept {
  if (!step.transport) return true;
  return step.served->is_polled(step.sends) || cancel_handle(gil, *reinterpret_cast<HandleObject*>(handle));
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

bool was_left_before_callback(Gil gil, const LoopCore& core, PyObject* handle) noexcept {
  if (!is_native_handle(core.state, handle) || reinterpret_cast<HandleObject*>(handle)->cancelled) return false;
  PyObject* function = reinterpret_cast<HandleObject*>(handle)->callback;
  if (PyMethod_Check(function)) function = PyMethod_GET_FUNCTION(function);
  if (!PyFunction_Check(function)) return false;
  Ref exception = take_exception(gil);
  const Ref traceback = is_exit(exception.get()) ? Ref::steal(PyException_GetTraceback(exception.get())) : Ref();
  set_exception(gil, std::move(exception));
  if (!traceback) return false;
  const PyTracebackObject& outermost = *reinterpret_cast<PyTracebackObject*>(traceback.get());
  const Ref code = Ref::steal(reinterpret_cast<PyObject*>(PyFrame_GetCode(outermost.tb_frame)));
  if (code.get() != PyFunction_GET_CODE(function)) return false;
  constexpr int instruction_bytes = 2;  // tb_lasti counts bytes; the first traceable instruction is where signals are seen
  return outermost.tb_lasti <= reinterpret_cast<PyCodeObject*>(code.get())->_co_firsttraceable * instruction_bytes;
}

bool run_timed(Gil gil, LoopCore& core, PyObject* handle) noexcept {
  return time_step(gil, core, handle, [&]() noexcept { return run_any_handle(gil, core, handle); });
}

bool dispatch_timed(Gil gil, LoopCore& core) noexcept {
  const io::Op* const op = core.backend->next_collected();
  const bool is_watch = op == nullptr || op->kind == io::OpKind::poll_read || op->kind == io::OpKind::poll_write;
  Ref handle;
  IoStep step{.fd = -1, .sends = false, .transport = {}, .served = nullptr};
  if (!is_watch) {  // those are timed as the handles that they are
    const Served* const served = transport_of_fd(core, op->fd);
    step = {op->fd, !op->reads(), Ref::borrow(served != nullptr ? served->object() : nullptr), served};
    handle = make_handle_of_step(gil, core, step);
    if (!handle && PyErr_Occurred() != nullptr) return false;
  }
  if (!handle) return core.engine.dispatch_one(), true;
  return time_step(gil, core, handle.get(), [&]() noexcept {
    core.engine.dispatch_one();
    return take_exit(gil, core) && cancel_if_over(gil, step, handle.get());
  });
}

}  // namespace cxxloop::python
