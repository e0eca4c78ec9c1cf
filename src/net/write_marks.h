// SPDX-License-Identifier: MIT
//
// net/write_marks.h: when a writer has to stop and when it may go on: above the high mark, and at the low mark again.
//
// Decision: a value beside the stream, asked after append() and after on_sent(), and no callback of the stream: telling a
// writer may fail (asyncio's pause_writing() raises what it likes), and only the caller of write() can pass that on.
// Thread: loop thread.  Python: none.  Owns: nothing.
#pragma once

#include <cstddef>

#include "base/assert.h"

namespace cxxloop::net {

class WriteMarks {
 public:
  static constexpr size_t high_bytes_default = 64 * 1024;

  // Holds from the next question on. `low_bytes` <= `high_bytes`.
  void set(size_t high_bytes, size_t low_bytes) noexcept {
    CXL_ASSERT(low_bytes <= high_bytes);
    high_bytes_ = high_bytes;
    low_bytes_ = low_bytes;
  }

  // True: the queue has risen above the high mark, and the writer is to be told once that it has to stop.
  [[nodiscard]] bool rises(size_t queued_bytes) noexcept {
    if (queued_bytes <= high_bytes_ || is_paused_) return false;
    is_paused_ = true;
    return true;
  }

  // True: the queue has fallen to the low mark, and the writer that was told to stop is to be told once that it may go on.
  [[nodiscard]] bool falls(size_t queued_bytes) noexcept {
    if (!is_paused_ || queued_bytes > low_bytes_) return false;
    is_paused_ = false;
    return true;
  }

  [[nodiscard]] size_t high_bytes() const noexcept { return high_bytes_; }
  [[nodiscard]] size_t low_bytes() const noexcept { return low_bytes_; }
  [[nodiscard]] bool is_paused() const noexcept { return is_paused_; }

 private:
  size_t high_bytes_ = high_bytes_default;
  size_t low_bytes_ = high_bytes_default / 4;
  bool is_paused_ = false;  // True exactly when rises() was true and falls() not yet
};

}  // namespace cxxloop::net
