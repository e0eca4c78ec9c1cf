// SPDX-License-Identifier: MIT
#include "io/ev_sleep_timer.h"

#ifdef __linux__
#include <sys/timerfd.h>
#include <unistd.h>
#endif

#include "base/assert.h"
#include "base/clock.h"

namespace cxxloop::io {

#ifdef __linux__

Errno SleepTimer::open(struct ev_loop* loop) noexcept {
  fd_.reset(::timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC));
  if (!fd_.valid()) return last_errno();
  ev_io_init(&watcher_, on_fired, fd_.get(), EV_READ);
  watcher_.data = this;
  ev_io_start(loop, &watcher_);
  state_ = State::unset;
  return Errno::ok;
}

void SleepTimer::close(struct ev_loop* loop) noexcept {
  ev_io_stop(loop, &watcher_);
  fd_.reset();
}

void SleepTimer::set(struct ev_loop*, int64_t deadline_ns) noexcept {
  if (state_ == State::set && deadline_ns_ <= deadline_ns) return;
  itimerspec when{};
  when.it_value.tv_sec = static_cast<time_t>(deadline_ns / ns_per_second);
  when.it_value.tv_nsec = static_cast<long>(deadline_ns % ns_per_second);
  // Also takes back the readiness of a timer that has fired, so that it need not be read.
  CXL_CHECK(::timerfd_settime(fd_.get(), TFD_TIMER_ABSTIME, &when, nullptr) == 0);
  state_ = State::set;
  deadline_ns_ = deadline_ns;
  ++arms_;
}

void SleepTimer::clear() noexcept {
  if (state_ != State::fired) return;
  uint64_t expirations;
  [[maybe_unused]] const ssize_t size = ::read(fd_.get(), &expirations, sizeof(expirations));
  state_ = State::unset;
}

#else

Errno SleepTimer::open(struct ev_loop*) noexcept {
  ev_init(&watcher_, on_fired);
  watcher_.data = this;
  return Errno::ok;
}

void SleepTimer::close(struct ev_loop* loop) noexcept { ev_timer_stop(loop, &watcher_); }

void SleepTimer::set(struct ev_loop* loop, int64_t deadline_ns) noexcept {
  if (state_ == State::set && deadline_ns_ <= deadline_ns) return;
  ev_timer_stop(loop, &watcher_);
  ev_now_update(loop);
  ev_timer_set(&watcher_, static_cast<double>(deadline_ns - monotonic_ns()) / ns_per_second, 0.);
  ev_timer_start(loop, &watcher_);
  state_ = State::set;
  deadline_ns_ = deadline_ns;
  ++arms_;
}

void SleepTimer::clear() noexcept {
  if (state_ == State::fired) state_ = State::unset;
}

#endif

}  // namespace cxxloop::io
