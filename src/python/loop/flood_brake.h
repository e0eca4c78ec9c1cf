// SPDX-License-Identifier: MIT
//
// python/loop/flood_brake.h: holds back threads that call a loop faster than it runs.
//
// Thread: any that holds the GIL.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <ctime>

#include "python/interp/gil.h"

namespace cxxloop::python {

class FloodBrake {
 public:
  // A thread that floods a loop which cannot keep up pauses after so many calls: it would hold the GIL for its whole
  // switch interval each time, and the queue would grow without end. The longer the queue, the longer the pause: on a
  // busy machine the loop's thread gets the GIL at once, but not a core.
  static constexpr size_t backlog_before_pauses = 1024;
  static constexpr size_t calls_between_pauses = 256;
  static constexpr int64_t pause_ns_per_backlog = 50'000;  // for each backlog_before_pauses
  static constexpr int64_t pause_ns_max = 5'000'000;

  // A thread has posted a handle. Returns for how many nanoseconds it should pause().
  [[nodiscard]] int64_t on_posted() noexcept {
    if (++posted_ % calls_between_pauses != 0) return 0;
    const size_t backlog = posted_ - taken_;
    if (backlog <= backlog_before_pauses) return 0;
    return std::min(static_cast<int64_t>(backlog / backlog_before_pauses) * pause_ns_per_backlog, pause_ns_max);
  }
  // Lets the loop's thread have the GIL for a while.
  static void pause(Gil gil, int64_t ns) noexcept {
    gil.released([ns] {
      const timespec duration{.tv_sec = 0, .tv_nsec = static_cast<long>(ns)};
      return nanosleep(&duration, nullptr);
    });
  }
  // The loop's own thread has posted one.
  void on_posted_here() noexcept { ++posted_; }
  void on_taken(size_t count) noexcept { taken_ += count; }

 private:
  size_t posted_ = 0;
  size_t taken_ = 0;
};

}  // namespace cxxloop::python
