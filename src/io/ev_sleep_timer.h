// SPDX-License-Identifier: MIT
//
// io/ev_sleep_timer.h: what ends a sleep of libev at a deadline, to the microsecond.
#pragma once

#include <ev.h>

#include <cstdint>

#include "base/errno.h"
#include "base/unique_fd.h"

namespace cxxloop::io {

// Ends a sleep at a deadline. A timerfd, because libev's timers count in epoll's milliseconds; elsewhere its own timer.
// A deadline later than the one that is set costs no system call: the earlier one fires in vain and is set again.
class SleepTimer {
 public:
  [[nodiscard]] Errno open(struct ev_loop* loop) noexcept;
  void close(struct ev_loop* loop) noexcept;

  // Make ev_run() return at `deadline_ns` or earlier.
  void set(struct ev_loop* loop, int64_t deadline_ns) noexcept;
  // There is no deadline: nothing that has fired may end the sleep.
  void clear() noexcept;

  [[nodiscard]] int64_t arms() const noexcept { return arms_; }
  // True: it has fired since it was last set.
  [[nodiscard]] bool fired() const noexcept { return state_ == State::fired; }

 private:
  enum class State : uint8_t { unset, set, fired };  // unset -> set -> fired -> set or unset

#ifdef __linux__
  using Watcher = ev_io;
#else
  using Watcher = ev_timer;
#endif
  static void on_fired(struct ev_loop*, Watcher* watcher, int) noexcept {
    static_cast<SleepTimer*>(watcher->data)->state_ = State::fired;
  }

  Watcher watcher_{};
  UniqueFd fd_;
  State state_ = State::unset;
  int64_t deadline_ns_ = 0;
  int64_t arms_ = 0;
};

}  // namespace cxxloop::io
