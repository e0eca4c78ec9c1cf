// SPDX-License-Identifier: MIT
//
// python/handle/handle.h: asyncio.Handle, asyncio.TimerHandle and the thread-safe handle of 3.14, filled in by native code.
//
// Decision: real subclasses of asyncio's classes, whose slots stay empty: every attribute asyncio's Python code reads
// (_callback, _args, ...) is shadowed by a getter on the native fields, so repr(), ordering and _run() are asyncio's own.
// Decision: the garbage collector does not track a handle that is queued in a running loop, because a collector visit and
// two list operations per callback are measurable, and a loop that runs is not garbage. The loop tracks what is still
// queued when it stops, and what is queued while it does not run; drop_loops_reference() tracks a handle that others
// hold when the loop lets go of it. Timers are tracked from the start: who asks for one keeps it.
// Thread: loop thread; cancel() of a thread-safe handle from any thread that holds the GIL.
#pragma once

#include "base/task.h"
#include "python/handle/handle_host.h"

namespace cxxloop::python {

// Which of asyncio's classes a handle stands for.
enum class HandleKind : uint8_t {
  plain,
  timer,
#if PY_VERSION_HEX >= 0x030E0000
  threadsafe,
#else
  threadsafe = plain,
#endif
};

struct HandleObject {
  static constexpr Py_ssize_t inline_args_max = 3;
  static constexpr size_t base_slots_max = 10;  // asyncio.TimerHandle has the most

  PyObject_HEAD
  PyObject* base_slots[base_slots_max];  // asyncio's; null but for the weak reference list
  Task task;                    // posted to the loop by other threads
  HandleHost* host;             // owned: a reference to host->loop; null once the collector has cleared the handle
  PyObject* callback;           // owned
  PyObject* context;            // owned; null: an empty one, made when somebody looks (handle_context())
  PyObject* args_tuple;         // owned; null exactly when the arguments are inline
  PyObject* repr;               // owned or null: the text kept by cancel() in debug mode
  PyObject* source_traceback;   // owned or null: where the handle was made, in debug mode
  Py_ssize_t nargs;
  PyObject* inline_args[1 + inline_args_max];  // owned but for [0], where a callee of vectorcall may borrow
  HandleKind kind;
  bool cancelled;
  bool running;  // True exactly when the callback is on the stack
  bool clear_after_run;  // True exactly when it was cancelled by its own callback, whose arguments must outlive the call

  template <class F>
  void each_ref(F& f) noexcept {
    f(callback, args_tuple);
    for (Py_ssize_t i = 1; i <= inline_args_max; ++i) f(inline_args[i]);
    f(context, repr, source_traceback);
  }
  template <class F>
  void each_kept_ref(F& f) noexcept {
    if (host != nullptr) f(host->loop);
  }
};

struct TimerHandleObject {
  HandleObject handle;
  TimerTask task;   // queued in the loop's timers until it is due or cancelled
  PyObject* when;   // owned; the number call_at() was given

  template <class F>
  void each_ref(F& f) noexcept {
    f(when);
    handle.each_ref(f);
  }
  template <class F>
  void each_kept_ref(F& f) noexcept {
    handle.each_kept_ref(f);
  }
  // REQUIRES: the task is a handle's.
  static TimerHandleObject* of_task(TimerTask& task) noexcept;
};

struct HandleArgs {
  PyObject* callback;      // borrowed
  PyObject* const* args;   // borrowed
  Py_ssize_t nargs;
  PyObject* context;       // borrowed; null or None: a copy of the current one
};

// The three makers return a new reference, or null with the indicator set.
HandleObject* make_handle(Gil gil, HandleHost& host, const HandleArgs& args) noexcept;
HandleObject* make_threadsafe_handle(Gil gil, HandleHost& host, const HandleArgs& args) noexcept;
TimerHandleObject* make_timer_handle(Gil gil, HandleHost& host, const HandleArgs& args, PyObject* when) noexcept;

// REQUIRES: the task is a handle's.
inline HandleObject* handle_of_task(Task& task) noexcept {
  return reinterpret_cast<HandleObject*>(reinterpret_cast<char*>(&task) - offsetof(HandleObject, task));
}
inline PyObject* as_object(HandleObject* handle) noexcept { return reinterpret_cast<PyObject*>(handle); }
inline PyObject* as_object(TimerHandleObject* timer) noexcept { return reinterpret_cast<PyObject*>(timer); }

[[nodiscard]] bool is_native_handle(const ModuleState& state, PyObject* object) noexcept;

// Run the callback in its context and report its failure to the loop. Does not look at `cancelled`.
// False: SystemExit, KeyboardInterrupt or an error of the reporting is set and must leave run_forever().
// Runs Python: anything, cancelling or dropping the handle included; the caller holds a reference.
[[nodiscard]] bool run_handle(Gil gil, HandleObject& handle) noexcept;
// The same by asyncio.Handle._run(), for a program that replaced it.
[[nodiscard]] bool run_handle_by_asyncio(Gil gil, HandleObject& handle) noexcept;
// The arguments as a tuple; null: no memory, the indicator is set.
Ref handle_args(Gil gil, HandleObject& handle) noexcept;
// The handle's context; an empty one is made on demand. Borrowed, or null with the indicator set.
PyObject* handle_context(Gil gil, HandleObject& handle) noexcept;

// Drops callback and arguments. Runs Python: their destructors.
void clear_handle_args(HandleObject& handle) noexcept;
// What Handle.cancel() does. Runs Python when arguments die.
bool cancel_handle(Gil gil, HandleObject& handle) noexcept;

// From now on the collector looks for cycles through the handle.
inline void track_handle(HandleObject* handle) noexcept {
  if (PyObject_GC_IsTracked(as_object(handle)) == 0) PyObject_GC_Track(handle);
}
// The loop drops its reference to a handle of any kind, asyncio's own included; whoever else holds it may have put it into
// a cycle. Inline: once per callback.
inline void drop_loops_reference(PyObject* handle) noexcept {
  if (Py_REFCNT(handle) > 1 && PyObject_GC_IsTracked(handle) == 0) PyObject_GC_Track(handle);
  Py_DECREF(handle);
}
// Where dead handles of the kind wait for the next one; null: handles of the kind are not kept (3.14's thread-safe one,
// which other threads make and drop).
[[nodiscard]] inline HandleFreelist* freelist_for(HandleHost& host, HandleKind kind) noexcept {
  if (kind == HandleKind::plain) return &host.freelist;
  return kind == HandleKind::timer ? &host.timer_freelist : nullptr;
}
// Gives the memory of all dead handles back to Python.
void free_handles(HandleHost& host) noexcept;

[[nodiscard]] bool add_handle_types(Gil gil, PyObject* module, ModuleState& state) noexcept;

}  // namespace cxxloop::python
