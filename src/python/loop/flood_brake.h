// SPDX-License-Identifier: MIT
//
// python/loop/flood_brake.h: lets a loop run although threads call it faster than it runs.
//
// Decision: a thread that floods a loop gives the GIL away now and then, and never sleeps. asyncio's
// call_soon_threadsafe() returns at once, and its caller may run a loop of its own or hold a lock. Without the brake each
// flooding thread keeps the GIL for its whole switch interval, one after the other, and the queue grows without end.
// Thread: any that holds the GIL. Belongs to a loop.
#pragma once

#include <sched.h>

#include <cstddef>

#include "python/interp/gil.h"

namespace cxxloop::python {

class FloodBrake {
 public:
  // As many handles as a turn takes: a loop with fewer is not behind.
  static constexpr size_t backlog_before_yields = 1024;
  // Calls of one thread with no other thread's call in between: a thread that calls now and then never pays.
  static constexpr size_t calls_between_yields = 256;
  static constexpr int yields_max = 16;

  // `thread` has posted a handle. True: call let_loop_run().
  [[nodiscard]] bool on_posted(unsigned long thread) noexcept {
    if (thread == last_thread_ && ++calls_in_a_row_ < calls_between_yields) return false;
    return end_row(thread);
  }

  // Gives the GIL away until the loop has taken a batch, at most yields_max times. One release would not do: this thread
  // would take the GIL again before the loop's thread, which the release has woken, runs on a core.
  void let_loop_run(Gil gil) const noexcept {
    const size_t taken_before = taken_;
    for (int i = 0; i < yields_max && taken_ == taken_before; ++i) gil.released([] { return ::sched_yield(); });
  }

  // The loop's own thread has posted one.
  void on_posted_here() noexcept { ++posted_; }
  void on_taken(size_t count) noexcept { taken_ += count; }

 private:
  // Another thread has called, or the same one for the 256th time.
  bool end_row(unsigned long thread) noexcept {
    posted_ += calls_in_a_row_;
    if (thread != last_thread_) {
      last_thread_ = thread;
      calls_in_a_row_ = 1;
      return false;
    }
    calls_in_a_row_ = 0;
    return posted_ - taken_ > backlog_before_yields;
  }

  size_t posted_ = 0;  // by other threads before the present row, and by the loop's own
  size_t taken_ = 0;
  size_t calls_in_a_row_ = 0;
  unsigned long last_thread_ = 0;
};

}  // namespace cxxloop::python
