// SPDX-License-Identifier: MIT
#include "python/handle/handle.h"

#include <utility>

#include "python/interp/cpython.h"

namespace cxxloop::python {
namespace {

// A blank handle: every field but the head and the kind is null. New reference.
HandleObject* allocate_handle(Gil, HandleHost& host, HandleKind kind, PyTypeObject* type) noexcept {
  HandleFreelist* const freelist = freelist_for(host, kind);
  if (HandleObject* const handle = freelist != nullptr ? freelist->take() : nullptr) {
    PyObject_Init(as_object(handle), type);
    return handle;
  }
  HandleObject* const handle = reinterpret_cast<HandleObject*>(PyType_GenericAlloc(type, 0));
  if (handle == nullptr) return nullptr;
  PyObject_GC_UnTrack(handle);
  handle->kind = kind;
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
  const Imports& imports = handle.host->state.imports;
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

HandleObject* fill_handle(Gil gil, HandleObject* handle, HandleHost& host, const HandleArgs& args) noexcept {
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
  Py_INCREF(host.loop);
  handle->host = &host;
  Py_INCREF(args.callback);
  handle->callback = args.callback;
  if (!set_args(*handle, args.args, args.nargs)) return nullptr;
  if (host.debug && !set_source_traceback(*handle)) return nullptr;
  (void)owner.release();
  return handle;
}

}  // namespace

TimerHandleObject* TimerHandleObject::of_task(TimerTask& task) noexcept {
  return reinterpret_cast<TimerHandleObject*>(reinterpret_cast<char*>(&task) - offsetof(TimerHandleObject, task));
}

HandleObject* make_handle(Gil gil, HandleHost& host, const HandleArgs& args) noexcept {
  return fill_handle(gil, allocate_handle(gil, host, HandleKind::plain, host.state.handle_type), host, args);
}

HandleObject* make_threadsafe_handle(Gil gil, HandleHost& host, const HandleArgs& args) noexcept {
  HandleObject* const handle =
      allocate_handle(gil, host, HandleKind::threadsafe, host.state.threadsafe_handle_type);
  return fill_handle(gil, handle, host, args);
}

TimerHandleObject* make_timer_handle(Gil gil, HandleHost& host, const HandleArgs& args, PyObject* when) noexcept {
  HandleObject* const handle =
      fill_handle(gil, allocate_handle(gil, host, HandleKind::timer, host.state.timer_handle_type), host, args);
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

void clear_handle_args(HandleObject& handle) noexcept {
  Ref callback = Ref::steal(std::exchange(handle.callback, nullptr));
  Ref tuple = Ref::steal(std::exchange(handle.args_tuple, nullptr));
  const Py_ssize_t inline_count = tuple ? 0 : handle.nargs;
  handle.nargs = 0;
  PyObject* args[HandleObject::inline_args_max];
  for (Py_ssize_t i = 0; i < inline_count; ++i) args[i] = std::exchange(handle.inline_args[1 + i], nullptr);
  for (Py_ssize_t i = 0; i < inline_count; ++i) Py_DECREF(args[i]);
}

bool cancel_handle(Gil, HandleObject& handle) noexcept {
  if (handle.cancelled) return true;
  handle.cancelled = true;
  if (handle.host != nullptr && handle.host->debug) {
    // Kept for the warning "Executing <Handle ...> took ... seconds".
    handle.repr = PyObject_Repr(as_object(&handle));
    if (handle.repr == nullptr) return false;
  }
  if (handle.running) {
    handle.clear_after_run = true;
  } else {
    clear_handle_args(handle);
  }
  return true;
}

namespace {

void free_all(HandleFreelist& freelist) noexcept {
  while (HandleObject* const handle = freelist.take()) PyObject_GC_Del(handle);
}

}  // namespace

HandleHost::~HandleHost() { free_handles(*this); }

void free_handles(HandleHost& host) noexcept {
  free_all(host.freelist);
  free_all(host.timer_freelist);
}

}  // namespace cxxloop::python
