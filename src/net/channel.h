// SPDX-License-Identifier: MIT
//
// net/channel.h: what a transport asks of the socket it stands on, be it a Stream or a Datagram.
//
// Thread: loop thread.  Python: none.
#pragma once

#include <cstdint>

#include "base/assert.h"
#include "base/errno.h"

namespace cxxloop::net {

class Channel {
 public:
  // open -> releasing (release(), an op is still in the kernel) -> released; open -> released.
  enum class State : uint8_t { open, releasing, released };

  [[nodiscard]] virtual Errno start_reading() noexcept = 0;
  virtual void stop_reading() noexcept = 0;
  [[nodiscard]] virtual bool is_reading() const noexcept = 0;

  // True exactly when the kernel is full, so that the oldest of what is queued waits for room.
  [[nodiscard]] virtual bool is_send_waiting() const noexcept = 0;
  [[nodiscard]] virtual bool is_drained() const noexcept = 0;  // True exactly when nothing is queued
  // Drop the queue. Writes made while the owners of its chunks are released go into a new, empty queue.
  virtual void drop_writes() noexcept = 0;

  // Take every op back; no handler method but on_released() is called from now on.
  // True: done, the fd may be closed. False: on_released() will tell.
  [[nodiscard]] virtual bool release() noexcept = 0;
  // The backend was drained: on_released() will not come any more. REQUIRES: releasing.
  void mark_released() noexcept {
    CXL_ASSERT(state_ == State::releasing);
    state_ = State::released;
  }
  [[nodiscard]] State state() const noexcept { return state_; }

 protected:
  ~Channel() = default;

  State state_ = State::open;
};

}  // namespace cxxloop::net
