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

class ChannelHandler {
 public:
  // The channel may call its owner from now on: an op has gone to the kernel. An owner with a reference count gives the
  // channel a reference here.
  virtual void on_busy() noexcept {}
  // After on_busy(): no op may call the owner any more. Called last: by the owner's own call that took the op back, or
  // after the method that was told of the op's end. May destroy the channel.
  virtual void on_idle() noexcept {}
  virtual void on_released() noexcept = 0;  // after release() == false: the kernel has let go

 protected:
  ~ChannelHandler() = default;
};

class Channel {
 public:
  // open -> releasing (release(), an op is still in the kernel) -> released; open -> released.
  enum class State : uint8_t { open, releasing, released };

  [[nodiscard]] virtual Errno start_reading() noexcept = 0;
  void stop_reading() noexcept;
  [[nodiscard]] virtual bool is_reading() const noexcept = 0;

  // True exactly when the kernel is full, so that the oldest of what is queued waits for room.
  [[nodiscard]] virtual bool is_send_waiting() const noexcept = 0;
  [[nodiscard]] virtual bool is_drained() const noexcept = 0;  // True exactly when nothing is queued
  // Drop the queue. Writes made while the owners of its chunks are released go into a new, empty queue. What the kernel
  // already has may still be sent.
  void drop_writes() noexcept;

  // Take every op back; no handler method but on_released() and on_idle() is called from now on.
  // True: done, the fd may be closed. False: on_released() will tell.
  [[nodiscard]] bool release() noexcept;
  // The backend was drained: the last completion will not come. Calls on_released(). REQUIRES: releasing.
  void finish_release() noexcept;
  [[nodiscard]] State state() const noexcept { return state_; }
  // True exactly between on_busy() and on_idle().
  [[nodiscard]] bool is_busy() const noexcept { return is_busy_; }

 protected:
  // The scope in which the owner is told how an op ended. At its end the owner is told whether the channel is still busy,
  // unless the owner has destroyed the channel.
  class EndOfOp {
   public:
    explicit EndOfOp(Channel& channel) noexcept;
    EndOfOp(const EndOfOp&) = delete;
    EndOfOp& operator=(const EndOfOp&) = delete;
    ~EndOfOp();

   private:
    Channel& channel_;
    bool* const outer_;  // of a callback that runs the loop
    bool destroyed_ = false;
  };

  explicit Channel(ChannelHandler& handler) noexcept : owner_(handler) {}
  ~Channel();
  // The parts of the above that the kinds have to do. The owner is told afterwards.
  virtual void take_back_read() noexcept = 0;
  virtual void clear_queue() noexcept = 0;
  [[nodiscard]] virtual bool has_ops() const noexcept = 0;  // True exactly while an op is in the kernel
  virtual void forget() noexcept = 0;                       // the descriptor, which may be closed from here on
  // An op of a releasing channel has ended.
  void released_if_idle() noexcept;
  // Tells the owner whether the channel is busy, if that has changed. May destroy the channel.
  void tell_busy() noexcept;

  State state_ = State::open;
  bool takes_last_read_ = false;  // True exactly while a read goes on whose op the owner has taken back

 private:
  ChannelHandler& owner_;
  bool* destroyed_ = nullptr;  // of the innermost EndOfOp
  bool is_busy_ = false;
};

}  // namespace cxxloop::net
