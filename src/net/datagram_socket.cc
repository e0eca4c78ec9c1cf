// SPDX-License-Identifier: MIT
#include "net/datagram_socket.h"

#include <algorithm>
#include <utility>

#include "base/clock.h"

namespace cxxloop::net {

bool BurstPacing::may_look(uint32_t received) noexcept {
  if (received == 0) {  // A new readiness. If the last one looked and found nothing, skip twice as many looks as before.
    if (looking_) skips_left_ = skips_ = std::min(skips_ * 2 + 1, skips_max);
    looking_ = false;
    return true;
  }
  if (received == 1) {
    if (skips_left_ > 0) {
      --skips_left_;
      return false;
    }
    looking_ = true;
    started_ns_ = monotonic_ns();
    return true;
  }
  return received < datagrams_max && monotonic_ns() - started_ns_ < burst_ns_max;
}

void BurstPacing::note_received(uint32_t received) noexcept {
  if (received < 2) return;
  looking_ = false;
  skips_ = 0;
}

DatagramSocket::DatagramSocket(io::Backend& backend, int fd, DatagramHandler& handler, ReleaseFn release_owner,
                   size_t header_bytes, const int* fd_witness) noexcept
    : Channel(handler),
      backend_(backend),
      handler_(handler),
      receive_(this, on_receive_complete, on_target),
      writable_(io::OpKind::poll_write, this, on_writable_complete),
      release_owner_(release_owner),
      header_bytes_(header_bytes) {
  receive_.fd = writable_.fd = fd;
  receive_.fd_witness = writable_.fd_witness = fd_witness;
}

DatagramSocket::~DatagramSocket() {
  CXL_ASSERT(!receive_.in_kernel() && !writable_.in_kernel());
  while (!queue_.empty()) pop_first();
}

Errno DatagramSocket::submit(io::Op& op) noexcept { return op.still_owned() ? backend_.submit(op) : Errno::bad_fd; }

// --- receiving ------------------------------------------------------------------------------------------------

Errno DatagramSocket::start_reading() noexcept {
  CXL_ASSERT(state_ == State::open);
  wants_read_ = true;
  // A cancelled op whose last completion is due is still in the kernel: end_receive() submits it again.
  const Errno error = receive_.in_kernel() ? Errno::ok : submit(receive_);
  wants_read_ = error == Errno::ok;
  tell_busy();
  return error;
}

void DatagramSocket::take_back_read() noexcept {
  wants_read_ = false;
  if (receive_.state == io::OpState::armed) (void)backend_.cancel(receive_);  // false: end_receive() ignores the last one
}

std::optional<std::span<std::byte>> DatagramSocket::on_target(io::RecvFromOp& op) noexcept {
  DatagramSocket& self = *static_cast<DatagramSocket*>(op.owner);
  if (!self.wants_read_) return std::nullopt;
  if (op.received > 0 && !self.handler_.on_may_receive_more()) return std::nullopt;
  if (!self.pacing_.may_look(op.received)) return std::nullopt;
  return std::span<std::byte>();
}

void DatagramSocket::on_receive_complete(io::Op& op, int32_t result) noexcept {
  static_cast<DatagramSocket*>(op.owner)->finish_receive(result);
}

void DatagramSocket::finish_receive(int32_t result) noexcept {
  if (result >= 0 && state_ == State::open) {
    pacing_.note_received(receive_.received);
    return handler_.on_datagram({receive_.data, static_cast<size_t>(result)}, receive_.peer);
  }
  end_receive(result);
}

void DatagramSocket::end_receive(int32_t result) noexcept {
  if (state_ != State::open) return released_if_idle();
  const EndOfOp end(*this);
  if (result == -ECANCELED) {
    if (!wants_read_) return;
    const Errno error = submit(receive_);  // reading was stopped and started again before the last completion
    if (error == Errno::ok) return;
    result = -static_cast<int32_t>(error);
  }
  if (!receive_.in_kernel()) wants_read_ = false;
  handler_.on_receive_error(errno_of(result));
}

// --- sending --------------------------------------------------------------------------------------------------

Errno DatagramSocket::send(std::span<const std::byte> data, const io::Address* address) noexcept {
  CXL_ASSERT(queue_.empty());
  return send_now(data, address);
}

Errno DatagramSocket::send_now(std::span<const std::byte> data, const io::Address* address) noexcept {
  if (!receive_.still_owned()) return Errno::bad_fd;
  Result<size_t> sent = backend_.send_now_to(receive_.fd, data, address);
  return sent.ok() ? Errno::ok : sent.error();
}

Errno DatagramSocket::append(const Datagram& datagram) noexcept {
  CXL_ASSERT(state_ == State::open);
  if (!queue_.make_room()) return Errno::no_memory;
  if (!wants_send_) {
    if (const Errno error = wait_writable(); error != Errno::ok) return error;
  }
  (void)queue_.push_back(datagram);  // there is room
  queued_bytes_ += datagram.data.size() + header_bytes_;
  return Errno::ok;
}

Errno DatagramSocket::wait_writable() noexcept {
  wants_send_ = true;
  // A cancelled op whose last completion is due is still in the kernel: flush() submits it again.
  const Errno error = writable_.in_kernel() ? Errno::ok : submit(writable_);
  wants_send_ = error == Errno::ok;
  tell_busy();
  return error;
}

void DatagramSocket::stop_waiting() noexcept {
  wants_send_ = false;
  if (writable_.state == io::OpState::armed) (void)backend_.cancel(writable_);
}

void DatagramSocket::pop_first() noexcept {
  const Datagram datagram = queue_.pop_front();
  queued_bytes_ -= datagram.data.size() + header_bytes_;
  release_owner_(datagram.owner);
}

// Move the queue out before any owner is released: releasing may run code that appends datagrams, and those must stay.
void DatagramSocket::clear_queue() noexcept {
  stop_waiting();
  RingQueue<Datagram> dropped(std::move(queue_));
  queued_bytes_ = 0;
  while (!dropped.empty()) release_owner_(dropped.pop_front().owner);
}

void DatagramSocket::on_writable_complete(io::Op& op, int32_t) noexcept {
  DatagramSocket& self = *static_cast<DatagramSocket*>(op.owner);
  if (self.state_ != State::open) return self.released_if_idle();
  if (!self.wants_send_) return;
  const EndOfOp end(self);
  self.handler_.on_writable();
}

Errno DatagramSocket::send_first() noexcept {
  const Datagram& first = queue_.front();
  if (first.target == Datagram::Target::foreign) return handler_.on_send_foreign(first.owner);
  return send_now(first.data, first.target == Datagram::Target::address ? &first.address : nullptr);
}

void DatagramSocket::flush() noexcept {
  if (!queue_.empty() && !writable_.in_kernel()) {  // The poll was cancelled and is wanted again, or the descriptor was closed.
    if (const Errno error = submit(writable_); error != Errno::ok) {
      drop_writes();
      if (state_ == State::open) handler_.on_send_error(error);
      return;
    }
  }
  while (!queue_.empty()) {
    const void* const owner = queue_.front().owner;
    const Errno error = send_first();
    // on_send_foreign() and the release of an owner may run code that drops the queue or releases the socket: pop only
    // the datagram that was sent.
    const bool goes = error != Errno::again && !queue_.empty() && queue_.front().owner == owner;
    if (goes) pop_first();
    if (state_ != State::open) return;
    if (error == Errno::again) break;
    if (error != Errno::ok) return handler_.on_send_error(error);
  }
  if (queue_.empty()) stop_waiting();
  handler_.on_sent();
}

}  // namespace cxxloop::net
