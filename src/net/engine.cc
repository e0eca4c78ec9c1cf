// SPDX-License-Identifier: MIT
#include "net/engine.h"

namespace cxxloop::net {

Errno Engine::run() noexcept {
  cork_.open();
  Errno error = Errno::ok;
  bool stops = false;
  while (error == Errno::ok && !stops) {
    error = run_turn();
    stops = stop_requested_.exchange(false, std::memory_order_acq_rel);
  }
  cork_.close();
  return error;
}

void Engine::stop() noexcept {
  stop_requested_.store(true, std::memory_order_release);
  backend_->wake();
}

Errno Engine::run_turn() noexcept {
  run_posted();
  const bool has_work = !none_posted() || stop_requested_.load(std::memory_order_acquire);
  TimerTask* const next = next_timer();
  Errno error = Errno::ok;
  if (!has_work) {
    error = sleep_until(next != nullptr ? Deadline{next->node.deadline_ns} : Deadline::never());
  } else if (poll_is_due()) {
    error = poll();
  }
  if (error != Errno::ok) return error;
  const int64_t now_ns = backend_->now_ns();
  run_posted();
  // Before the timers: what has arrived in time must not meet its own timeout.
  while (has_io()) dispatch_one();
  run_due_timers(now_ns);
  return Errno::ok;
}

size_t Engine::run_posted() noexcept {
  size_t count = 0;
  for (; count < tasks_per_batch_max; ++count) {
    Task* const task = take_posted();
    if (task == nullptr) break;
    run_task(*task);
  }
  return count;
}

// Timers that are added meanwhile wait for the next turn, so that one that adds itself again does not keep the loop here.
void Engine::run_due_timers(int64_t now_ns) noexcept {
  const uint64_t end = timers_.next_sequence();
  for (TimerTask* timer = due_timer(now_ns); timer != nullptr && timer->node.sequence < end; timer = due_timer(now_ns)) {
    run_timer(*timer);
  }
}

Errno Engine::poll() noexcept {
  const Errno error = backend_->wait(Deadline::immediate());
  note_collected();
  pacing_.turns_skipped = 0;
  pacing_.empty_polls = has_io_ ? 0 : pacing_.empty_polls + 1;
  if (pacing_.empty_polls >= PollPacing::empty_polls_before_skipping) pacing_.last_poll_ns = backend_->now_ns();
  return error;
}

Errno Engine::sleep_until(Deadline deadline) noexcept {
  const bool parked = parking_.try_park([this] { return posted_.empty(); });
  const Errno error = backend_->wait(parked ? deadline : Deadline::immediate());
  note_collected();
  if (!parked) return error;
  parking_.unpark();
  expect_io();
  return error;
}

}  // namespace cxxloop::net
