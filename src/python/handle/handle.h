// SPDX-License-Identifier: MIT
//
// python/handle/handle.h: asyncio.Handle, asyncio.TimerHandle and the thread-safe handle of 3.14, filled in by native code.
//
// Decision: real subclasses of asyncio's classes, whose slots stay empty: every attribute asyncio's Python code reads
// (_callback, _args, ...) is shadowed by a getter on the native fields, so repr(), ordering and _run() are asyncio's own.
// Decision: a handle is not tracked by the garbage collector while only the loop holds it, because a collector visit
// and two list operations per callback are measurable; drop_loops_reference() tracks it when the loop lets go of it. Timers
// are tracked from the start: who asks for one keeps it.
// Thread: loop thread; cancel() of a thread-safe handle from any thread that holds the GIL.
#pragma once

#include "base/task.h"
#include "python/interp/module_state.h"

namespace cxxloop::python {

struct LoopObject;

struct HandleObject {
  static constexpr Py_ssize_t inline_args_max = 3;
  static constexpr size_t base_slots_max = 10;  // asyncio.TimerHandle has the most

  PyObject_HEAD
  PyObject* base_slots[base_slots_max];  // asyncio's; null but for the weak reference list
  Task task;                    // posted to the loop by other threads
  ModuleState* state;
  LoopObject* loop;             // owned
  PyObject* callback;           // owned
  PyObject* context;            // owned; null: an empty one, made when somebody looks (handle_context())
  PyObject* args_tuple;         // owned; null exactly when the arguments are inline
  PyObject* repr;               // owned or null: the text kept by cancel() in debug mode
  PyObject* source_traceback;   // owned or null: where the handle was made, in debug mode
  Py_ssize_t nargs;
  PyObject* inline_args[1 + inline_args_max];  // owned; [0] is scratch for vectorcall
  bool cancelled;
  bool running;  // True exactly when the callback is on the stack
  bool clear_after_run;  // True exactly when it was cancelled by its own callback, whose arguments must outlive the call
};

struct TimerHandleObject {
  HandleObject handle;
  TimerTask task;   // queued in the loop's timers until it is due or cancelled
  PyObject* when;   // owned; the number call_at() was given

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
HandleObject* make_handle(Gil gil, LoopObject& loop, const HandleArgs& args) noexcept;
HandleObject* make_threadsafe_handle(Gil gil, LoopObject& loop, const HandleArgs& args) noexcept;
TimerHandleObject* make_timer_handle(Gil gil, LoopObject& loop, const HandleArgs& args, PyObject* when) noexcept;

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

// What Handle.cancel() does. Runs Python when arguments die.
bool cancel_handle(Gil gil, HandleObject& handle) noexcept;

// The loop drops its reference: from now on the collector may have to find cycles through the handle.
void drop_loops_reference(PyObject* handle) noexcept;
int visit_handle(HandleObject& handle, visitproc visit, void* arg) noexcept;
// Where dead handles of the type wait for the next one; null: handles of the type are not kept (3.14's thread-safe one).
[[nodiscard]] HandleFreelist* freelist_for(ModuleState& state, const PyTypeObject* type) noexcept;
void free_handles(HandleFreelist& freelist) noexcept;

[[nodiscard]] bool add_handle_types(Gil gil, PyObject* module, ModuleState& state) noexcept;

}  // namespace cxxloop::python
