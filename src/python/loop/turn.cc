// SPDX-License-Identifier: MIT
//
// python/loop/turn.cc: a turn of the loop. Read this file first.
//
// poll -> take what threads sent -> queue due timers -> run: what was ready before the poll, then the collected I/O,
// then the timers. That is asyncio's order; what a callback schedules runs in the next turn.
#include "python/interp/error.h"
#include "python/loop/loop.h"
#include "python/loop/memory_return.h"

namespace cxxloop::python {

// Backend callbacks cannot return an error: what must leave run_forever() waits in exit_exception.
bool take_exit(Gil gil, LoopCore& core) noexcept {
  if (!core.exit_exception) return true;
  set_exception(gil, core.exit_exception.take());
  return false;
}

namespace {

bool take_from_inbox(Gil gil, LoopCore& core) noexcept {
  return core.engine.none_posted() || take_posted_batch(gil, core);
}

// When the next timer is due, on the real clock even if the program replaced loop.time().
bool next_deadline(Gil gil, LoopCore& core, Deadline* deadline) noexcept {
  TimerTask* const next = core.engine.next_timer();
  *deadline = next != nullptr ? Deadline{next->node.deadline_ns} : Deadline::never();
  if (!core.replaced.time || *deadline == Deadline::never()) return true;
  int64_t replaced_now_ns = 0;
  if (!loop_time_ns(gil, core, &replaced_now_ns)) return false;
  if (deadline->at_ns <= replaced_now_ns) {
    *deadline = Deadline::immediate();
    return true;
  }
  int64_t at_ns = 0;  // a clock that answers minus infinity is as far away as can be
  const bool too_far = __builtin_sub_overflow(deadline->at_ns, replaced_now_ns, &at_ns) ||
                       __builtin_add_overflow(at_ns, monotonic_ns(), &at_ns);
  *deadline = too_far ? Deadline::never() : Deadline{at_ns};
  return true;
}

// What must happen before a sleep. Runs Python: handlers of signals that came while native code ran.
bool prepare_sleep(Gil gil, LoopCore& core) noexcept {
  if (core.state.tls_gauge.should_trim()) [[unlikely]] {
    if (!return_memory(gil, core)) return false;
  }
  if (PyErr_CheckSignals() < 0) return false;
  core.engine.pull_cork();  // a handler has written: no callback ends here that would send it
  // A handler closes the loop only if the program calls _run_once() itself.
  return take_exit(gil, core) && check_closed(gil, core);
}

// Only a poll that can sleep gives the GIL away (through the sleep hooks). If every poll gave the GIL away, a thread that
// computes would keep it for its whole switch interval each time.
bool poll(Gil gil, LoopCore& core) noexcept {
  if (core.ready.empty() && !prepare_sleep(gil, core)) return false;
  Deadline deadline = Deadline::immediate();
  // Asked anew: a signal handler may have scheduled something.
  if (core.ready.empty() && !core.stopping && !next_deadline(gil, core, &deadline)) return false;
  if (core.closed) return check_closed(gil, core);  // by the program's own clock
  Errno error = Errno::ok;
  if (deadline != Deadline::immediate()) {
    error = core.engine.sleep_until(deadline);
  } else if (core.engine.poll_is_due()) {
    error = core.engine.poll();
  } else {
    return true;
  }
  if (error != Errno::ok) return raise_errno(gil, error) != nullptr;
  // Runs Python: signal handlers; one that raises ends run_forever(), as in asyncio.
  return PyErr_CheckSignals() == 0;
}

bool queue_due_timers(Gil gil, LoopCore& core) noexcept {
  if (!core.engine.has_timers()) return true;
  int64_t now_ns = 0;
  if (!loop_time_ns(gil, core, &now_ns)) return false;
  while (TimerTask* const timer = core.engine.due_timer(now_ns)) {
    if (!take_due_timer(gil, core, *timer)) return false;
  }
  return true;
}

// The indicator is set to what leaves run_forever(). A callback that had not begun then is the first of the next run.
void keep_if_not_begun(Gil gil, LoopCore& core, PyObject* handle) noexcept {
  const bool is_kept = !core.closed && was_left_before_callback(gil, core, handle) && core.ready.push_front(handle);
  if (!is_kept) return drop_loops_reference(handle);
  if (core.backend->collected() > 0) ++core.ready_before_io;
}

bool run_next_ready(Gil gil, LoopCore& core) noexcept {
  PyObject* const handle = core.ready.pop_front();
  if (!(core.debug ? run_timed(gil, core, handle) : run_any_handle(gil, core, handle))) [[unlikely]] {
    keep_if_not_begun(gil, core, handle);
    return false;
  }
  drop_loops_reference(handle);
  return true;
}

// Runs one callback, then sends what the callback wrote, unless that may wait for the next one.
bool run_step(Gil gil, LoopCore& core, bool is_io) noexcept {
  if (is_io && !core.debug) {
    core.engine.dispatch_one();
    return take_exit(gil, core);
  }
  if (is_io ? dispatch_timed(gil, core) : run_next_ready(gil, core)) {
    core.engine.end_callback();
    return take_exit(gil, core);
  }
  Ref exception = take_exception(gil);
  core.engine.pull_cork();
  set_exception(gil, std::move(exception));
  return false;
}

// The counters move before each callback: one that raises KeyboardInterrupt leaves the rest for the next run.
bool run_batch(Gil gil, LoopCore& core) noexcept {
  size_t to_run = core.ready.size();
  for (;;) {
    if (core.closed) return check_closed(gil, core);
    const bool is_io = core.ready_before_io == 0 && core.engine.has_io();
    if (!is_io) {
      if (to_run == 0 || core.ready.empty()) break;
      --to_run;
      if (core.ready_before_io > 0) --core.ready_before_io;
    }
    if (!run_step(gil, core, is_io)) return false;
  }
  core.engine.pull_cork();
  return take_exit(gil, core);
}

bool run_turn(Gil gil, LoopCore& core) noexcept {
  if (!handle_is_as_before(core) && !notice_replaced_handle_run(gil, core)) return false;
  const bool interrupted = core.engine.has_io();  // the last turn was left by an exception
  if (!interrupted) {
    if (!take_from_inbox(gil, core) || !poll(gil, core) || !take_from_inbox(gil, core)) return false;
    core.ready_before_io = core.ready.size();
  }
  return queue_due_timers(gil, core) && run_batch(gil, core);
}

// An exception has left a batch in which writes were waiting with patience.
void send_what_waits(Gil gil, LoopCore& core) noexcept {
  if (core.engine.cork().empty()) return;
  Ref exception = take_exception(gil);
  core.engine.pull_cork();
  set_exception(gil, std::move(exception));
}

}  // namespace

void leave_run_forever(Gil gil, LoopCore& core) noexcept {
  Ref exception = take_exception(gil);
  if (!core.exit_exception) core.exit_exception = std::move(exception);
}

void report_or_leave(Gil gil, LoopCore& core, const char* message, ReportFields fields) noexcept {
  if (!report(gil, core.state, as_object(core.self), message, fields)) leave_run_forever(gil, core);
}

PyObject* run_turns(Gil gil, LoopCore& core) noexcept {
  if (!check_closed(gil, core) || !check_forked(gil, core) || !notice_replacements(gil, core)) return nullptr;
  const Ref pin = Ref::borrow(as_object(core.self));
  const bool is_nested = core.engine.cork().is_open();  // a callback calls _run_once()
  // Run a single turn, as asyncio's _run_once() does, when the caller is not run_forever() or the program overrides
  // _run_once().
  const bool only_one = is_nested || core.thread_id == 0 || core.replaced.run_once;
  if (!only_one) make_frame_object_early(gil);
  if (!is_nested) core.engine.cork().open();
  bool go_on = true;
  while (go_on) {
    go_on = run_turn(gil, core);
    if (core.stopping || only_one) break;
  }
  if (!go_on) send_what_waits(gil, core);
  if (!is_nested) {
    core.engine.cork().close();
    while (Lingering* const guest = core.closed_guests.pop_front()) guest->on_backend_drained(gil);
    core.closed_backend.reset();
    track_queued(gil, core);
  }
  if (!go_on) return nullptr;
  Py_RETURN_NONE;
}

}  // namespace cxxloop::python
