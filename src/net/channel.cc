// SPDX-License-Identifier: MIT
#include "net/channel.h"

#include <utility>

namespace cxxloop::net {

Channel::EndOfOp::EndOfOp(Channel& channel) noexcept
    : channel_(channel), outer_(std::exchange(channel.destroyed_, &destroyed_)) {}

Channel::EndOfOp::~EndOfOp() {
  if (!destroyed_) {
    channel_.destroyed_ = outer_;
    channel_.tell_busy();
  } else if (outer_ != nullptr) {
    *outer_ = true;
  }
}

Channel::~Channel() {
  if (destroyed_ != nullptr) *destroyed_ = true;
}

void Channel::tell_busy() noexcept {
  const bool busy = state_ == State::open ? is_reading() || is_send_waiting() || takes_last_read_ : state_ == State::releasing;
  if (busy == is_busy_) return;
  is_busy_ = busy;
  busy ? owner_.on_busy() : owner_.on_idle();
}

void Channel::stop_reading() noexcept {
  take_back_read();
  tell_busy();
}

void Channel::drop_writes() noexcept {
  clear_queue();
  tell_busy();
}

bool Channel::release() noexcept {
  CXL_ASSERT(state_ == State::open);
  state_ = State::releasing;
  take_back_read();
  clear_queue();
  const bool is_released = !has_ops();
  if (is_released) {
    forget();
    state_ = State::released;
  }
  tell_busy();
  return is_released;
}

void Channel::released_if_idle() noexcept {
  if (has_ops()) return;
  forget();
  finish_release();
}

void Channel::finish_release() noexcept {
  CXL_ASSERT(state_ == State::releasing);
  const EndOfOp end(*this);
  state_ = State::released;
  clear_queue();  // what only the kernel kept
  owner_.on_released();
}

}  // namespace cxxloop::net
