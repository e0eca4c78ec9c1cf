// SPDX-License-Identifier: MIT
#include "sim/late_backend.h"

#include <algorithm>
#include <utility>

#include "io/ev_backend.h"
#include "io/socket.h"

namespace cxxloop::sim {

using io::Op;
using io::OpKind;
using io::OpState;

namespace {

uint32_t checksum_of(const std::vector<iovec>& iov) noexcept {
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

LateBackend::~LateBackend() { CXL_CHECK(pending_.empty()); }

bool LateBackend::cancel(Op& op) noexcept {
  if (op.state == OpState::idle) return true;
  if (op.state == OpState::cancelling) return false;
  if (find_queued(op) == nullptr) {
    Pending pending{&op, false, {}, std::nullopt, 0};
    if (op.kind == OpKind::send) {
      auto& send = static_cast<io::SendOp&>(op);
      pending.iov.resize(io::SendOp::iov_max);
      pending.iov.resize(send.gather(send, pending.iov));
    }
    CXL_CHECK(inner_->cancel(op));
    pending_.push_back(std::move(pending));
  }
  op.state = OpState::cancelling;
  return false;
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
  CXL_CHECK(!op.in_kernel());
  pending_.push_back({&op, true, {iov.begin(), iov.end()}, std::nullopt, 0});
  op.state = OpState::armed;
  has_queued_sends_ = true;
  return io::SendResult::queued();
}

void LateBackend::hand_over() noexcept {
  has_queued_sends_ = false;
  for (Pending& pending : pending_) {
    if (pending.is_queued) hand_over_one(pending);
  }
}

void LateBackend::hand_over_one(Pending& pending) noexcept {
  if (pending.result.has_value()) return;
  const Op& op = *pending.op;
  pending.checksum = checksum_of(pending.iov);
  pending.result = op.still_owned() ? number_of(inner_->send_now(op.fd, pending.iov)) : -EBADF;
}

io::SendResult LateBackend::settle(io::SendOp& op) noexcept {
  Pending* const pending = find_queued(op);
  CXL_CHECK(pending != nullptr && op.state == OpState::armed);
  hand_over_one(*pending);
  const int32_t result = *pending->result;
  remove(op);
  return io::SendResult::of(result >= 0 ? Result<size_t>(static_cast<size_t>(result)) : errno_of(result));
}

LateBackend::Pending* LateBackend::find_queued(const Op& op) noexcept {
  const auto found = std::find_if(pending_.begin(), pending_.end(),
                                  [&op](const Pending& pending) { return pending.op == &op && pending.is_queued; });
  return found == pending_.end() ? nullptr : &*found;
}

// Of an owner that still has the number.
bool LateBackend::has_queued_send(int fd) const noexcept {
  return std::any_of(pending_.begin(), pending_.end(), [fd](const Pending& pending) {
    return pending.is_queued && pending.op->fd == fd && pending.op->still_owned() && !pending.result.has_value();
  });
}

void LateBackend::remove(const Op& op) noexcept {
  const auto found = std::find_if(pending_.begin(), pending_.end(), [&op](const Pending& pending) { return pending.op == &op; });
  if (static_cast<size_t>(found - pending_.begin()) < ready_) --ready_;
  found->op->state = OpState::idle;
  pending_.erase(found);
}

// --- completions ----------------------------------------------------------------------------------------------

Errno LateBackend::wait(Deadline deadline) noexcept {
  CXL_CHECK(ready_ == 0);
  hand_over();
  inner_->set_sleep_hooks(sleep_hooks_);
  const Errno error = inner_->wait(pending_.empty() ? deadline : Deadline::immediate());
  ready_ = pending_.size();
  return error;
}

bool LateBackend::dispatch_one() noexcept {
  if (ready_ == 0) return inner_->dispatch_one();
  const Pending pending = pending_.front();
  const int32_t result = pending.is_queued ? *pending.result : late_result(pending);
  if (pending.is_queued) CXL_CHECK(checksum_of(pending.iov) == pending.checksum);
  remove(*pending.op);
  pending.op->on_complete(*pending.op, result);
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
      return pending.iov.empty() ? -ECANCELED : std::max(number_of(inner_->send_now(op.fd, pending.iov)), -ECANCELED);
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
  while (!pending_.empty()) {
    const Pending& pending = pending_.back();
    if (pending.is_queued) CXL_CHECK(checksum_of(pending.iov) == pending.checksum);
    remove(*pending.op);
  }
  inner_->drain();
}

std::unique_ptr<io::Backend> make_late_backend(Errno* why) noexcept {
  std::unique_ptr<io::Backend> inner = io::make_ev_backend(why);
  if (inner == nullptr) return nullptr;
  return std::make_unique<LateBackend>(std::move(inner));
}

}  // namespace cxxloop::sim
