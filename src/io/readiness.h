// SPDX-License-Identifier: MIT
//
// io/readiness.h: where readiness becomes completions: the system calls of each kind of op, as often as io/op.h promises.
//
// A base of backends that learn of readiness. `Calls` is the backend itself (no virtual call on the hot path) and has,
// private if it names this class a friend:
//   shared_buffer_size                 of the buffer for ops that name no target
//   receive(RecvOp&, span)             Result<size_t>: 0 at the end of file
//   receive_from(RecvFromOp&, span)    Result<size_t>; writes op.peer
//   accept_from(AcceptOp&)             Result<int>; writes op.peer
//   send_bytes_of(SendOp&)             Result<size_t>
//   detach(Op&)                        takes the op back, it is idle then; calls on_taken_back()
// `again` from a call means that there is nothing more: the op waits for the next readiness.
// Thread: loop thread. Python: none.
#pragma once

#include <algorithm>
#include <cerrno>
#include <limits>
#include <optional>
#include <span>
#include <utility>

#include "base/assert.h"
#include "base/page_buffer.h"
#include "base/result.h"
#include "io/backend.h"

namespace cxxloop::io {

template <class Calls>
class ReadinessBackend : public Backend {
 protected:
  // REQUIRES: `op` is armed and was collected. Its owner may destroy it.
  void complete_ready(Op& op) noexcept {
    switch (op.kind) {
      case OpKind::poll_read:
      case OpKind::poll_write:
        return op.on_complete(op, 0);
      case OpKind::recv:
        return complete_recv(static_cast<RecvOp&>(op));
      case OpKind::recv_from:
        return complete_recv_from(static_cast<RecvFromOp&>(op));
      case OpKind::accept:
        return complete_accept(static_cast<AcceptOp&>(op));
      case OpKind::send:
        return complete_send(static_cast<SendOp&>(op));
    }
  }

  // The descriptor of `op` is closed, somebody else's, or cannot be watched: one last completion, as io/op.h promises.
  void complete_failed(Op& op, Errno failure) noexcept {
    const bool polls = op.kind == OpKind::poll_read || op.kind == OpKind::poll_write;
    complete_last(op, polls ? 0 : -static_cast<int32_t>(failure));
  }

  void complete_last(Op& op, int32_t result) noexcept {
    calls().detach(op);
    op.on_complete(op, result);
  }

  // `op` was cancelled: the loop that completes it, if there is one, ends.
  void on_taken_back(const Op& op) noexcept {
    if (dispatching_ == &op) dispatching_ = nullptr;
  }

 private:
  [[nodiscard]] Calls& calls() noexcept { return static_cast<Calls&>(*this); }

  // An empty target means the shared buffer, or `nested` while a callback that turns the loop still looks at that. False: no
  // memory for it.
  [[nodiscard]] bool resolve_target(std::optional<std::span<std::byte>>& target, PageBuffer& nested) noexcept {
    if (!target->empty()) return true;
    // One buffer for the whole loop: its pages stay mapped and warm, where a fresh one of this size would cost
    // mmap, page faults and munmap for every read.
    target = (is_shared_lent_ ? nested : shared_buffer_).get(Calls::shared_buffer_size);
    return !target->empty();
  }

  void complete_recv(RecvOp& op) noexcept {
    std::optional<std::span<std::byte>> target = op.read_target(op);
    if (!target.has_value()) return;  // The op may be gone.
    const auto end = [this, &op](int32_t result) noexcept {
      // Not armed: the target function has cancelled the op. Armed again: it has submitted it again, which ends as well.
      if (op.state == OpState::armed) calls().detach(op);
      op.on_complete(op, result);
    };
    if (!op.still_owned()) return end(-EBADF);
    const bool is_lent = is_shared_lent_ || target->empty();
    PageBuffer nested;
    if (!resolve_target(target, nested)) return end(-ENOMEM);
    const size_t size_max = std::min<size_t>(target->size(), std::numeric_limits<int32_t>::max());
    Result<size_t> received = calls().receive(op, target->first(size_max));
    if (!received.ok()) {
      if (received.error() == Errno::again && op.state == OpState::armed) return;
      return end(-static_cast<int32_t>(received.error()));
    }
    if (received.value() == 0) return end(0);
    op.data = target->data();
    const bool was_lent = std::exchange(is_shared_lent_, is_lent);
    op.on_complete(op, static_cast<int32_t>(received.value()));
    is_shared_lent_ = was_lent;
  }

  void complete_recv_from(RecvFromOp& op) noexcept {
    CXL_ASSERT(dispatching_ == nullptr);
    dispatching_ = &op;
    op.received = 0;
    PageBuffer nested;
    while (dispatching_ == &op) {
      std::optional<std::span<std::byte>> target = op.read_target(op);
      if (!target.has_value() || dispatching_ != &op) break;
      if (!op.still_owned()) {
        complete_last(op, -EBADF);
        break;
      }
      Result<size_t> received = resolve_target(target, nested) ? calls().receive_from(op, *target) : Errno::no_memory;
      if (!received.ok()) {
        if (received.error() != Errno::again) op.on_complete(op, -static_cast<int32_t>(received.error()));
        break;
      }
      ++op.received;
      op.data = target->data();
      op.on_complete(op, static_cast<int32_t>(received.value()));
    }
    dispatching_ = nullptr;
  }

  void complete_accept(AcceptOp& op) noexcept {
    CXL_ASSERT(dispatching_ == nullptr);
    dispatching_ = &op;
    const uint32_t accepts_max = op.accepts_max;
    for (uint32_t i = 0; i < accepts_max && dispatching_ == &op; ++i) {
      if (!op.still_owned()) {
        complete_last(op, -EBADF);
        break;
      }
      Result<int> accepted = calls().accept_from(op);
      if (accepted.ok()) {
        op.on_complete(op, accepted.value());
        continue;
      }
      if (accepted.error() == Errno::conn_aborted) continue;  // The client left while it was queued.
      if (accepted.error() != Errno::again) op.on_complete(op, -static_cast<int32_t>(accepted.error()));
      break;
    }
    dispatching_ = nullptr;
  }

  void complete_send(SendOp& op) noexcept {
    Result<size_t> sent = calls().send_bytes_of(op);
    if (sent.ok()) return complete_last(op, static_cast<int32_t>(sent.value()));
    if (sent.error() != Errno::again) complete_last(op, -static_cast<int32_t>(sent.error()));
  }

  Op* dispatching_ = nullptr;  // the op that may complete several times in this dispatch; on_taken_back() clears it
  PageBuffer shared_buffer_;
  bool is_shared_lent_ = false;  // True exactly while a callback may look at received bytes in the shared buffer
};

}  // namespace cxxloop::io
