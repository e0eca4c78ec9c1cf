// SPDX-License-Identifier: MIT
//
// sim/late_backend.h: a real backend that behaves as io_uring may: cancel() answers false, sends are queued, and what ended
// completes later. Everything else is libev's.
//
// It reads the bytes of a queued send and the op of a cancelled one again when they complete, so that AddressSanitizer finds
// an owner that has freed them. It is in builds with -Dtests=true only, by the name "late".
// Decision: submit() sets a record aside for the cancel() to come, which cannot say that memory is out; try_send() sends at
// once when there is no record for it, as a ring without a free entry would.
// Thread: one, except wake(), and what io/backend.h lets other threads do while wait() sleeps.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>

#include "io/backend.h"

namespace cxxloop::sim {

class LateBackend final : public io::Backend, private io::SleepHooks {
 public:
  explicit LateBackend(std::unique_ptr<io::Backend> inner) noexcept : inner_(std::move(inner)) {}
  ~LateBackend() override;

  [[nodiscard]] const char* name() const noexcept override { return "late"; }
  [[nodiscard]] Errno submit(io::Op& op) noexcept override;
  [[nodiscard]] bool cancel(io::Op& op) noexcept override;
  [[nodiscard]] Result<size_t> send_now(int fd, std::span<const iovec> iov) noexcept override;
  [[nodiscard]] Result<size_t> send_now_to(int fd, std::span<const std::byte> datagram,
                                            const io::Address* address) noexcept override {
    return inner_->send_now_to(fd, datagram, address);
  }
  [[nodiscard]] io::SendResult try_send(io::SendOp& op, std::span<const iovec> iov) noexcept override;
  [[nodiscard]] io::SendResult settle(io::SendOp& op) noexcept override;
  [[nodiscard]] Errno shutdown_write(int fd) noexcept override;
  void forget(int fd) noexcept override { inner_->forget(fd); }
  void drain() noexcept override;
  void release_memory() noexcept override;
  [[nodiscard]] Errno wait(Deadline deadline) noexcept override;
  [[nodiscard]] size_t collected() const noexcept override { return ready_ + inner_->collected(); }
  [[nodiscard]] bool has_news() const noexcept override { return pending_count_ > ready_; }
  [[nodiscard]] const io::Op* next_collected() noexcept override {
    return ready_ > 0 ? oldest_->op : inner_->next_collected();
  }
  bool dispatch_one() noexcept override;
  void wake() noexcept override { inner_->wake(); }
  [[nodiscard]] size_t ops_count() const noexcept override { return pending_count_ + inner_->ops_count(); }
  [[nodiscard]] io::BackendCounters counters() const noexcept override { return inner_->counters(); }

 private:
  // An op that the inner backend does not have: a queued send, or one that was taken back.
  struct Pending {
    Pending* next;
    io::Op* op;
    bool is_queued;
    size_t iov_count;  // of a send; else 0
    std::array<iovec, io::SendOp::iov_max> iov;
    std::optional<int32_t> result;  // of a queued send that was handed over
    uint32_t checksum;              // of its bytes then

    [[nodiscard]] std::span<const iovec> bytes() const noexcept { return {iov.data(), iov_count}; }
    void check_bytes() const noexcept;
  };

  void before_sleep() noexcept override;
  void after_sleep() noexcept override;
  void hand_over() noexcept override;
  void hand_over_one(Pending& pending) noexcept;
  [[nodiscard]] Pending* find_queued(const io::Op& op) noexcept;
  [[nodiscard]] bool has_queued_send(int fd) const noexcept;
  [[nodiscard]] int32_t late_result(const Pending& pending) noexcept;

  // Makes room for so many records. False: no memory.
  [[nodiscard]] bool reserve(size_t count) noexcept;
  // The newest record, of `op`. REQUIRES: one is reserved.
  [[nodiscard]] Pending& add(io::Op& op, bool is_queued) noexcept;
  // Its op is idle then. The record is kept for the next op.
  void remove(Pending& pending) noexcept;

  std::unique_ptr<io::Backend> inner_;
  Pending* oldest_ = nullptr;  // by `next`, down to the newest
  size_t pending_count_ = 0;
  size_t ready_ = 0;  // of these so many were pending when the last wait() ended, and are collected
  Pending* spare_ = nullptr;  // never fewer than the inner backend has ops
  size_t spare_count_ = 0;
  bool was_faster_ = false;  // True: the kernel had done the last op that was taken back
  bool is_asleep_ = false;   // True exactly between the sleep hooks: whoever calls now is another thread.
};

// nullptr: `why` tells the reason.
[[nodiscard]] std::unique_ptr<io::Backend> make_late_backend(Errno* why) noexcept;

}  // namespace cxxloop::sim
