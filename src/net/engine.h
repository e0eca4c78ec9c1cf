// SPDX-License-Identifier: MIT
//
// net/engine.h: the half of a loop that needs no Python: posted tasks, timers, the cork, and when to look at the kernel.
//
// A loop of Python holds an engine and orders its turn itself (python/loop/turn.cc), because it runs handles in between.
// A thread without Python calls run().
// Decision: whatever a loop runs is a Task or a TimerTask that somebody embeds, so that the engine allocates nothing for
// it, and handles of Python and jobs of a server stand in the same queues in the order of their calls.
// Thread: one, except post() and stop().  Python: none.  Owns: no task, no timer; refers to the backend.
// Dies: after its last run, when no thread can post() any more. What is queued then is forgotten, not run.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "base/clock.h"
#include "base/mpsc_queue.h"
#include "base/parking_flag.h"
#include "base/task.h"
#include "base/timer_queue.h"
#include "io/backend.h"
#include "net/cork.h"

namespace cxxloop::net {

// When to poll while there is work: at every turn, as asyncio does, until a run of polls has found nothing; then rarely,
// because an empty poll costs more than a callback.
struct PollPacing {
  static constexpr uint32_t empty_polls_before_skipping = 32;
  static constexpr uint32_t turns_skipped_max = 32;
  static constexpr int64_t skip_ns_max = 25'000;

  uint32_t empty_polls = 0;
  uint32_t turns_skipped = 0;
  int64_t last_poll_ns = 0;
};

class Engine {
 public:
  // Tasks run at once, so that a flood of them does not starve timers and I/O.
  static constexpr size_t tasks_per_batch_max = 512;

  Engine() noexcept = default;  // attach() comes before anything below "the kernel"
  explicit Engine(io::Backend& backend) noexcept : backend_(&backend) {}
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  void attach(io::Backend& backend) noexcept { backend_ = &backend; }
  // Before the backend dies.
  void detach() noexcept {
    backend_ = nullptr;
    has_io_ = false;
  }

  // --- a loop without Python -----------------------------------------------------------------------------------
  // Turns until stop(). Each turn: posted tasks, poll, posted tasks, the collected I/O, due timers; after each of them,
  // what it wrote is sent. Returns early with the error of a poll that failed.
  [[nodiscard]] Errno run() noexcept;
  // Any thread: the current run(), or else the next one, returns at the end of its turn.
  void stop() noexcept;

  // --- tasks ---------------------------------------------------------------------------------------------------
  // Any thread: run the task in the engine's thread, behind everything that was posted before; wakes a sleeping engine.
  // Tasks of one thread keep their order.
  void post(Task& task) noexcept {
    posted_.push(&task.node);
    if (parking_.take_wake_duty()) backend_->wake();
  }
  // As post(), by the thread of the engine, which is awake.
  void post_here(Task& task) noexcept { posted_.push(&task.node); }
  // True exactly when everything that was posted has been taken.
  [[nodiscard]] bool none_posted() const noexcept { return posted_.empty(); }
  // Runs up to tasks_per_batch_max tasks, the oldest first. Returns how many.
  size_t run_posted() noexcept;
  void run_task(Task& task) noexcept {
    task.run(task);
    pull_cork();
  }
  // The oldest task, for run_task(); or null.
  [[nodiscard]] Task* take_posted() noexcept {
    MpscNode* const node = posted_.pop();
    return node != nullptr ? Task::of_node(node) : nullptr;
  }
  // f(Task&) for each, the oldest first. No thread may post meanwhile.
  template <class F>
  void each_posted(F&& f) noexcept {
    posted_.each([&f](MpscNode* node) { f(*Task::of_node(node)); });
  }

  // --- timers --------------------------------------------------------------------------------------------------
  // False: out of memory, the timer is not queued. REQUIRES: !timer.node.queued().
  [[nodiscard]] bool add_timer(TimerTask& timer) noexcept { return timers_.push(&timer.node); }
  // As add_timer(), for one whose deadline has come already.
  [[nodiscard]] bool add_due_timer(TimerTask& timer) noexcept { return timers_.push_due(&timer.node); }
  // REQUIRES: timer.node.queued().
  void cancel_timer(TimerTask& timer) noexcept { timers_.remove(&timer.node); }
  [[nodiscard]] bool has_timers() const noexcept { return !timers_.empty(); }
  // The next to run, or null.
  [[nodiscard]] TimerTask* next_timer() noexcept {
    TimerNode* const node = timers_.top();
    return node != nullptr ? TimerTask::of_node(node) : nullptr;
  }
  // The next to run if its deadline has come, or null.
  [[nodiscard]] TimerTask* due_timer(int64_t now_ns) noexcept {
    TimerNode* const node = timers_.top();
    return node != nullptr && node->deadline_ns <= now_ns ? TimerTask::of_node(node) : nullptr;
  }
  void run_timer(TimerTask& timer) noexcept {
    timers_.remove(&timer.node);
    timer.run(timer);
    pull_cork();
  }
  // f(TimerTask&) for each, in no useful order; f must not change the timers.
  template <class F>
  void each_timer(F&& f) const noexcept {
    timers_.each([&f](TimerNode* node) { f(*TimerTask::of_node(node)); });
  }

  // --- the kernel ----------------------------------------------------------------------------------------------
  // There is work. Poll anyway?
  [[nodiscard]] bool poll_is_due() noexcept {
    if (pacing_.empty_polls < PollPacing::empty_polls_before_skipping) return true;
    if (backend_->has_news()) return true;
    if (++pacing_.turns_skipped >= PollPacing::turns_skipped_max) return true;
    return backend_->now_ns() - pacing_.last_poll_ns >= PollPacing::skip_ns_max;
  }
  // Collects what is ready, without sleeping.
  [[nodiscard]] Errno poll() noexcept;
  // Collects what is ready; sleeps until there is something, a task is posted, or the deadline has come.
  [[nodiscard]] Errno sleep_until(Deadline deadline) noexcept;
  // Somebody has just sent something or begun to watch: look at the kernel at every turn for a while.
  void expect_io() noexcept { pacing_.empty_polls = 0; }
  // False: no completion waits for dispatch_one(). True: some may wait; those that were cancelled meanwhile do not.
  [[nodiscard]] bool has_io() const noexcept { return has_io_; }
  // The oldest collected completion, then what its callback wrote, unless that may wait for the next one.
  void dispatch_one() noexcept {
    backend_->dispatch_one();
    note_collected();
    has_io_ ? end_callback() : pull_cork();
  }

  // --- the cork ------------------------------------------------------------------------------------------------
  [[nodiscard]] Cork& cork() noexcept { return cork_; }
  // At the end of a callback that another one follows at once.
  void end_callback() noexcept {
    const auto clock = [this]() noexcept { return backend_ != nullptr ? backend_->now_ns() : 0; };
    if (cork_.empty() || cork_.may_wait(clock)) return;
    pull_cork();
  }
  // At the end of a callback: sends what it wrote.
  void pull_cork() noexcept {
    if (cork_.empty()) return;
    expect_io();
    cork_.pull();
    if (backend_ != nullptr) backend_->flush();  // null: a handler of a failed send has closed the loop
  }

  // True exactly when a new turn would begin now and find nothing: no task, no completion and no write waits.
  [[nodiscard]] bool is_idle() const noexcept {
    return backend_->collected() == 0 && none_posted() && cork_.empty();
  }

 private:
  [[nodiscard]] Errno run_turn() noexcept;
  void run_due_timers(int64_t now_ns) noexcept;
  void note_collected() noexcept { has_io_ = backend_ != nullptr && backend_->collected() > 0; }

  io::Backend* backend_ = nullptr;
  Cork cork_;
  TimerQueue timers_;
  PollPacing pacing_;
  MpscQueue posted_;
  ParkingFlag parking_;
  std::atomic<bool> stop_requested_{false};
  bool has_io_ = false;  // asked for several times a turn: a field costs less than the backend's virtual function
};

}  // namespace cxxloop::net
