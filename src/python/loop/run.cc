// SPDX-License-Identifier: MIT
//
// python/loop/run.cc: a turn of the loop. Read this file first.
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

bool drain_inbox(Gil gil, LoopCore& core) noexcept {
  return core.inbox.empty() || take_from_threads(gil, core, ThreadsafeInbox::batch_max);
}

// Callbacks are ready. Poll anyway?
bool poll_is_due(PollPacing& pacing) noexcept {
  if (pacing.empty_polls < PollPacing::empty_polls_before_skipping) return true;
  if (++pacing.turns_skipped >= PollPacing::turns_skipped_max) return true;
  return monotonic_ns() - pacing.last_poll_ns >= PollPacing::skip_ns_max;
}

void note_poll(PollPacing& pacing, bool found_something) noexcept {
  pacing.turns_skipped = 0;
  pacing.empty_polls = found_something ? 0 : pacing.empty_polls + 1;
  if (pacing.empty_polls >= PollPacing::empty_polls_before_skipping) pacing.last_poll_ns = monotonic_ns();
}

// When the next timer is due, on the real clock even if the program replaced loop.time().
bool next_deadline(Gil gil, LoopCore& core, Deadline* deadline) noexcept {
  TimerNode* const next = core.timers.top();
  *deadline = next != nullptr ? Deadline{next->deadline_ns} : Deadline::never();
  if (next == nullptr || !core.replaced.time || next->deadline_ns == Deadline::never().at_ns) return true;
  int64_t replaced_now_ns = 0;
  if (!loop_time_ns(gil, core, &replaced_now_ns)) return false;
  *deadline = next->deadline_ns <= replaced_now_ns
                  ? Deadline::immediate()
                  : Deadline{monotonic_ns() + (next->deadline_ns - replaced_now_ns)};
  return true;
}

// The wait that can sleep, the only place of a turn that gives the GIL away (through the sleep hooks). If every poll gave
// the GIL away, a thread that computes would keep it for its whole switch interval each time.
Errno sleep_in_kernel(LoopCore& core, Deadline deadline) noexcept {
  if (!core.inbox.try_park()) return core.backend->wait(Deadline::immediate());
  const Errno error = core.backend->wait(deadline);
  core.inbox.unpark();
  core.pacing.empty_polls = 0;
  return error;
}

bool poll(Gil gil, LoopCore& core) noexcept {
  if (core.ready.empty() && core.state.tls_gauge.should_trim()) [[unlikely]] {
    if (!return_memory(gil, core)) return false;
  }
  // Runs Python: handlers of signals that came while native code ran, which must not wait for the end of a sleep.
  if (core.ready.empty() && PyErr_CheckSignals() < 0) return false;
  Errno error = Errno::ok;
  Deadline deadline = Deadline::immediate();
  if (core.ready.empty() && !core.stopping && !next_deadline(gil, core, &deadline)) return false;
  if (deadline == Deadline::immediate()) {
    if (!poll_is_due(core.pacing)) return true;
    error = core.backend->wait(deadline);
    note_poll(core.pacing, core.backend->collected() > 0);
  } else {
    error = sleep_in_kernel(core, deadline);
  }
  if (error != Errno::ok) return raise_errno(gil, error) != nullptr;
  // Runs Python: signal handlers; one that raises ends run_forever(), as in asyncio.
  return PyErr_CheckSignals() == 0;
}

bool queue_due_timers(Gil gil, LoopCore& core) noexcept {
  if (core.timers.empty()) return true;
  int64_t now_ns = 0;
  if (!loop_time_ns(gil, core, &now_ns)) return false;
  while (TimerNode* const node = core.timers.top()) {
    if (node->deadline_ns > now_ns) break;
    if (!make_room_for_ready(gil, core)) return false;
    core.timers.remove(node);
    (void)core.ready.push_back(as_object(TimerHandleObject::of_node(node)));
  }
  return true;
}

// The indicator is set to what leaves run_forever(). A callback that had not begun then is the first of the next run.
void keep_if_not_begun(Gil gil, LoopCore& core, PyObject* handle) noexcept {
  if (!was_left_before_callback(gil, core, handle) || !core.ready.push_front(handle)) return drop_loops_reference(handle);
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

void pull_cork(LoopCore& core) noexcept {
  expect_io(core);
  core.cork.pull();
  core.backend->flush();
}

// Runs one callback, then sends what the callback wrote.
bool run_step(Gil gil, LoopCore& core, bool is_io) noexcept {
  bool go_on = true;
  if (!is_io) {
    go_on = run_next_ready(gil, core);
  } else if (core.debug) {
    go_on = dispatch_timed(gil, core);
  } else {
    core.backend->dispatch_one();
  }
  Ref exception = go_on ? Ref() : take_exception(gil);
  if (!core.cork.empty()) pull_cork(core);
  if (exception) {
    set_exception(gil, std::move(exception));
    return false;
  }
  return take_exit(gil, core);
}

// The counters move before each callback: one that raises KeyboardInterrupt leaves the rest for the next run.
bool run_batch(Gil gil, LoopCore& core) noexcept {
  size_t to_run = core.ready.size();
  for (;;) {
    if (core.closed) return check_closed(gil, core);
    const bool is_io = core.ready_before_io == 0 && core.backend->collected() > 0;
    if (!is_io) {
      if (to_run == 0 || core.ready.empty()) return true;
      --to_run;
      if (core.ready_before_io > 0) --core.ready_before_io;
    }
    if (!run_step(gil, core, is_io)) return false;
  }
}

bool run_turn(Gil gil, LoopCore& core) noexcept {
  if (!handle_is_as_before(core) && !notice_replaced_handle_run(gil, core)) return false;
  const bool interrupted = core.backend->collected() > 0;  // the last turn was left by an exception
  if (!interrupted) {
    if (!drain_inbox(gil, core) || !poll(gil, core) || !drain_inbox(gil, core)) return false;
    core.ready_before_io = core.ready.size();
  }
  return queue_due_timers(gil, core) && run_batch(gil, core);
}

}  // namespace

bool take_from_threads(Gil gil, LoopCore& core, size_t handles_max) noexcept {
  for (size_t moved = 0; moved < handles_max; ++moved) {
    if (!make_room_for_ready(gil, core)) return false;
    HandleObject* const handle = core.inbox.pop();
    if (handle == nullptr) break;
    (void)core.ready.push_back(as_object(handle));
  }
  return true;
}

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
  // Run a single turn, as asyncio's _run_once() does, when the caller is not run_forever() or the program overrides
  // _run_once().
  const bool only_one = core.thread_id == 0 || core.replaced.run_once;
  if (!only_one) make_frame_object_early(gil);
  core.in_turn = true;
  bool go_on = true;
  while (go_on) {
    go_on = run_turn(gil, core);
    if (core.stopping || only_one) break;
  }
  core.in_turn = false;
  if (!go_on) return nullptr;
  Py_RETURN_NONE;
}

}  // namespace cxxloop::python
