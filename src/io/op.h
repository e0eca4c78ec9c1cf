// SPDX-License-Identifier: MIT
//
// io/op.h: one request to the kernel and the place its completions go.
//
// Thread: loop thread.  Python: none.  Owns: nothing; an Op belongs to the object above it (a Stream holds one RecvOp
// and one SendOp) and must stay where it is while a backend has it.
#pragma once

#include <sys/socket.h>
#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "base/assert.h"
#include "io/address.h"

namespace cxxloop::io {

enum class OpKind : uint8_t {
  poll_read,   // completes while fd is readable, errored or hung up; result: 0
  poll_write,  // completes while fd is writable, errored or hung up; result: 0
  recv,        // RecvOp; result: bytes received, 0 at end of file, or -errno
  recv_from,   // RecvFromOp; result: size of a datagram, 0 for an empty one, or -errno
  accept,      // AcceptOp; result: an accepted, non-blocking, close-on-exec descriptor, or -errno
  send,        // SendOp; result: bytes sent or -errno
};

// idle -> armed (submit) -> idle (last completion or successful cancel); armed -> cancelling (cancel() == false) -> idle.
enum class OpState : uint8_t { idle, armed, cancelling };

// poll_*, recv, recv_from and accept go on completing until they are cancelled ("multishot"); send completes once.
// Level-triggered: what was not consumed completes again; a poll completes at most once per wait(). recv also ends by
// itself after a result <= 0; recv_from does not, because the errors of a datagram socket tell of one datagram. Every op
// ends when its descriptor was closed behind the backend's back, or is not its owner's any more (still_owned()): one last
// completion, of 0 for polls and -EBADF for the others. An op that has ended is idle already when on_complete is called.
struct Op {
  using CompleteFn = void (*)(Op&, int32_t result) noexcept;

  Op(OpKind kind_of_op, void* owner_of_op, CompleteFn callback) noexcept
      : on_complete(callback), owner(owner_of_op), kind(kind_of_op) {}
  Op(const Op&) = delete;
  Op& operator=(const Op&) = delete;
  ~Op() { CXL_ASSERT(state == OpState::idle); }

  [[nodiscard]] bool in_kernel() const noexcept { return state != OpState::idle; }
  [[nodiscard]] bool reads() const noexcept {
    return kind == OpKind::poll_read || kind == OpKind::recv || kind == OpKind::recv_from || kind == OpKind::accept;
  }

  CompleteFn on_complete;  // called by Backend::dispatch only; may cancel, resubmit or destroy the op
  void* owner;             // for on_complete
  // False: somebody else has closed the descriptor, and its number may be another connection's by now.
  [[nodiscard]] bool still_owned() const noexcept { return fd_witness == nullptr || *fd_witness == fd; }

  const int* fd_witness = nullptr;  // where the owner of the descriptor keeps its number; null: nowhere to be seen
  int fd = -1;                    // borrowed
  OpKind kind;
  OpState state = OpState::idle;    // written by the backend
  int32_t batch_index = -1;         // True exactly when >= 0: collected and not yet dispatched. Written by the backend.
};

struct RecvOp : Op {
  // Where the next bytes go. An empty span: the backend's own buffer. nullopt: skip this read; the op may have
  // been destroyed. A target function that cancels its op and returns a span still gets this one read, which completes
  // in any case: with -EAGAIN if there was nothing.
  using TargetFn = std::optional<std::span<std::byte>> (*)(RecvOp&) noexcept;

  RecvOp(void* owner_of_op, CompleteFn callback, TargetFn target) noexcept
      : Op(OpKind::recv, owner_of_op, callback), read_target(target) {}

  TargetFn read_target;
  const std::byte* data = nullptr;  // the received bytes, valid during on_complete only
};

struct RecvFromOp : Op {
  // As RecvOp's, asked before each datagram: one readiness completes until there is no target, no datagram, an error,
  // or the op was taken back.
  using TargetFn = std::optional<std::span<std::byte>> (*)(RecvFromOp&) noexcept;

  RecvFromOp(void* owner_of_op, CompleteFn callback, TargetFn target) noexcept
      : Op(OpKind::recv_from, owner_of_op, callback), read_target(target) {}

  TargetFn read_target;
  uint32_t received = 0;            // datagrams of this readiness so far. Written by the backend.
  const std::byte* data = nullptr;  // the datagram, cut off at the target's end; valid during on_complete only
  Address peer;                     // who sent it; valid during on_complete only
};

struct AcceptOp : Op {
  AcceptOp(void* owner_of_op, CompleteFn callback) noexcept : Op(OpKind::accept, owner_of_op, callback) {}

  uint32_t accepts_max = 1;  // at most this many connections per readiness (asyncio: backlog)
  // The accepted connection's address, valid during on_complete only. Size 0: the backend does not know it, ask
  // getpeername().
  Address peer;
};

// An op that try_send() has queued completes once, as soon as the kernel was asked: with -EAGAIN when it was full.
// One that was submitted waits for room.
struct SendOp : Op {
  static constexpr size_t iov_max = 64;
  // Describes the bytes of a submitted op: fills `iov` and returns how many entries it filled. Asked once per submit(), at
  // any time between submit() and the completion, but not after cancel(). The bytes stay valid until the completion.
  using GatherFn = size_t (*)(SendOp&, std::span<iovec> iov) noexcept;

  SendOp(void* owner_of_op, CompleteFn callback, GatherFn gather_bytes) noexcept
      : Op(OpKind::send, owner_of_op, callback), gather(gather_bytes) {}

  GatherFn gather;
};

}  // namespace cxxloop::io
