// SPDX-License-Identifier: MIT
//
// python/loop/type.cc: the heap type _core.Loop: its life, its attributes, what the garbage collector sees of it.
#include <memory>
#include <new>

#include "base/fork_generation.h"
#include "io/backends.h"
#include "python/interp/error.h"
#include "python/loop/loop.h"

namespace cxxloop::python {

LoopCore::LoopCore(LoopObject& self_object, ModuleState& module_state) noexcept
    : HandleHost(as_object(self_object), module_state), self(self_object), fork_generation(::cxxloop::fork_generation()) {}

// Handles that are queued in a running loop are not tracked, and the collector does not see what they refer to. Such a loop
// is alive, because its thread refers to it, and so is what it has queued; see track_queued().
template <class F>
void LoopCore::each_kept_ref(F& f) noexcept {
  for (size_t i = 0; i < ready.size(); ++i) f(ready[i]);
  engine.each_posted([&f](Task& task) { f(posted_handle(task)); });
  engine.each_timer([&f](TimerTask& timer) { f(timer_handle(timer)); });
  fd_rows.for_each([&f](const FdRow& row) {
    if (row.transport != nullptr && row.transport->is_pinned()) f(row.transport->object());
    f(row.listener, row.watched_files[0], row.watched_files[1]);
  });
  guests.each([&f](const LoopGuest& guest) {
    if (guest.is_pinned()) f(guest.object());
  });
  if (watches != nullptr) watches->each([&f](int, net::Direction, void* token) { f(static_cast<PyObject*>(token)); });
}

namespace {

// Releases everything that the loop serves, and its descriptors. Handles that the program holds stay valid.
void close_core(Gil gil, LoopCore& core) noexcept {
  if (core.backend == nullptr || std::exchange(core.is_closing, true)) return;
  core.closed = true;
  release_watches(gil, core);
  release_net(gil, core);
  clear_queues(gil, core);
  core.backend->drain();
  while (Lingering* const lingering = core.lingering.pop_front()) lingering->on_backend_drained(gil);
  core.watches.reset();
  core.engine.detach();
  if (core.engine.cork().is_open()) core.closed_backend = std::move(core.backend);
  // Threads that wait for the end of the loop see it before close() returns, as with asyncio's system calls.
  (void)gil.released([backend = std::move(core.backend)]() mutable {
    backend.reset();
    return 0;
  });
  core.fd_rows.for_each([](FdRow& row) {
    drop_refs(row.watched_files[0], row.watched_files[1]);
  });
  core.read_buffer.reset();
  core.addresses.clear();
  core.tls_scratch.reset();
}

// --- methods --------------------------------------------------------------------------------------------------

// ValueError: there is no backend of that name.
void raise_unknown_backend(Gil, PyObject* name) noexcept {
  Ref choices = Ref::steal(PyUnicode_FromString("'auto'"));
  for (const io::BackendEntry& entry : io::backends()) {
    if (choices) choices = Ref::steal(PyUnicode_FromFormat("%U, '%s'", choices.get(), entry.name));
  }
  if (choices) PyErr_Format(PyExc_ValueError, "unknown backend %R: choose one of %U", name, choices.get());
}

// _open(backend): "auto" or a name of io/backends.h.
PyObject* loop_open(PyObject* self, PyObject* backend_name) {
  const Gil gil = Gil::in_slot();
  LoopCore& core = core_of(self);
  if (!PyUnicode_Check(backend_name)) {
    PyErr_Format(PyExc_TypeError, "backend must be a str, not %R", Py_TYPE(backend_name));
    return nullptr;
  }
  const char* const name = PyUnicode_AsUTF8(backend_name);
  if (name == nullptr) return nullptr;
  const io::BackendEntry* const entry = io::find_backend(name);
  if (entry == nullptr) {
    raise_unknown_backend(gil, backend_name);
    return nullptr;
  }
  if (const char* const reason = entry->why_not(); reason != nullptr) {
    PyErr_Format(PyExc_RuntimeError, "the backend %R does not work on this system: %s", backend_name, reason);
    return nullptr;
  }
  if (core.backend != nullptr) Py_RETURN_NONE;  // a second __init__(), by classes with several bases
  if (!notice_replacements(gil, core)) return nullptr;
  Errno why = Errno::ok;
  std::unique_ptr<io::Backend> backend = entry->make(&why);
  if (backend == nullptr) return raise_errno(gil, why);
  core.watches.reset(new (std::nothrow) net::WatchTable(*backend, on_watch_ready, &core));
  if (core.watches == nullptr) return PyErr_NoMemory();
  backend->set_sleep_hooks(&core.sleep_hooks);
  core.engine.attach(*backend);
  core.backend = std::move(backend);
  Py_RETURN_NONE;
}

PyObject* loop_close_core(PyObject* self, PyObject*) {
  close_core(Gil::in_slot(), core_of(self));
  Py_RETURN_NONE;
}

PyObject* loop_run_once(PyObject* self, PyObject*) { return run_turns(Gil::in_slot(), core_of(self)); }

PyObject* loop_write_to_self(PyObject* self, PyObject*) {
  LoopCore& core = core_of(self);
  if (core.backend != nullptr) core.backend->wake();
  Py_RETURN_NONE;
}

PyObject* loop_backend_name(PyObject* self, PyObject*) {
  LoopCore& core = core_of(self);
  if (core.backend == nullptr) Py_RETURN_NONE;
  return PyUnicode_FromString(core.backend->name());
}

PyObject* loop_counters(PyObject* self, PyObject*) {
  LoopCore& core = core_of(self);
  if (core.backend == nullptr) return PyDict_New();
  const io::BackendCounters counters = core.backend->counters();
  return Py_BuildValue("{sLsL}", "waits", static_cast<long long>(counters.waits), "sleeps",
                       static_cast<long long>(counters.blocking_waits));
}

// asyncio's cancel() of a timer tells its loop; native timers have left the heap already.
PyObject* loop_timer_handle_cancelled(PyObject*, PyObject*) { Py_RETURN_NONE; }

constexpr Method life_methods[] = {
    {"_open", loop_open, METH_O, nullptr},
    {"_close_core", loop_close_core, METH_NOARGS, nullptr},
    {"_run_once", loop_run_once, METH_NOARGS, nullptr},
    {"_write_to_self", loop_write_to_self, METH_NOARGS, nullptr},
    {"_backend_name", loop_backend_name, METH_NOARGS, nullptr},
    {"_counters", loop_counters, METH_NOARGS, nullptr},
    {"_timer_handle_cancelled", loop_timer_handle_cancelled, METH_O, nullptr},
    {},
};

// --- attributes asyncio's Python code assigns and reads -------------------------------------------------------

int set_bool(bool& target, PyObject* value) noexcept {
  if (value == nullptr) {
    PyErr_SetString(PyExc_AttributeError, "a loop cannot do without this attribute");
    return -1;
  }
  const int truth = PyObject_IsTrue(value);
  if (truth < 0) return -1;
  target = truth == 1;
  return 0;
}

PyObject* get_debug(PyObject* self, void*) { return PyBool_FromLong(core_of(self).debug); }
int set_debug(PyObject* self, PyObject* value, void*) { return set_bool(core_of(self).debug, value); }
PyObject* get_closed(PyObject* self, void*) { return PyBool_FromLong(core_of(self).closed); }
int set_closed(PyObject* self, PyObject* value, void*) { return set_bool(core_of(self).closed, value); }
PyObject* get_stopping(PyObject* self, void*) { return PyBool_FromLong(core_of(self).stopping); }
int set_stopping(PyObject* self, PyObject* value, void*) { return set_bool(core_of(self).stopping, value); }

PyObject* get_thread_id(PyObject* self, void*) {
  if (core_of(self).thread_id == 0) Py_RETURN_NONE;
  return PyLong_FromUnsignedLong(core_of(self).thread_id);
}

int set_thread_id(PyObject* self, PyObject* value, void*) {
  const unsigned long id = value == nullptr || value == Py_None ? 0 : PyLong_AsUnsignedLong(value);
  if (PyErr_Occurred() != nullptr) return -1;
  core_of(self).thread_id = id;
  return 0;
}

PyObject* get_task_factory(PyObject* self, void*) { return core_of(self).task_factory.new_ref_or_none(); }
int set_task_factory(PyObject* self, PyObject* value, void*) {
  core_of(self).task_factory = value == Py_None ? Ref() : Ref::borrow(value);
  return 0;
}

// Snapshots: programs and tests look at len(loop._ready); changing them changes nothing.
PyObject* get_ready(PyObject* self, void*) {
  LoopCore& core = core_of(self);
  if (!take_all_posted(Gil::in_slot(), core)) return nullptr;
  // The list starts empty: making it may run the collector, and a destructor may then change the queue.
  Ref list = Ref::steal(PyList_New(0));
  for (size_t i = 0; list && i < core.ready.size(); ++i) {
    if (PyList_Append(list.get(), core.ready[i]) < 0) return nullptr;
  }
  return list.release();
}

PyObject* get_scheduled(PyObject* self, void*) {
  LoopCore& core = core_of(self);
  const Ref list = Ref::steal(PyList_New(0));
  if (!list) return nullptr;
  bool complete = true;
  core.engine.each_timer([&list, &complete](TimerTask& timer) {
    TimerHandleObject* const handle = timer_handle(timer);
    complete = complete && (handle == nullptr || PyList_Append(list.get(), as_object(handle)) == 0);
  });
  return complete ? Py_NewRef(list.get()) : nullptr;
}

// asyncio's constructor assigns its own queues.
int ignore_assignment(PyObject*, PyObject*, void*) { return 0; }

constexpr Attribute loop_attributes[] = {
    {"_debug", get_debug, set_debug},
    {"_closed", get_closed, set_closed},
    {"_stopping", get_stopping, set_stopping},
    {"_thread_id", get_thread_id, set_thread_id},
    {"_task_factory", get_task_factory, set_task_factory},
    {"_ready", get_ready, ignore_assignment},
    {"_scheduled", get_scheduled, ignore_assignment},
    {},
};

int loop_setattro(PyObject* self, PyObject* name, PyObject* value) {
  if (PyObject_GenericSetAttr(self, name, value) < 0) return -1;
  LoopCore& core = core_of(self);
  if (!is_replaceable(core, name)) return 0;
  return notice_replacements(Gil::in_slot(), core) ? 0 : -1;
}

// --- the type -------------------------------------------------------------------------------------------------

PyObject* loop_new(PyTypeObject* type, PyObject*, PyObject*) {
  ModuleState* const state = state_of_type(type);
  if (state == nullptr) return nullptr;
  PyObject* const self = type->tp_alloc(type, 0);
  if (self == nullptr) return nullptr;
  LoopObject& loop = *reinterpret_cast<LoopObject*>(self);
  new (loop.core_storage) LoopCore(loop, *state);
  return self;
}

int loop_clear(PyObject* self) {
  LoopCore& core = core_of(self);
  core.each_ref(drop_refs);
  close_core(Gil::in_slot(), core);
  clear_queues(Gil::in_slot(), core);  // asyncio's own code may have queued handles after close_core()
  return 0;
}

void loop_dealloc(PyObject* self) {
  PyObject_GC_UnTrack(self);
  loop_clear(self);
  std::destroy_at(&core_of(self));
  free_object(self);
}

}  // namespace

bool add_loop_type(Gil gil, PyObject* module, ModuleState& state) noexcept {
  state.loop_type = make_heap_type(gil, module, {
      .name = "cxxloop._core.Loop",
      .object_bytes = sizeof(LoopObject),
      .flags = Py_TPFLAGS_BASETYPE,
      .doc = "The native half of cxxloop.Loop.",
      .methods = {life_methods, schedule_methods, watch_methods, sock_methods, net_methods},
      .attributes = {loop_attributes},
      .make = loop_new,
      .traverse = traverse<core_of>,
      .clear = loop_clear,
      .dealloc = loop_dealloc,
      .setattro = loop_setattro,
  });
  return state.loop_type != nullptr;
}

}  // namespace cxxloop::python
