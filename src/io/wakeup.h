// SPDX-License-Identifier: MIT
//
// io/wakeup.h: makes a poller return, from any thread or signal handler. An eventfd, elsewhere a pipe.
//
// Decision: notifications between two drains cost one write, because a write to an eventfd is a system call (0.3 us)
// and a flood from threads would otherwise make one per callback.
#pragma once

#include <atomic>
#include <cstdint>

#include "base/errno.h"
#include "base/unique_fd.h"

namespace cxxloop::io {

class Wakeup {
 public:
  // REQUIRES of all others: open() returned ok.
  [[nodiscard]] Errno open() noexcept;

  // Readable exactly while a notification was not drained.
  [[nodiscard]] int fd() const noexcept { return reader_.get(); }

  // Any thread, async-signal-safe, leaves errno as it was.
  void notify() noexcept;
  // Owner only: what was written before the notify() calls that this takes is visible afterwards.
  void drain() noexcept;

  // Number of writes that notify() made.
  [[nodiscard]] int64_t writes() const noexcept { return writes_.load(std::memory_order_relaxed); }

 private:
  UniqueFd reader_;
  UniqueFd writer_;                    // stays empty with an eventfd, which is both ends
  std::atomic<bool> pending_{false};   // True exactly when a notify() has written, or is about to, since the last drain().
  std::atomic<int64_t> writes_{0};
};

}  // namespace cxxloop::io
