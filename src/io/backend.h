// SPDX-License-Identifier: MIT
//
// io/backend.h: the contract between the loop and the kernel: collect, then dispatch.
//
// Decision: wait() only collects and dispatch() only calls back, because the loop must be able to give the GIL away
// around the first and hold it around the second, and because a callback may cancel, close or destroy anything.
// A backend that learns of readiness (epoll, kqueue) makes the recv/accept/send system call inside dispatch(), so that
// bytes go straight to where the protocol wants them; one that learns of completions (io_uring) made it long before.
// Decision: a backend serves channels (net/channel.h) and polls. Calls that try first and wait with a poll go to
// io/socket.h and io/pipe.h by the descriptor's number and past the backend: sock_* and the pipe transports.
// Thread: loop thread, except wake(). While wait() sleeps, another thread that holds what the sleep hooks have given away
// (the GIL) may call all but wait() and dispatch_one(): what it submits takes effect at once. wait() may come from another
// thread than the last one: a backend that is bound to a thread rebuilds its poller then, as after a fork. In a forked
// child an op that was out in the parent is out in the copy.
// Python: none.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/clock.h"
#include "base/errno.h"
#include "base/result.h"
#include "io/op.h"

namespace cxxloop::io {

// What a backend has done since it was made, for tests and diagnostics.
struct BackendCounters {
  int64_t waits = 0;           // calls of wait()
  int64_t blocking_waits = 0;  // those that were allowed to sleep
  int64_t wake_writes = 0;     // system calls that wake() made
  int64_t timer_arms = 0;      // system calls that set a kernel timer
};

// What a backend stands on, for build_info().
struct BackendBase {
  const char* library;
  int version_major;
  int version_minor;
  const char* poller;  // the kernel interface that the library drives: "epoll"
};

// What became of the bytes that try_send() was given.
class [[nodiscard]] SendResult {
 public:
  // The kernel has taken so many, perhaps fewer than there were.
  static SendResult sent(size_t bytes) noexcept { return SendResult(bytes, Errno::ok); }
  // None: the kernel has no room. submit() waits for some.
  static SendResult full() noexcept { return SendResult(0, Errno::again); }
  // The op is in the kernel, and its completion will tell.
  static SendResult queued() noexcept { return SendResult(0, Errno::in_progress); }
  static SendResult of(Result<size_t> result) noexcept {
    return result.ok() ? sent(result.value()) : SendResult(0, result.error());
  }

  [[nodiscard]] bool is_sent() const noexcept { return error_ == Errno::ok; }
  [[nodiscard]] bool is_full() const noexcept { return error_ == Errno::again; }
  [[nodiscard]] bool is_queued() const noexcept { return error_ == Errno::in_progress; }
  // REQUIRES: is_sent().
  [[nodiscard]] size_t bytes() const noexcept { return bytes_; }
  // Why the send has failed, if it is none of the three.
  [[nodiscard]] Errno error() const noexcept { return error_; }

 private:
  SendResult(size_t bytes, Errno error) noexcept : bytes_(bytes), error_(error) {}

  size_t bytes_;
  Errno error_;
};

// Called around the system call of a wait() that may sleep, and only around that: the GIL is given away in between.
// Everything else of wait(), the registration of descriptors in particular, runs with the GIL held, so that no Python
// thread can close a descriptor in the middle of it.
class SleepHooks {
 public:
  virtual void before_sleep() noexcept = 0;
  virtual void after_sleep() noexcept = 0;

 protected:
  ~SleepHooks() = default;
};

class Backend {
 public:
  Backend() = default;
  Backend(const Backend&) = delete;
  Backend& operator=(const Backend&) = delete;
  virtual ~Backend() = default;  // REQUIRES: no op is in_kernel()

  // A short name for build_info() and logs: "libev", "io_uring", "simulator".
  [[nodiscard]] virtual const char* name() const noexcept = 0;

  // Queue `op` on op.fd. The op and its buffers stay valid until its last completion or a cancel() that returns true.
  // REQUIRES: !op.in_kernel(). Fails at the call: bad_fd, not_permitted (a regular file or directory cannot be polled),
  // exists (another op of the same direction is on the fd), no_memory. An op that does not own the fd any more is no
  // reason: it makes room, and completes a last time after the next wait().
  [[nodiscard]] virtual Errno submit(Op& op) noexcept = 0;

  // Take `op` back. True: it is idle now and will not complete any more, a collected completion included (readiness
  // backends: always). False: one last completion will come, with ECANCELED or its real result. Idle ops: true.
  // A recv taken back always ends with ECANCELED: bytes that arrived meanwhile belong to the fd's next recv op.
  [[nodiscard]] virtual bool cancel(Op& op) noexcept = 0;

  // Send now what can be sent without waiting: the number of bytes, or again: the kernel is full.
  // REQUIRES: no send is queued on `fd`.
  [[nodiscard]] virtual Result<size_t> send_now(int fd, std::span<const iovec> iov) noexcept = 0;
  // As send_now(), one datagram to `address`; null: to the connected peer.
  [[nodiscard]] virtual Result<size_t> send_now_to(int fd, std::span<const std::byte> datagram,
                                                   const Address* address) noexcept = 0;
  // As send_now() on op.fd; or, in a backend that prefers batches, queued: `op` is in the kernel and completes as op.h
  // says. The bytes stay valid until then; `iov` itself need not. REQUIRES: !op.in_kernel(), no send is queued on op.fd.
  [[nodiscard]] virtual SendResult try_send(SendOp& op, std::span<const iovec> iov) noexcept {
    return SendResult::of(send_now(op.fd, iov));
  }
  // Hand over to the kernel what try_send() has queued; wait() does the same. The end of each callback calls it, or a slow
  // callback could delay what the one before it has written.
  void flush() noexcept {
    if (has_queued_sends_) hand_over();
  }
  // Ask the kernel now about a send that try_send() has queued: sent, full, or an error. It does not complete any more.
  // Owners call it when they must know as early as after send_now(): before they close, half-close, or count.
  // REQUIRES: `op` is queued, and was not cancelled.
  [[nodiscard]] virtual SendResult settle(SendOp& op) noexcept {
    static_cast<void>(op);
    CXL_CHECK(false);  // Nothing is ever queued in this backend.
    return SendResult::full();
  }
  // Half-close: no more sends.
  [[nodiscard]] virtual Errno shutdown_write(int fd) noexcept = 0;
  // The owner is about to close `fd`: drop whatever is cached for it. REQUIRES: none of the owner's ops on it. There may be
  // some of the number's next owner, if somebody else has closed the descriptor before.
  virtual void forget(int fd) noexcept = 0;

  // Take every op back, and sleep until the kernel has let go of the last one. Calls nobody: what is collected is dropped,
  // descriptors accepted meanwhile are closed, queued sends are sent as far as there is room. No op is in_kernel() then.
  // The end of a loop calls it before it frees anything that an op points to. REQUIRES: not inside dispatch_one().
  virtual void drain() noexcept = 0;

  // Give back memory that is kept for the most descriptors and ops there have been, unless completions are collected.
  virtual void release_memory() noexcept {}

  // At most one; null: none. It outlives the backend or is taken back.
  void set_sleep_hooks(SleepHooks* hooks) noexcept { sleep_hooks_ = hooks; }
  // Sleep until `deadline` (never early by the clock; late by microseconds), a completion, or wake(). Collects into
  // the batch; runs no callback; needs no GIL. EINTR returns ok with whatever there is. REQUIRES: the batch is empty.
  [[nodiscard]] virtual Errno wait(Deadline deadline) noexcept = 0;
  // The clock of deadlines.
  [[nodiscard]] virtual int64_t now_ns() const noexcept { return monotonic_ns(); }
  // Number of collected completions that were not dispatched yet (cancelled ones may count).
  [[nodiscard]] virtual size_t collected() const noexcept = 0;
  // True: wait() would collect something, as a look at memory shows, without a system call. A backend that cannot tell
  // answers false: a readiness backend has to ask the kernel.
  [[nodiscard]] virtual bool has_news() const noexcept { return false; }
  // The op that dispatch_one() will call back next; null: the batch is used up.
  [[nodiscard]] virtual const Op* next_collected() noexcept = 0;
  // Call back the oldest collected completion. False: the batch is used up.
  // Runs the owner: it may do anything, destroying the op included, and call any method here but wait() and
  // dispatch_one().
  virtual bool dispatch_one() noexcept = 0;

  // Make the current or next wait() return. Any thread, async-signal-safe; several calls cost one wake-up.
  virtual void wake() noexcept = 0;
  // Number of ops submitted and not idle.
  [[nodiscard]] virtual size_t ops_count() const noexcept = 0;
  [[nodiscard]] virtual BackendCounters counters() const noexcept = 0;

 protected:
  virtual void hand_over() noexcept {}

  SleepHooks* sleep_hooks_ = nullptr;
  bool has_queued_sends_ = false;  // True exactly when hand_over() has something to do
};

}  // namespace cxxloop::io
