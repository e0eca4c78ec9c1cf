// SPDX-License-Identifier: MIT
#include "sim/late_backend.h"

#include <algorithm>
#include <new>
#include <utility>

#include "io/ev_backend.h"
#include "io/socket.h"

namespace cxxloop::sim {

using io::Op;
using io::OpKind;
using io::OpState;

namespace {

uint32_t checksum_of(std::span<const iovec> iov) noexcept {
  uint32_t sum = 0;
  for (const iovec& part : iov) {
    const auto* const bytes = static_cast<const unsigned char*>(part.iov_base);
    for (size_t i = 0; i < part.iov_len; ++i) sum = sum * 31 + bytes[i];
  }
  return sum;
}

int32_t number_of(Result<size_t> result) noexcept {
  return result.ok() ? static_cast<int32_t>(result.value()) : -static_cast<int32_t>(result.error());
}

}  // namespace

LateBackend::~LateBackend() {
  CXL_CHECK(oldest_ == nullptr);
  while (spare_ != nullptr) delete std::exchange(spare_, spare_->next);
}

Errno LateBackend::submit(Op& op) noexcept {
  return reserve(inner_->ops_count() + 1) ? inner_->submit(op) : Errno::no_memory;
}

bool LateBackend::cancel(Op& op) noexcept {
  if (op.state == OpState::idle) return true;
  if (op.state == OpState::cancelling) return false;
  if (find_queued(op) == nullptr) {
    Pending& pending = add(op, false);
    if (op.kind == OpKind::send) {
      auto& send = static_cast<io::SendOp&>(op);
      pending.iov_count = send.gather(send, pending.iov);
    }
    CXL_CHECK(inner_->cancel(op));
  }
  op.state = OpState::cancelling;
  return false;
}

// --- records --------------------------------------------------------------------------------------------------

bool LateBackend::reserve(size_t count) noexcept {
  for (; spare_count_ < count; ++spare_count_) {
    auto* const pending = new (std::nothrow) Pending;
    if (pending == nullptr) return false;
    pending->next = std::exchange(spare_, pending);
  }
  return true;
}

LateBackend::Pending& LateBackend::add(Op& op, bool is_queued) noexcept {
  CXL_CHECK(spare_ != nullptr);
  Pending& pending = *std::exchange(spare_, spare_->next);
  --spare_count_;
  pending.next = nullptr;
  pending.op = &op;
  pending.is_queued = is_queued;
  pending.iov_count = 0;
  pending.result.reset();
  Pending** end = &oldest_;
  while (*end != nullptr) end = &(*end)->next;
  *end = &pending;
  ++pending_count_;
  if (is_asleep_) inner_->wake();  // Another thread's: it has to complete.
  return pending;
}

void LateBackend::remove(Pending& pending) noexcept {
  size_t index = 0;
  Pending** place = &oldest_;
  for (; *place != &pending; ++index) place = &(*place)->next;
  *place = pending.next;
  --pending_count_;
  if (index < ready_) --ready_;
  pending.op->state = OpState::idle;
  pending.next = std::exchange(spare_, &pending);
  ++spare_count_;
}

void LateBackend::release_memory() noexcept {
  for (; spare_count_ > inner_->ops_count(); --spare_count_) delete std::exchange(spare_, spare_->next);
  inner_->release_memory();
}

// --- sends ----------------------------------------------------------------------------------------------------

Result<size_t> LateBackend::send_now(int fd, std::span<const iovec> iov) noexcept {
  CXL_CHECK(!has_queued_send(fd));
  return inner_->send_now(fd, iov);
}

Errno LateBackend::shutdown_write(int fd) noexcept {
  CXL_CHECK(!has_queued_send(fd));
  return inner_->shutdown_write(fd);
}

io::SendResult LateBackend::try_send(io::SendOp& op, std::span<const iovec> iov) noexcept {
  CXL_CHECK(!op.in_kernel() && iov.size() <= io::SendOp::iov_max);
  if (!reserve(inner_->ops_count() + 1)) return io::SendResult::of(send_now(op.fd, iov));
  Pending& pending = add(op, true);
  std::copy(iov.begin(), iov.end(), pending.iov.begin());
  pending.iov_count = iov.size();
  op.state = OpState::armed;
  has_queued_sends_ = true;
  return io::SendResult::queued();
}

void LateBackend::hand_over() noexcept {
  has_queued_sends_ = false;
  for (Pending* pending = oldest_; pending != nullptr; pending = pending->next) {
    if (pending->is_queued) hand_over_one(*pending);
  }
}

void LateBackend::hand_over_one(Pending& pending) noexcept {
  if (pending.result.has_value()) return;
  const Op& op = *pending.op;
  pending.checksum = checksum_of(pending.bytes());
  pending.result = op.still_owned() ? number_of(inner_->send_now(op.fd, pending.bytes())) : -EBADF;
}

io::SendResult LateBackend::settle(io::SendOp& op) noexcept {
  Pending* const pending = find_queued(op);
  CXL_CHECK(pending != nullptr && op.state == OpState::armed);
  hand_over_one(*pending);
  const int32_t result = *pending->result;
  remove(*pending);
  return io::SendResult::of(result >= 0 ? Result<size_t>(static_cast<size_t>(result)) : errno_of(result));
}

LateBackend::Pending* LateBackend::find_queued(const Op& op) noexcept {
  Pending* pending = oldest_;
  while (pending != nullptr && !(pending->op == &op && pending->is_queued)) pending = pending->next;
  return pending;
}

// Of an owner that still has the number.
bool LateBackend::has_queued_send(int fd) const noexcept {
  for (const Pending* pending = oldest_; pending != nullptr; pending = pending->next) {
    const Op& op = *pending->op;
    if (pending->is_queued && op.fd == fd && op.still_owned() && !pending->result.has_value()) return true;
  }
  return false;
}

void LateBackend::Pending::check_bytes() const noexcept {
  if (is_queued) CXL_CHECK(checksum_of(bytes()) == checksum);
}

// --- completions ----------------------------------------------------------------------------------------------

Errno LateBackend::wait(Deadline deadline) noexcept {
  CXL_CHECK(ready_ == 0);
  hand_over();
  inner_->set_sleep_hooks(sleep_hooks_ != nullptr ? this : nullptr);
  const Errno error = inner_->wait(pending_count_ == 0 ? deadline : Deadline::immediate());
  hand_over();  // what another thread has queued meanwhile
  ready_ = pending_count_;
  return error;
}

void LateBackend::before_sleep() noexcept {
  is_asleep_ = true;
  sleep_hooks_->before_sleep();
}

void LateBackend::after_sleep() noexcept {
  sleep_hooks_->after_sleep();
  is_asleep_ = false;
}

bool LateBackend::dispatch_one() noexcept {
  if (ready_ == 0) return inner_->dispatch_one();
  Pending& pending = *oldest_;
  Op& op = *pending.op;
  pending.check_bytes();
  const int32_t result = pending.is_queued ? *pending.result : late_result(pending);
  remove(pending);
  op.on_complete(op, result);
  return true;
}

// Of an op that was taken back: every other time the kernel was faster, where it may be.
int32_t LateBackend::late_result(const Pending& pending) noexcept {
  Op& op = *pending.op;
  was_faster_ = !was_faster_;
  if (!was_faster_ || !op.still_owned()) return -ECANCELED;
  switch (op.kind) {
    case OpKind::poll_read:
    case OpKind::poll_write:
      return 0;
    case OpKind::send:
      return pending.iov_count == 0 ? -ECANCELED : std::max(number_of(inner_->send_now(op.fd, pending.bytes())), -ECANCELED);
    case OpKind::accept: {
      Result<int> accepted = io::accept_connection(op.fd, &static_cast<io::AcceptOp&>(op).peer);
      return accepted.ok() ? accepted.value() : -ECANCELED;
    }
    case OpKind::recv:
    case OpKind::recv_from:
      break;
  }
  return -ECANCELED;
}

void LateBackend::drain() noexcept {
  hand_over();
  while (oldest_ != nullptr) {
    oldest_->check_bytes();
    remove(*oldest_);
  }
  inner_->drain();
}

std::unique_ptr<io::Backend> make_late_backend(Errno* why) noexcept {
  std::unique_ptr<io::Backend> inner = io::make_ev_backend(why);
  if (inner == nullptr) return nullptr;
  std::unique_ptr<io::Backend> backend(new (std::nothrow) LateBackend(std::move(inner)));
  if (backend == nullptr) *why = Errno::no_memory;
  return backend;
}

}  // namespace cxxloop::sim
