// SPDX-License-Identifier: MIT
//
// python/handle/type.cc: the Python face of handles: getters asyncio's own methods read, cancel(), and the types.
#include <Python.h>
#include <structmember.h>

#include <cstddef>

#include "python/interp/error.h"
#include "python/handle/handle.h"

namespace cxxloop::python {
namespace {

HandleObject& as_handle(PyObject* self) noexcept { return *reinterpret_cast<HandleObject*>(self); }
TimerHandleObject& as_timer(PyObject* self) noexcept { return *reinterpret_cast<TimerHandleObject*>(self); }

PyObject* or_none(PyObject* object) noexcept { return Py_NewRef(object != nullptr ? object : Py_None); }

PyObject* get_callback(PyObject* self, void*) { return or_none(as_handle(self).clear_after_run ? nullptr : as_handle(self).callback); }
PyObject* get_loop(PyObject* self, void*) { return or_none(as_handle(self).host != nullptr ? as_handle(self).host->loop : nullptr); }
PyObject* get_context(PyObject* self, void*) { return Py_XNewRef(handle_context(Gil::in_slot(), as_handle(self))); }
PyObject* get_repr(PyObject* self, void*) { return or_none(as_handle(self).repr); }
PyObject* get_source_traceback(PyObject* self, void*) { return or_none(as_handle(self).source_traceback); }
PyObject* get_cancelled(PyObject* self, void*) { return PyBool_FromLong(as_handle(self).cancelled); }
PyObject* get_when(PyObject* self, void*) { return or_none(as_timer(self).when); }
PyObject* get_scheduled(PyObject* self, void*) { return PyBool_FromLong(as_timer(self).task.node.queued()); }

PyObject* get_args(PyObject* self, void*) {
  HandleObject& handle = as_handle(self);
  if (handle.clear_after_run || handle.callback == nullptr) Py_RETURN_NONE;
  return handle_args(Gil::in_slot(), handle).release();
}

// asyncio deletes the innermost entries of this list; assigning it is what its Python constructors do.
int set_source_traceback(PyObject* self, PyObject* value, void*) {
  const Ref old = Ref::steal(std::exchange(as_handle(self).source_traceback, Py_XNewRef(value)));
  return 0;
}

// Drop a timer from its loop's heap; the heap's reference goes with it. The caller holds another.
void unschedule(HandleObject& handle) noexcept {
  TimerHandleObject& timer = reinterpret_cast<TimerHandleObject&>(handle);
  if (!timer.task.node.queued() || handle.host == nullptr) return;  // null: both are garbage, the collector has begun
  handle.host->engine.cancel_timer(timer.task);
  drop_loops_reference(as_object(&handle));
}

PyObject* handle_cancel(PyObject* self, PyObject*) {
  const Gil gil = Gil::in_slot();
  if (!cancel_handle(gil, as_handle(self))) return nullptr;
  Py_RETURN_NONE;
}

PyObject* timer_cancel(PyObject* self, PyObject*) {
  const Gil gil = Gil::in_slot();
  if (!cancel_handle(gil, as_handle(self))) return nullptr;
  unschedule(as_handle(self));
  Py_RETURN_NONE;
}

PyObject* handle_cancelled(PyObject* self, PyObject*) { return PyBool_FromLong(as_handle(self).cancelled); }
PyObject* timer_when(PyObject* self, PyObject*) { return or_none(as_timer(self).when); }

#if PY_VERSION_HEX >= 0x030E0000
// The lock of asyncio's thread-safe handle: other threads wait while the callback runs.
void wait_until_not_running(Gil gil, HandleObject& handle) noexcept {
  while (handle.running && handle.host->thread_id != PyThread_get_thread_ident()) {
    HandleHost& host = *handle.host;
    gil.released([&host, &handle] {
      std::unique_lock lock(host.running_mutex);
      host.running_ended.wait_for(lock, std::chrono::milliseconds(10));
      return 0;
    });
  }
}

PyObject* threadsafe_cancel(PyObject* self, PyObject*) {
  const Gil gil = Gil::in_slot();
  wait_until_not_running(gil, as_handle(self));
  if (!cancel_handle(gil, as_handle(self))) return nullptr;
  Py_RETURN_NONE;
}

PyObject* threadsafe_cancelled(PyObject* self, PyObject*) {
  wait_until_not_running(Gil::in_slot(), as_handle(self));
  return PyBool_FromLong(as_handle(self).cancelled);
}
#endif

int handle_traverse(PyObject* self, visitproc visit, void* arg) {
  HandleObject& handle = as_handle(self);
  Py_VISIT(Py_TYPE(self));
  if (handle.host != nullptr) Py_VISIT(handle.host->loop);
  Py_VISIT(handle.callback);
  Py_VISIT(handle.context);
  Py_VISIT(handle.args_tuple);
  Py_VISIT(handle.source_traceback);
  for (Py_ssize_t i = 0; i < HandleObject::inline_args_max; ++i) Py_VISIT(handle.inline_args[1 + i]);
  return 0;
}

int timer_traverse(PyObject* self, visitproc visit, void* arg) {
  Py_VISIT(as_timer(self).when);
  return handle_traverse(self, visit, arg);
}

// Everything but the loop.
void clear_references(HandleObject& handle) noexcept {
  handle.cancelled = true;
  Py_CLEAR(handle.callback);
  Py_CLEAR(handle.args_tuple);
  for (Py_ssize_t i = 0; i < HandleObject::inline_args_max; ++i) Py_CLEAR(handle.inline_args[1 + i]);
  handle.nargs = 0;
  Py_CLEAR(handle.context);
  Py_CLEAR(handle.repr);
  Py_CLEAR(handle.source_traceback);
}

int handle_clear(PyObject* self) {
  HandleObject& handle = as_handle(self);
  clear_references(handle);
  if (HandleHost* const host = std::exchange(handle.host, nullptr)) Py_DECREF(host->loop);
  return 0;
}

// The references are gone. Keeps the memory for the next handle of the kind, or frees it.
inline void recycle(HandleObject& handle, HandleKind kind) noexcept {
  PyTypeObject* const type = Py_TYPE(&handle);
  HandleHost* const host = std::exchange(handle.host, nullptr);  // null: the collector has cleared the handle
  HandleFreelist* const freelist = host != nullptr ? freelist_for(*host, kind) : nullptr;
  handle.cancelled = false;
  if (freelist == nullptr || !freelist->keep(&handle)) PyObject_GC_Del(&handle);
  Py_DECREF(type);
  if (host != nullptr) Py_DECREF(host->loop);  // with its last reference the freelist and this handle go
}

// Looks whether there are any before it calls: hardly a handle has one, and the call is a tenth of what a handle's end costs.
inline void clear_weak_references(PyObject* self) noexcept {
  PyObject* const list = *reinterpret_cast<PyObject**>(reinterpret_cast<char*>(self) + Py_TYPE(self)->tp_weaklistoffset);
  if (list != nullptr) PyObject_ClearWeakRefs(self);
}

void handle_dealloc(PyObject* self) {
  PyObject_GC_UnTrack(self);
  Py_TRASHCAN_BEGIN(self, handle_dealloc)  // a handle may be the argument of a handle, and so on
  clear_weak_references(self);
  clear_references(as_handle(self));
  recycle(as_handle(self), as_handle(self).kind);
  Py_TRASHCAN_END
}

void timer_dealloc(PyObject* self) {
  PyObject_GC_UnTrack(self);
  Py_TRASHCAN_BEGIN(self, timer_dealloc)
  clear_weak_references(self);
  Py_CLEAR(as_timer(self).when);
  clear_references(as_handle(self));
  recycle(as_handle(self), HandleKind::timer);
  Py_TRASHCAN_END
}

PyGetSetDef handle_getset[] = {
    {"_callback", get_callback, nullptr, nullptr, nullptr},
    {"_args", get_args, nullptr, nullptr, nullptr},
    {"_cancelled", get_cancelled, nullptr, nullptr, nullptr},
    {"_loop", get_loop, nullptr, nullptr, nullptr},
    {"_context", get_context, nullptr, nullptr, nullptr},
    {"_repr", get_repr, nullptr, nullptr, nullptr},
    {"_source_traceback", get_source_traceback, set_source_traceback, nullptr, nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr},
};

PyGetSetDef timer_getset[] = {
    {"_callback", get_callback, nullptr, nullptr, nullptr},
    {"_args", get_args, nullptr, nullptr, nullptr},
    {"_cancelled", get_cancelled, nullptr, nullptr, nullptr},
    {"_loop", get_loop, nullptr, nullptr, nullptr},
    {"_context", get_context, nullptr, nullptr, nullptr},
    {"_repr", get_repr, nullptr, nullptr, nullptr},
    {"_source_traceback", get_source_traceback, set_source_traceback, nullptr, nullptr},
    {"_when", get_when, nullptr, nullptr, nullptr},
    {"_scheduled", get_scheduled, nullptr, nullptr, nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr},
};

constexpr const char cancel_doc[] =
    "cancel($self, /)\n--\n\nKeep the callback from being called (asyncio.Handle.cancel). Cancelling twice does nothing.";
constexpr const char cancelled_doc[] = "cancelled($self, /)\n--\n\nReturn True if the callback was cancelled.";

PyMethodDef handle_methods[] = {
    {"cancel", handle_cancel, METH_NOARGS, cancel_doc},
    {"cancelled", handle_cancelled, METH_NOARGS, cancelled_doc},
    {nullptr, nullptr, 0, nullptr},
};

PyMethodDef timer_methods[] = {
    {"cancel", timer_cancel, METH_NOARGS, cancel_doc},
    {"cancelled", handle_cancelled, METH_NOARGS, cancelled_doc},
    {"when", timer_when, METH_NOARGS,
     "when($self, /)\n--\n\nReturn the time the callback is scheduled for, in seconds of loop.time()."},
    {nullptr, nullptr, 0, nullptr},
};

#if PY_VERSION_HEX >= 0x030E0000
PyMethodDef threadsafe_methods[] = {
    {"cancel", threadsafe_cancel, METH_NOARGS, cancel_doc},
    {"cancelled", threadsafe_cancelled, METH_NOARGS, cancelled_doc},
    {nullptr, nullptr, 0, nullptr},
};
#endif

struct HandleTypeSpec {
  const char* name;
  const char* base;  // in asyncio.events
  PyMethodDef* methods;
  PyGetSetDef* getset;
  traverseproc traverse;
  destructor dealloc;
  int size;
};

PyTypeObject* make_handle_type(PyObject* module, const HandleTypeSpec& wanted) noexcept {
  const Ref events = Ref::steal(PyImport_ImportModule("asyncio.events"));
  if (!events) return nullptr;
  const Ref base = Ref::steal(PyObject_GetAttrString(events.get(), wanted.base));
  if (!base) return nullptr;
  if (reinterpret_cast<PyTypeObject*>(base.get())->tp_basicsize >
      static_cast<Py_ssize_t>(offsetof(HandleObject, task))) {
    PyErr_Format(PyExc_ImportError, "cxxloop: asyncio.%s is larger than this build expects", wanted.base);
    return nullptr;
  }
  PyType_Slot slots[] = {
      {Py_tp_methods, wanted.methods},
      {Py_tp_getset, wanted.getset},
      {Py_tp_traverse, reinterpret_cast<void*>(wanted.traverse)},
      {Py_tp_clear, reinterpret_cast<void*>(handle_clear)},
      {Py_tp_dealloc, reinterpret_cast<void*>(wanted.dealloc)},
      {0, nullptr},
  };
  PyType_Spec spec = {wanted.name, wanted.size, 0,
                      Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION, slots};
  return reinterpret_cast<PyTypeObject*>(PyType_FromModuleAndSpec(module, &spec, base.get()));
}

}  // namespace

bool add_handle_types(Gil, PyObject* module, ModuleState& state) noexcept {
  state.handle_type = make_handle_type(module, {"cxxloop._core.Handle", "Handle", handle_methods, handle_getset,
                                                handle_traverse, handle_dealloc, sizeof(HandleObject)});
  if (state.handle_type == nullptr) return false;
  state.timer_handle_type =
      make_handle_type(module, {"cxxloop._core.TimerHandle", "TimerHandle", timer_methods, timer_getset,
                                timer_traverse, timer_dealloc, sizeof(TimerHandleObject)});
  if (state.timer_handle_type == nullptr) return false;
#if PY_VERSION_HEX >= 0x030E0000
  state.threadsafe_handle_type = make_handle_type(
      module, {"cxxloop._core._ThreadSafeHandle", "_ThreadSafeHandle", threadsafe_methods, handle_getset,
               handle_traverse, handle_dealloc, sizeof(HandleObject)});
  if (state.threadsafe_handle_type == nullptr) return false;
#else
  state.threadsafe_handle_type = reinterpret_cast<PyTypeObject*>(Py_NewRef(state.handle_type));
#endif
  for (PyTypeObject* type : {state.handle_type, state.timer_handle_type}) {
    if (PyModule_AddType(module, type) < 0) return false;
  }
  return state.threadsafe_handle_type == state.handle_type || PyModule_AddType(module, state.threadsafe_handle_type) == 0;
}

}  // namespace cxxloop::python
