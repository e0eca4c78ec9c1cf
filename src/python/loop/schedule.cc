// SPDX-License-Identifier: MIT
//
// python/loop/schedule.cc: call_soon, call_later, call_at, call_soon_threadsafe, futures and tasks.
#include <cmath>
#include <limits>

#include "base/fork_generation.h"
#include "python/handle/call_args.h"
#include "python/interp/error.h"
#include "python/loop/loop.h"

namespace cxxloop::python {
namespace {

double seconds_of(int64_t ns) noexcept { return static_cast<double>(ns) / 1e9; }

// Rounds up to whole nanoseconds: rounding down would fire a timer early.
int64_t deadline_of(double seconds) noexcept {
  const double ns = std::ceil(seconds * 1e9);
  if (std::isnan(ns)) return std::numeric_limits<int64_t>::min();  // asyncio runs those at once
  if (ns >= 9.2e18) return Deadline::never().at_ns;
  if (ns <= -9.2e18) return std::numeric_limits<int64_t>::min();
  return static_cast<int64_t>(ns);
}

// asyncio's checks of debug mode. Runs Python: methods of the loop.
bool check_debug(LoopCore& core, PyObject* callback, const char* method, bool check_thread) noexcept {
  const Names& names = core.state.names;
  PyObject* const loop = as_object(core.self);
  if (check_thread && !Ref::steal(PyObject_CallMethodNoArgs(loop, names._check_thread))) return false;
  const Ref method_name = Ref::steal(PyUnicode_FromString(method));
  if (!method_name) return false;
  PyObject* const args[] = {loop, callback, method_name.get()};
  return static_cast<bool>(Ref::steal(PyObject_VectorcallMethod(names._check_callback, args, 3, nullptr)));
}

// loop.name([leading,] callback, *args[, context=context]), as asyncio's own code calls a method of its loop.
Ref call_method(LoopCore& core, PyObject* name, PyObject* leading, const HandleArgs& args) noexcept {
  const Ref method = Ref::steal(PyObject_GetAttr(as_object(core.self), name));
  const Py_ssize_t before_args = leading != nullptr ? 2 : 1;
  const Ref values = Ref::steal(PyTuple_New(before_args + args.nargs));
  const Ref keywords = Ref::steal(PyDict_New());
  if (!method || !values || !keywords) return {};
  if (leading != nullptr) PyTuple_SET_ITEM(values.get(), 0, Py_NewRef(leading));
  PyTuple_SET_ITEM(values.get(), before_args - 1, Py_NewRef(args.callback));
  for (Py_ssize_t i = 0; i < args.nargs; ++i) PyTuple_SET_ITEM(values.get(), before_args + i, Py_NewRef(args.args[i]));
  if (args.context != nullptr && PyDict_SetItem(keywords.get(), core.state.names.context, args.context) < 0) return {};
  return Ref::steal(PyObject_Call(method.get(), values.get(), keywords.get()));
}

// What tasks of handles run. REQUIRES: make_room_for_ready().
void push_into_room(LoopCore& core, HandleObject* handle) noexcept {
  const bool pushed = core.ready.push_back(as_object(handle));
  CXL_ASSERT(pushed);
  static_cast<void>(pushed);
}

void on_posted(Task& task) noexcept {
  HandleObject* const handle = handle_of_task(task);
  push_into_room(*static_cast<LoopCore*>(handle->host), handle);
}

void on_timer_due(TimerTask& timer) noexcept {
  HandleObject* const handle = &TimerHandleObject::of_task(timer)->handle;
  push_into_room(*static_cast<LoopCore*>(handle->host), handle);
}

PyObject* schedule_soon(Gil gil, LoopCore& core, const HandleArgs& args) noexcept {
  HandleObject* const handle = make_handle(gil, core, args);
  if (handle == nullptr) return nullptr;
  Ref result = Ref::steal(as_object(handle));
  return enqueue(gil, core, handle) ? result.release() : nullptr;
}

// is_due: the deadline has passed, so the timer goes to the lane for due timers and not into the heap.
PyObject* schedule_timer(Gil gil, LoopCore& core, const HandleArgs& args, PyObject* when, bool is_due) noexcept {
  const double seconds = PyFloat_AsDouble(when);
  if (seconds == -1.0 && PyErr_Occurred() != nullptr) return nullptr;
  TimerHandleObject* const timer = make_timer_handle(gil, core, args, when);
  if (timer == nullptr) return nullptr;
  Ref result = Ref::steal(as_object(timer));
  timer->task.node.deadline_ns = deadline_of(seconds);
  timer->task.run = on_timer_due;
  if (!(is_due ? core.engine.add_due_timer(timer->task) : core.engine.add_timer(timer->task))) return PyErr_NoMemory();
  Py_INCREF(timer);  // the engine's
  // Track the timer: its caller usually keeps it, and a sleeping task must not keep a loop alive that nobody closed.
  PyObject_GC_Track(result.get());
  return result.release();
}

PyObject* current_time(LoopCore& core) noexcept {
  if (core.replaced.time) return PyObject_CallMethodNoArgs(as_object(core.self), core.state.names.time);
  return PyFloat_FromDouble(seconds_of(monotonic_ns()));
}

// loop.time() + delay. *is_due: the delay is 0.
Ref time_after(LoopCore& core, PyObject* delay, bool* is_due) noexcept {
  *is_due = false;
  const bool is_plain = PyFloat_CheckExact(delay) || PyLong_CheckExact(delay);
  if (!is_plain || core.replaced.time) {
    const Ref now = Ref::steal(current_time(core));
    return now ? Ref::steal(PyNumber_Add(now.get(), delay)) : Ref();
  }
  const double seconds = PyFloat_AsDouble(delay);
  if (seconds == -1.0 && PyErr_Occurred() != nullptr) return {};  // an int too large for a float
  *is_due = seconds == 0.0;
  return Ref::steal(PyFloat_FromDouble(seconds_of(monotonic_ns()) + seconds));
}

// --- methods --------------------------------------------------------------------------------------------------

PyObject* loop_call_soon(PyObject* self, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames) {
  const Gil gil = Gil::in_slot();
  LoopCore& core = core_of(self);
  ScheduleArgs parsed;
  if (!parse_schedule_args(gil, "call_soon", nullptr, args, nargs, kwnames, &parsed)) return nullptr;
  if (!check_closed(gil, core)) return nullptr;
  if (core.debug && !check_debug(core, parsed.handle.callback, "call_soon", true)) return nullptr;
  return schedule_soon(gil, core, parsed.handle);
}

PyObject* loop_call_later(PyObject* self, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames) {
  const Gil gil = Gil::in_slot();
  LoopCore& core = core_of(self);
  ScheduleArgs parsed;
  if (!parse_schedule_args(gil, "call_later", "delay", args, nargs, kwnames, &parsed)) return nullptr;
  if (parsed.leading == Py_None) {
    PyErr_SetString(PyExc_TypeError, "delay must not be None");
    return nullptr;
  }
  if (!check_closed(gil, core)) return nullptr;
  bool is_due = false;
  const Ref when = time_after(core, parsed.leading, &is_due);
  if (!when) return nullptr;
  if (core.replaced.call_at) {
    if (parsed.handle.context == nullptr) parsed.handle.context = Py_None;
    return call_method(core, core.state.names.call_at, when.get(), parsed.handle).release();
  }
  if (core.debug && !check_debug(core, parsed.handle.callback, "call_at", true)) return nullptr;
  return schedule_timer(gil, core, parsed.handle, when.get(), is_due);
}

PyObject* loop_call_at(PyObject* self, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames) {
  const Gil gil = Gil::in_slot();
  LoopCore& core = core_of(self);
  ScheduleArgs parsed;
  if (!parse_schedule_args(gil, "call_at", "when", args, nargs, kwnames, &parsed)) return nullptr;
  if (parsed.leading == Py_None) {
    PyErr_SetString(PyExc_TypeError, "when cannot be None");
    return nullptr;
  }
  if (!check_closed(gil, core)) return nullptr;
  if (core.debug && !check_debug(core, parsed.handle.callback, "call_at", true)) return nullptr;
  return schedule_timer(gil, core, parsed.handle, parsed.leading, false);
}

PyObject* loop_call_soon_threadsafe(PyObject* self, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames) {
  const Gil gil = Gil::in_slot();
  LoopCore& core = core_of(self);
  ScheduleArgs parsed;
  if (!parse_schedule_args(gil, "call_soon_threadsafe", nullptr, args, nargs, kwnames, &parsed)) return nullptr;
  if (!check_closed(gil, core) || !check_forked(gil, core)) return nullptr;
  if (core.debug && !check_debug(core, parsed.handle.callback, "call_soon_threadsafe", false)) return nullptr;
  HandleObject* const handle = make_threadsafe_handle(gil, core, parsed.handle);
  if (handle == nullptr) return nullptr;
  Ref result = Ref::steal(as_object(handle));
  // A loop that does not run, or this thread's own, need not be woken. A program may run single turns itself.
  const bool runs = core.thread_id != 0 || core.engine.cork().is_open();
  const unsigned long thread = PyThread_get_thread_ident();
  if (!runs || core.thread_id == thread) {
    if (!enqueue(gil, core, handle)) return nullptr;
  } else {
    Py_INCREF(handle);
    track_unless_running(core, handle);  // run_forever() may be about to end
    handle->task.run = on_posted;
    core.engine.post(handle->task);
    // Runs Python: other threads, which may close the loop.
    if (core.flood_brake.on_posted(thread)) core.flood_brake.let_loop_run(gil);
  }
  return result.release();
}

// asyncio's own code (signals, futures of other loops) queues handles it made itself.
PyObject* loop_add_callback(PyObject* self, PyObject* handle) {
  const Gil gil = Gil::in_slot();
  LoopCore& core = core_of(self);
  const Ref cancelled = Ref::steal(PyObject_GetAttr(handle, core.state.names._cancelled));
  if (!cancelled) return nullptr;
  const int is_cancelled = PyObject_IsTrue(cancelled.get());
  if (is_cancelled < 0) return nullptr;
  if (is_cancelled == 0) {
    if (!take_all_posted(gil, core) || !push_ready(gil, core, Ref::borrow(handle))) return nullptr;
    if (is_native_handle(core.state, handle)) track_unless_running(core, reinterpret_cast<HandleObject*>(handle));
  }
  Py_RETURN_NONE;
}

PyObject* loop_time(PyObject*, PyObject*) { return PyFloat_FromDouble(seconds_of(monotonic_ns())); }

PyObject* loop_get_debug(PyObject* self, PyObject*) { return PyBool_FromLong(core_of(self).debug); }

// A loop whose open() failed counts as closed; otherwise asyncio's __del__ would warn about it.
PyObject* loop_is_closed(PyObject* self, PyObject*) {
  const LoopCore& core = core_of(self);
  return PyBool_FromLong(core.closed || core.backend == nullptr);
}

PyObject* loop_is_running(PyObject* self, PyObject*) { return PyBool_FromLong(core_of(self).thread_id != 0); }

// What the module calls `name` now: programs replace asyncio's classes. A look-up as an attribute costs 30 ns more.
Ref class_in(PyObject* module, PyObject* name) noexcept {
  PyObject* const found = PyDict_GetItemWithError(PyModule_GetDict(module), name);
  if (found != nullptr) return Ref::borrow(found);
  return PyErr_Occurred() == nullptr ? Ref::steal(PyObject_GetAttr(module, name)) : Ref();
}

PyObject* loop_create_future(PyObject* self, PyObject*) {
  LoopCore& core = core_of(self);
  const Ref future_type = class_in(core.state.imports.futures_module, core.state.names.Future);
  if (!future_type) return nullptr;
  return PyObject_Vectorcall(future_type.get(), &self, 0, core.state.kwnames_loop);
}

// Falls back to asyncio's create_task(), which passes a task factory what the running Python's version passes.
PyObject* create_task_by_asyncio(LoopCore& core, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames) noexcept {
  constexpr Py_ssize_t values_max = 16;
  const Py_ssize_t count = nargs + (kwnames != nullptr ? PyTuple_GET_SIZE(kwnames) : 0);
  if (count >= values_max) {
    PyErr_SetString(PyExc_TypeError, "create_task() got too many arguments");
    return nullptr;
  }
  PyObject* values[values_max] = {as_object(core.self)};
  for (Py_ssize_t i = 0; i < count; ++i) values[1 + i] = args[i];
  return PyObject_Vectorcall(core.state.imports.base_create_task, values, static_cast<size_t>(nargs) + 1, kwnames);
}

// Some releases of CPython 3.13 call set_name(None) on the task that a task factory returned.
bool names_every_task() noexcept { return Py_Version >= 0x030D0000 && Py_Version < 0x030E0000; }

// name and context are keywords of every create_task(). Of others, the running Python's own says what they are.
bool are_common_keywords(const LoopCore& core, PyObject* kwnames) noexcept {
  const Names& names = core.state.names;
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(kwnames); ++i) {
    PyObject* const name = PyTuple_GET_ITEM(kwnames, i);
    if (name == names.name || name == names.context) continue;
    if (core.state.task_takes_keywords && PyUnicode_CompareWithASCIIString(name, "loop") != 0) continue;
    return false;
  }
  return true;
}

// Task(coro, loop=self, **keywords): the running Python's own keywords, checked by its own Task.
PyObject* loop_create_task(PyObject* self, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames) {
  const Gil gil = Gil::in_slot();
  LoopCore& core = core_of(self);
  if (!check_closed(gil, core)) return nullptr;
  const Py_ssize_t keywords_count = kwnames != nullptr ? PyTuple_GET_SIZE(kwnames) : 0;
  if (core.task_factory && nargs == 1 && keywords_count == 0 && !names_every_task()) {
    const Ref factory = Ref::borrow(core.task_factory.get());
    PyObject* const values[] = {self, args[0]};
    return PyObject_Vectorcall(factory.get(), values, 2, nullptr);
  }
  if (core.task_factory || nargs != 1 || (keywords_count > 0 && !are_common_keywords(core, kwnames))) {
    return create_task_by_asyncio(core, args, nargs, kwnames);
  }
  constexpr Py_ssize_t keywords_max = 8;
  if (keywords_count >= keywords_max) return create_task_by_asyncio(core, args, nargs, kwnames);
  PyObject* values[2 + keywords_max] = {args[0], self};
  for (Py_ssize_t i = 0; i < keywords_count; ++i) values[2 + i] = args[1 + i];
  Ref keywords = Ref::borrow(core.state.kwnames_loop);
  if (keywords_count > 0) {
    keywords = Ref::steal(PyTuple_New(1 + keywords_count));
    if (!keywords) return nullptr;
    PyTuple_SET_ITEM(keywords.get(), 0, Py_NewRef(core.state.names.loop));
    for (Py_ssize_t i = 0; i < keywords_count; ++i) {
      PyTuple_SET_ITEM(keywords.get(), 1 + i, Py_NewRef(PyTuple_GET_ITEM(kwnames, i)));
    }
  }
  const Ref task_type = class_in(core.state.imports.tasks_module, core.state.names.Task);
  if (!task_type) return nullptr;
  return PyObject_Vectorcall(task_type.get(), values, 1, keywords.get());
}

}  // namespace

bool check_closed(Gil, LoopCore& core) noexcept {
  if (!core.closed && core.backend != nullptr) return true;
  PyErr_SetString(PyExc_RuntimeError, "Event loop is closed");
  return false;
}

bool check_forked(Gil, LoopCore& core) noexcept {
  if (core.fork_generation == fork_generation()) return true;
  PyErr_SetString(PyExc_RuntimeError,
                  "this event loop belongs to the process that created it, which was forked; "
                  "create a new event loop in the child");
  return false;
}

bool push_ready(Gil, LoopCore& core, Ref handle) noexcept {
  if (!core.ready.push_back(handle.get())) {
    PyErr_NoMemory();
    return false;
  }
  (void)handle.release();
  return true;
}

bool enqueue(Gil gil, LoopCore& core, HandleObject* handle) noexcept {
  track_unless_running(core, handle);
  if (core.engine.none_posted()) return push_ready(gil, core, Ref::borrow(as_object(handle)));
  Py_INCREF(handle);
  handle->task.run = on_posted;
  core.engine.post_here(handle->task);
  core.flood_brake.on_posted_here();
  return true;
}

bool take_posted_batch(Gil gil, LoopCore& core) noexcept {
  constexpr size_t tasks_max = net::Engine::tasks_per_batch_max;
  bool has_room = true;
  size_t taken = 0;
  while (taken < tasks_max) {
    has_room = make_room_for_ready(gil, core);
    Task* const task = has_room ? core.engine.take_posted() : nullptr;
    if (task == nullptr) break;
    ++taken;
    if (HandleObject* const handle = posted_handle(*task)) {
      push_into_room(core, handle);  // what its task would run, without the calls
    } else {
      core.engine.run_task(*task);
    }
  }
  core.flood_brake.on_taken(taken);
  return has_room;
}

bool take_all_posted(Gil gil, LoopCore& core) noexcept {
  while (!core.engine.none_posted()) {
    if (!take_posted_batch(gil, core)) return false;
  }
  return true;
}

bool take_due_timer(Gil gil, LoopCore& core, TimerTask& timer) noexcept {
  if (!make_room_for_ready(gil, core)) return false;
  if (TimerHandleObject* const handle = timer_handle(timer)) {
    core.engine.cancel_timer(timer);
    push_into_room(core, &handle->handle);  // what the timer would run, without the calls
  } else {
    core.engine.run_timer(timer);
  }
  return true;
}

HandleObject* posted_handle(Task& task) noexcept { return task.run == on_posted ? handle_of_task(task) : nullptr; }

TimerHandleObject* timer_handle(TimerTask& timer) noexcept {
  return timer.run == on_timer_due ? TimerHandleObject::of_task(timer) : nullptr;
}

bool schedule(Gil gil, LoopCore& core, PyObject* callback, PyObject* const* args, Py_ssize_t nargs,
              PyObject* context) noexcept {
  const HandleArgs handle_args{callback, args, nargs, context};
  if (core.replaced.call_soon) return static_cast<bool>(call_method(core, core.state.names.call_soon, nullptr, handle_args));
  return static_cast<bool>(Ref::steal(schedule_soon(gil, core, handle_args)));
}

bool loop_time_ns(Gil, LoopCore& core, int64_t* now_ns) noexcept {
  if (!core.replaced.time) {
    *now_ns = monotonic_ns();
    return true;
  }
  // Runs Python: the user's clock.
  const Ref now = Ref::steal(current_time(core));
  if (!now) return false;
  const double seconds = PyFloat_AsDouble(now.get());
  if (seconds == -1.0 && PyErr_Occurred() != nullptr) return false;
  *now_ns = deadline_of(seconds);
  return true;
}

Ref create_future(Gil, LoopCore& core) noexcept {
  PyObject* const loop = as_object(core.self);
  if (!core.replaced.create_future) return Ref::steal(loop_create_future(loop, nullptr));
  return Ref::steal(PyObject_CallMethodNoArgs(loop, core.state.names.create_future));
}

void track_queued(Gil, LoopCore& core) noexcept {
  const auto track = [&core](PyObject* object) {
    if (is_native_handle(core.state, object)) track_handle(reinterpret_cast<HandleObject*>(object));
  };
  for (size_t i = 0; i < core.ready.size(); ++i) track(core.ready[i]);
  core.engine.each_posted([](Task& task) {
    if (HandleObject* const handle = posted_handle(task)) track_handle(handle);
  });
  // Looked through only if there is something new: a program that runs single turns may watch thousands of descriptors.
  if (!std::exchange(core.has_untracked_watches, false) || core.watches == nullptr) return;
  core.watches->each([&track](int, net::Direction, void* token) { track(static_cast<PyObject*>(token)); });
}

void clear_queues(Gil, LoopCore& core) noexcept {
  while (Task* const task = core.engine.take_posted()) {
    HandleObject* const handle = posted_handle(*task);
    if (handle != nullptr) {
      drop_loops_reference(as_object(handle));
    } else {
      task->run(*task);  // somebody else's, who may wait for it
    }
  }
  while (!core.ready.empty()) {
    PyObject* const handle = core.ready[0];
    core.ready.pop_front();
    drop_loops_reference(handle);
  }
  core.ready_before_io = 0;
  while (TimerTask* const timer = core.engine.next_timer()) {
    core.engine.cancel_timer(*timer);
    if (TimerHandleObject* const handle = timer_handle(*timer)) drop_loops_reference(as_object(handle));
  }
}

constexpr Method schedule_methods[] = {
    {"call_soon", loop_call_soon,
     "call_soon($self, callback, *args, context=None)\n--\n\n"
     "Call callback(*args) in the next turn, in the order of the calls; see asyncio.loop.call_soon().\n\n"
     "Returns an asyncio.Handle. Raises RuntimeError if the loop is closed."},
    {"call_later", loop_call_later,
     "call_later($self, delay, callback, *args, context=None)\n--\n\n"
     "Call callback(*args) after delay seconds, never earlier; see asyncio.loop.call_later().\n\n"
     "Returns an asyncio.TimerHandle. Raises RuntimeError if the loop is closed, TypeError if delay is no number."},
    {"call_at", loop_call_at,
     "call_at($self, when, callback, *args, context=None)\n--\n\n"
     "Call callback(*args) when loop.time() has reached when, in seconds; see asyncio.loop.call_at()."},
    {"call_soon_threadsafe", loop_call_soon_threadsafe,
     "call_soon_threadsafe($self, callback, *args, context=None)\n--\n\n"
     "As call_soon(), from any thread; wakes the loop if it sleeps. Calls of one thread keep their order."},
    {"_add_callback", loop_add_callback, METH_O, nullptr},
    {"_add_callback_signalsafe", loop_add_callback, METH_O, nullptr},
    {"time", loop_time, METH_NOARGS, "time($self, /)\n--\n\nReturn the loop's clock in seconds: time.monotonic()."},
    {"get_debug", loop_get_debug, METH_NOARGS, "get_debug($self, /)\n--\n\nReturn True in debug mode."},
    {"is_closed", loop_is_closed, METH_NOARGS, "is_closed($self, /)\n--\n\nReturn True if the loop was closed."},
    {"is_running", loop_is_running, METH_NOARGS, "is_running($self, /)\n--\n\nReturn True if the loop runs."},
    {"create_future", loop_create_future, METH_NOARGS,
     "create_future($self, /)\n--\n\nReturn a new asyncio.Future attached to the loop."},
    {"create_task", loop_create_task,
#if PY_VERSION_HEX >= 0x030E0000
     "create_task($self, coro, **kwargs)\n--\n\n"
#elif PY_VERSION_HEX >= 0x030D0300
     "create_task($self, coro, *, name=None, context=None, **kwargs)\n--\n\n"
#else
     "create_task($self, coro, *, name=None, context=None)\n--\n\n"
#endif
     "Wrap a coroutine in an asyncio.Task and schedule it; see asyncio.loop.create_task().\n\n"
     "Takes the keywords of the running Python's asyncio."},
    {},
};

}  // namespace cxxloop::python
