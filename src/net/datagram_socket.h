// SPDX-License-Identifier: MIT
//
// net/datagram_socket.h: a datagram socket: receiving, a queue of datagrams that the kernel did not take at once.
//
// Decision: a datagram is sent when it is given, not at the end of the callback: its error belongs to that call.
// Decision: the queue waits with a poll op, not with a send op, because an error of one datagram must be told before
// the next one is tried.
// Thread: loop thread.  Python: none.  Owns: one RecvFromOp, one poll op, the queued datagrams; borrows the fd.
// Dies: after release() returned true or on_released() was called, never earlier.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "base/ring_queue.h"
#include "io/backend.h"
#include "io/op.h"
#include "net/channel.h"

namespace cxxloop::net {

struct Datagram {
  enum class Target : uint8_t {
    peer,     // the connected one
    address,  // `address`
    foreign,  // only the owner knows how to send it: DatagramHandler::on_send_foreign()
  };

  std::span<const std::byte> data;
  void* owner;  // keeps data valid; given to the release function exactly once
  Target target;
  io::Address address;
};

// What a datagram socket tells its owner. Every method may call any method of the socket; those that return nothing, but
// for on_writable(), may destroy it as their last act.
class DatagramHandler : public ChannelHandler {
 public:
  // True: nothing else has to run before the next datagram of this readiness.
  virtual bool on_may_receive_more() noexcept = 0;
  virtual void on_datagram(std::span<const std::byte> data, const io::Address& sender) noexcept = 0;
  virtual void on_receive_error(Errno error) noexcept = 0;
  // The kernel has room: call flush(), and keep the socket alive meanwhile, because giving back the owner of a datagram
  // may run code that wants to destroy it.
  virtual void on_writable() noexcept = 0;
  // Send a queued datagram with Target::foreign: ok, again, or why it is lost. Must not destroy the socket.
  virtual Errno on_send_foreign(void* owner) noexcept = 0;
  virtual void on_send_error(Errno error) noexcept = 0;  // a queued datagram is lost, or all if nothing waits any more
  virtual void on_sent() noexcept = 0;                   // the kernel had room; see queued_bytes()

 protected:
  ~DatagramHandler() = default;
};

// Whether to look for another datagram of the same readiness. Looking again costs a recvfrom(). Do it while it pays; after
// a miss, skip exponentially more readiness events.
class BurstPacing {
 public:
  static constexpr uint32_t datagrams_max = 32;
  static constexpr int64_t burst_ns_max = 100'000;  // other descriptors and timers wait meanwhile

  [[nodiscard]] bool may_look(uint32_t received) noexcept;
  void note_received(uint32_t received) noexcept;

 private:
  static constexpr uint32_t skips_max = 63;

  int64_t started_ns_ = 0;
  uint32_t skips_ = 0;       // readinesses to skip after a look in vain
  uint32_t skips_left_ = 0;
  bool looking_ = false;     // True exactly when the last readiness looked for a second datagram and none came yet
};

class DatagramSocket final : public Channel {
 public:
  using ReleaseFn = void (*)(void* owner) noexcept;
  // `header_bytes` are added to the size of each queued datagram. `fd_witness`: as io::Op's; valid until it is released.
  DatagramSocket(io::Backend& backend, int fd, DatagramHandler& handler, ReleaseFn release_owner, size_t header_bytes,
           const int* fd_witness = nullptr) noexcept;
  ~DatagramSocket();

  [[nodiscard]] Errno start_reading() noexcept override;
  [[nodiscard]] bool is_reading() const noexcept override { return wants_read_; }

  // Send now; `address` null: to the connected peer. again: the kernel is full, append() it.
  [[nodiscard]] Errno send(std::span<const std::byte> data, const io::Address* address) noexcept;
  // Queue a datagram behind the others until the kernel takes it; takes datagram.owner unless it fails.
  [[nodiscard]] Errno append(const Datagram& datagram) noexcept;
  [[nodiscard]] bool is_drained() const noexcept override { return queue_.empty(); }
  [[nodiscard]] size_t queued_bytes() const noexcept { return queued_bytes_; }
  [[nodiscard]] bool is_send_waiting() const noexcept override { return wants_send_; }
  // Send what is queued as far as the kernel takes it. REQUIRES: called by on_writable().
  void flush() noexcept;

 private:
  static void on_receive_complete(io::Op& op, int32_t result) noexcept;
  static void on_writable_complete(io::Op& op, int32_t result) noexcept;
  static std::optional<std::span<std::byte>> on_target(io::RecvFromOp& op) noexcept;
  [[nodiscard]] Errno submit(io::Op& op) noexcept;
  void finish_receive(int32_t result) noexcept;
  void end_receive(int32_t result) noexcept;
  [[nodiscard]] Errno send_now(std::span<const std::byte> data, const io::Address* address) noexcept;
  [[nodiscard]] Errno send_first() noexcept;
  void pop_first() noexcept;
  [[nodiscard]] Errno wait_writable() noexcept;
  void stop_waiting() noexcept;
  void take_back_read() noexcept override;
  void clear_queue() noexcept override;
  [[nodiscard]] bool has_ops() const noexcept override { return receive_.in_kernel() || writable_.in_kernel(); }
  void forget() noexcept override { backend_.forget(receive_.fd); }

  io::Backend& backend_;
  DatagramHandler& handler_;
  io::RecvFromOp receive_;
  io::Op writable_;
  RingQueue<Datagram> queue_;
  ReleaseFn release_owner_;
  BurstPacing pacing_;
  size_t header_bytes_;
  size_t queued_bytes_ = 0;
  bool wants_read_ = false;  // True exactly when the owner wants on_datagram()
  bool wants_send_ = false;     // True exactly when flush() is to be called once the kernel has room
};

}  // namespace cxxloop::net
