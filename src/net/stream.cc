// SPDX-License-Identifier: MIT
#include "net/stream.h"

#include <array>
#include <utility>

namespace cxxloop::net {

Stream::Stream(io::Backend& backend, int fd, StreamHandler& handler, WriteQueue::ReleaseFn release_chunk,
               const int* fd_witness) noexcept
    : Channel(handler),
      backend_(backend),
      handler_(handler),
      recv_(this, on_recv_complete, on_recv_target),
      send_(this, on_send_complete, on_gather),
      queue_(release_chunk) {
  recv_.fd = send_.fd = fd;
  recv_.fd_witness = send_.fd_witness = fd_witness;
}

Stream::~Stream() {
  CXL_ASSERT(!recv_.in_kernel() && !send_.in_kernel());
}

Errno Stream::start_reading() noexcept {
  CXL_ASSERT(state_ == State::open);
  wants_read_ = true;
  // A cancelled op whose last completion is due is still in the kernel: end_recv() submits it again.
  const Errno error = recv_.in_kernel() ? Errno::ok : backend_.submit(recv_);
  wants_read_ = error == Errno::ok;
  tell_busy();
  return error;
}

void Stream::take_last_read() noexcept {
  CXL_ASSERT(state_ == State::open && !wants_read_);
  recv_.on_complete = on_last_recv_complete;
  takes_last_read_ = true;
  tell_busy();
}

void Stream::take_back_read() noexcept {
  wants_read_ = false;
  if (recv_.state == io::OpState::armed) (void)backend_.cancel(recv_);  // false: end_recv() ignores the last completion
}

size_t Stream::on_gather(io::SendOp& op, std::span<iovec> iov) noexcept {
  return static_cast<const Stream*>(op.owner)->queue_.peek(iov);
}

bool Stream::hand_over(bool is_late) noexcept {
  if (sending_ == Sending::handed_over && !settle(is_late)) return false;
  std::array<iovec, io::SendOp::iov_max> iov;
  while (!queue_.empty() && sending_ == Sending::idle) {
    if (!recv_.still_owned()) {
      fail_writes(Errno::bad_fd);
      return false;
    }
    const size_t count = queue_.peek(iov);
    const size_t queued_before = queue_.bytes();
    const io::SendResult result = backend_.try_send(send_, {iov.data(), count});
    if (result.is_sent()) {
      const bool all_chunks = count == queue_.chunks();
      queue_.consume(result.bytes());
      if (!all_chunks || result.bytes() == queued_before) continue;
      wait_writable(is_late);
    } else if (result.is_queued()) {
      sending_ = Sending::handed_over;
      return true;
    } else if (result.is_full()) {
      wait_writable(is_late);
    } else {
      fail_writes(result.error());
    }
    return false;
  }
  return false;
}

void Stream::send_all(bool is_late) noexcept {
  while (hand_over(is_late) && settle(is_late)) {
  }
}

bool Stream::settle(bool is_late) noexcept {
  sending_ = Sending::idle;
  const io::SendResult result = backend_.settle(send_);
  if (result.is_sent()) {
    queue_.consume(result.bytes());
    return true;
  }
  if (result.is_full()) {
    wait_writable(is_late);
  } else {
    fail_writes(result.error());
  }
  return false;
}

size_t Stream::flush_with(std::span<const std::byte> tail) noexcept {
  std::array<iovec, io::SendOp::iov_max> iov;
  if (send_.in_kernel() || queue_.chunks() >= iov.size()) return tail.size();
  if (!recv_.still_owned()) {
    fail_writes(Errno::bad_fd);
    return 0;
  }
  const size_t count = queue_.peek({iov.data(), iov.size() - 1});
  iov[count] = {const_cast<std::byte*>(tail.data()), tail.size()};
  Result<size_t> sent = backend_.send_now(recv_.fd, {iov.data(), count + 1});
  if (!sent.ok()) {
    if (sent.error() == Errno::again) return tail.size();
    fail_writes(sent.error());  // now: the kernel tells ECONNRESET once and EPIPE from then on
    return 0;
  }
  const size_t of_queue = sent.value() < queue_.bytes() ? sent.value() : queue_.bytes();
  const size_t of_tail = sent.value() - of_queue;
  queue_.consume(of_queue);
  return tail.size() - of_tail;
}

void Stream::clear_queue() noexcept {
  unlink();
  if (sending_ == Sending::handed_over) {
    (void)backend_.settle(send_);  // to the owner those bytes were sent when it wrote them
    sending_ = Sending::idle;
  }
  if (send_.in_kernel() && (send_.state == io::OpState::cancelling || !backend_.cancel(send_))) {
    dropped_bytes_ = queue_.bytes();
    return;
  }
  sending_ = Sending::idle;
  dropped_bytes_ = 0;
  queue_.clear();
}

void Stream::on_recv_complete(io::Op& op, int32_t result) noexcept {
  static_cast<Stream*>(op.owner)->finish_recv(result);
}

// Another function than on_recv_complete(), which every read would make slower by asking whether it is the last.
void Stream::on_last_recv_complete(io::Op& op, int32_t result) noexcept {
  Stream& self = *static_cast<Stream*>(op.owner);
  op.on_complete = on_recv_complete;
  const EndOfOp end(self);
  self.takes_last_read_ = false;
  self.finish_recv(result);
}

void Stream::on_send_complete(io::Op& op, int32_t result) noexcept {
  static_cast<Stream*>(op.owner)->finish_send(result);
}

std::optional<std::span<std::byte>> Stream::on_recv_target(io::RecvOp& op) noexcept {
  const std::optional<std::span<std::byte>> target = static_cast<Stream*>(op.owner)->handler_.on_read_target();
  CXL_ASSERT(!target.has_value() || static_cast<const Stream*>(op.owner)->is_busy());  // or nobody keeps the op
  return target;
}

void Stream::finish_recv(int32_t result) noexcept {
  if (result > 0 && state_ == State::open) return handler_.on_data({recv_.data, static_cast<size_t>(result)});
  end_recv(result);
}

void Stream::end_recv(int32_t result) noexcept {
  if (state_ != State::open) return released_if_idle();
  if (result == -EAGAIN) return;  // there was nothing for the last read
  const EndOfOp end(*this);
  if (result == -ECANCELED) {
    if (!wants_read_) return;
    const Errno error = backend_.submit(recv_);  // reading was stopped and started again before the last completion
    if (error == Errno::ok) return;
    result = -static_cast<int32_t>(error);
  }
  wants_read_ = false;
  if (result == 0) return handler_.on_eof();
  handler_.on_read_error(errno_of(result));
}

void Stream::finish_send(int32_t result) noexcept {
  const bool was_handed_over = std::exchange(sending_, Sending::idle) == Sending::handed_over;
  const bool dropped = dropped_bytes_ > 0;
  if (dropped) {
    queue_.consume(dropped_bytes_);  // sent or not
    dropped_bytes_ = 0;
  }
  if (state_ != State::open) return released_if_idle();
  const EndOfOp end(*this);
  if (was_handed_over) {
    if (result > 0) queue_.consume(static_cast<size_t>(result));
    if (result == -EAGAIN) return wait_writable(true);
    if (result < 0) return fail_writes(errno_of(result));
    return send_all(true);  // the rest, and what was appended meanwhile
  }
  if (result < 0 && result != -ECANCELED) return fail_writes(errno_of(result));
  if (dropped) return flush();  // what was appended meanwhile
  if (result > 0) queue_.consume(static_cast<size_t>(result));
  const Errno error = queue_.empty() ? Errno::ok : submit_send();
  if (error != Errno::ok) return fail_writes(error);
  handler_.on_sent();
}

Errno Stream::submit_send() noexcept {
  const Errno error = backend_.submit(send_);
  if (error != Errno::ok) return error;
  sending_ = Sending::waiting;
  tell_busy();
  return Errno::ok;
}

void Stream::wait_writable(bool is_late) noexcept {
  const Errno error = submit_send();
  if (error != Errno::ok) return fail_writes(error);
  handler_.on_send_waiting(is_late);
}

void Stream::fail_writes(Errno error) noexcept {
  unlink();
  queue_.clear();
  handler_.on_write_error(error);
}

}  // namespace cxxloop::net
