// SPDX-License-Identifier: MIT
#include "python/handle/handle.h"

#include "python/interp/cpython.h"
#include "python/interp/report.h"
#include "python/loop/loop.h"

namespace cxxloop::python {
namespace {

// A blank handle: every field but the head is null. New reference.
HandleObject* allocate_handle(Gil, ModuleState& state, PyTypeObject* type) noexcept {
  HandleFreelist* const freelist = freelist_for(state, type);
  if (freelist != nullptr && freelist->count > 0) {
    HandleObject* const handle = freelist->handles[--freelist->count];
    PyObject_Init(as_object(handle), type);
    return handle;
  }
  HandleObject* const handle = reinterpret_cast<HandleObject*>(PyType_GenericAlloc(type, 0));
  if (handle == nullptr) return nullptr;
  PyObject_GC_UnTrack(handle);
  handle->state = &state;
  return handle;
}

// Stores the arguments. False: the indicator is set.
bool set_args(HandleObject& handle, PyObject* const* args, Py_ssize_t nargs) noexcept {
  handle.nargs = nargs;
  if (nargs <= HandleObject::inline_args_max) {
    for (Py_ssize_t i = 0; i < nargs; ++i) {
      Py_INCREF(args[i]);
      handle.inline_args[1 + i] = args[i];
    }
    return true;
  }
  handle.args_tuple = PyTuple_New(nargs);
  if (handle.args_tuple == nullptr) {
    handle.nargs = 0;
    return false;
  }
  for (Py_ssize_t i = 0; i < nargs; ++i) {
    Py_INCREF(args[i]);
    PyTuple_SET_ITEM(handle.args_tuple, i, args[i]);
  }
  return true;
}

// asyncio keeps where the handle was made, in debug mode.
bool set_source_traceback(HandleObject& handle) noexcept {
  const Imports& imports = handle.state->imports;
  const Ref frame = Ref::steal(PyObject_CallNoArgs(imports.sys_getframe));
  if (!frame) return false;
  handle.source_traceback = PyObject_CallOneArg(imports.extract_stack, frame.get());
  return handle.source_traceback != nullptr;
}

// A copy of an empty context is an empty context: most programs have no context variables, and each copy is an object
// the garbage collector walks over (four threads flooding a loop made it stop for 200 ms at a time).
bool current_context_is_empty(Gil gil) noexcept {
  PyObject* const current = current_context(gil);
  return current == nullptr || PyObject_Size(current) == 0;
}

HandleObject* fill_handle(Gil gil, HandleObject* handle, LoopObject& loop, const HandleArgs& args) noexcept {
  if (handle == nullptr) return nullptr;
  Ref owner = Ref::steal(as_object(handle));
  if (args.context == nullptr || args.context == Py_None) {
    if (!current_context_is_empty(gil)) {
      handle->context = PyContext_CopyCurrent();
      if (handle->context == nullptr) return nullptr;
    }
  } else {
    Py_INCREF(args.context);
    handle->context = args.context;
  }
  Py_INCREF(&loop);
  handle->loop = &loop;
  Py_INCREF(args.callback);
  handle->callback = args.callback;
  if (!set_args(*handle, args.args, args.nargs)) return nullptr;
  if (loop.core().debug && !set_source_traceback(*handle)) return nullptr;
  (void)owner.release();
  return handle;
}

void clear_args(HandleObject& handle) noexcept {
  Ref callback = Ref::steal(std::exchange(handle.callback, nullptr));
  Ref tuple = Ref::steal(std::exchange(handle.args_tuple, nullptr));
  const Py_ssize_t inline_count = tuple ? 0 : handle.nargs;
  handle.nargs = 0;
  PyObject* args[HandleObject::inline_args_max];
  for (Py_ssize_t i = 0; i < inline_count; ++i) args[i] = std::exchange(handle.inline_args[1 + i], nullptr);
  for (Py_ssize_t i = 0; i < inline_count; ++i) Py_DECREF(args[i]);
}

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
  PyObject* const function = handle.state->imports.format_callback_source;
#if PY_VERSION_HEX >= 0x030D0000
  const Ref keywords = Ref::steal(PyTuple_Pack(1, handle.state->names.debug));
  if (!keywords) return {};
  PyObject* const values[] = {callback, args.get(), handle.loop->core().debug ? Py_True : Py_False};
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
  const Names& names = handle.state->names;
  return report_exception(
      gil, *handle.state, as_object(*handle.loop), message, exception.get(),
      {{names.handle, as_object(&handle)}, {names.source_traceback, handle.source_traceback}});
}

// The loop keeps one empty context for handles that have none: it is theirs while they run, and taken back unless the
// callback has left something in it or kept it.
bool lend_context(LoopCore& core, HandleObject& handle) noexcept {
  Ref spare = core.spare_context ? core.spare_context.take() : Ref::steal(PyContext_New());
  handle.context = spare.release();
  return handle.context != nullptr;
}

void take_context_back(LoopCore& core, HandleObject& handle) noexcept {
  if (Py_REFCNT(handle.context) != 1 || PyObject_Size(handle.context) != 0) return;
  core.spare_context = Ref::steal(std::exchange(handle.context, nullptr));
}

bool call_in_own_context(HandleObject& handle) noexcept {
  if (PyContext_Enter(handle.context) < 0) return false;
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
  LoopCore& core = handle.loop->core();
  if (!lend_context(core, handle)) return false;
  const bool succeeded = call_in_own_context(handle);
  take_context_back(core, handle);
  return succeeded;
}

void end_running(HandleObject& handle) noexcept {
  handle.running = false;
  if (handle.clear_after_run) {
    handle.clear_after_run = false;
    clear_args(handle);
  }
#if PY_VERSION_HEX >= 0x030E0000
  if (Py_TYPE(&handle) == handle.state->threadsafe_handle_type) handle.loop->core().running_ended.notify_all();
#endif
}

}  // namespace

HandleFreelist* freelist_for(ModuleState& state, const PyTypeObject* type) noexcept {
  if (type == state.handle_type) return &state.handle_freelist;
  return type == state.timer_handle_type ? &state.timer_freelist : nullptr;
}

TimerHandleObject* TimerHandleObject::of_task(TimerTask& task) noexcept {
  return reinterpret_cast<TimerHandleObject*>(reinterpret_cast<char*>(&task) - offsetof(TimerHandleObject, task));
}

HandleObject* make_handle(Gil gil, LoopObject& loop, const HandleArgs& args) noexcept {
  ModuleState& state = loop.core().state;
  return fill_handle(gil, allocate_handle(gil, state, state.handle_type), loop, args);
}

HandleObject* make_threadsafe_handle(Gil gil, LoopObject& loop, const HandleArgs& args) noexcept {
  ModuleState& state = loop.core().state;
  return fill_handle(gil, allocate_handle(gil, state, state.threadsafe_handle_type), loop, args);
}

TimerHandleObject* make_timer_handle(Gil gil, LoopObject& loop, const HandleArgs& args, PyObject* when) noexcept {
  ModuleState& state = loop.core().state;
  HandleObject* const handle = fill_handle(gil, allocate_handle(gil, state, state.timer_handle_type), loop, args);
  if (handle == nullptr) return nullptr;
  TimerHandleObject* const timer = reinterpret_cast<TimerHandleObject*>(handle);
  timer->task.node.heap_index = TimerNode::not_queued;
  Py_INCREF(when);
  timer->when = when;
  return timer;
}

bool is_native_handle(const ModuleState& state, PyObject* object) noexcept {
  const PyTypeObject* const type = Py_TYPE(object);
  return type == state.handle_type || type == state.timer_handle_type || type == state.threadsafe_handle_type;
}

bool run_handle(Gil gil, HandleObject& handle) noexcept {
  handle.running = true;
  const bool succeeded = call_in_context(handle);
  const bool go_on = succeeded || report_handle(gil, handle);
  end_running(handle);
  return go_on;
}

bool run_handle_by_asyncio(Gil, HandleObject& handle) noexcept {
  const ModuleState& state = *handle.state;
  const Ref run = Ref::steal(PyObject_GetAttr(state.imports.handle_type, state.names._run));
  if (!run) return false;
  handle.running = true;
  const Ref result = Ref::steal(PyObject_CallOneArg(run.get(), as_object(&handle)));
  end_running(handle);
  return static_cast<bool>(result);
}

Ref handle_args(Gil, HandleObject& handle) noexcept {
  if (handle.args_tuple != nullptr) return Ref::borrow(handle.args_tuple);
  // Held first: making a tuple may run the collector, and that a destructor which cancels the handle.
  const Py_ssize_t nargs = handle.nargs;
  Ref args[HandleObject::inline_args_max];
  for (Py_ssize_t i = 0; i < nargs; ++i) args[i] = Ref::borrow(handle.inline_args[1 + i]);
  Ref tuple = Ref::steal(PyTuple_New(nargs));
  for (Py_ssize_t i = 0; tuple && i < nargs; ++i) PyTuple_SET_ITEM(tuple.get(), i, args[i].release());
  return tuple;
}

PyObject* handle_context(Gil, HandleObject& handle) noexcept {
  if (handle.context == nullptr) handle.context = PyContext_New();
  return handle.context;
}

bool cancel_handle(Gil, HandleObject& handle) noexcept {
  if (handle.cancelled) return true;
  handle.cancelled = true;
  if (handle.loop != nullptr && handle.loop->core().debug) {
    // Kept for the warning "Executing <Handle ...> took ... seconds".
    handle.repr = PyObject_Repr(as_object(&handle));
    if (handle.repr == nullptr) return false;
  }
  if (handle.running) {
    handle.clear_after_run = true;
  } else {
    clear_args(handle);
  }
  return true;
}

void drop_loops_reference(PyObject* handle) noexcept {
  if (Py_REFCNT(handle) > 1 && PyObject_GC_IsTracked(handle) == 0) PyObject_GC_Track(handle);
  Py_DECREF(handle);
}

int visit_handle(HandleObject& handle, visitproc visit, void* arg) noexcept {
  Py_VISIT(handle.loop);
  Py_VISIT(handle.callback);
  Py_VISIT(handle.context);
  Py_VISIT(handle.args_tuple);
  Py_VISIT(handle.source_traceback);
  if (handle.args_tuple == nullptr) {
    for (Py_ssize_t i = 0; i < handle.nargs; ++i) Py_VISIT(handle.inline_args[1 + i]);
  }
  return 0;
}

void free_handles(HandleFreelist& freelist) noexcept {
  while (freelist.count > 0) PyObject_GC_Del(freelist.handles[--freelist.count]);
}

}  // namespace cxxloop::python
