// SPDX-License-Identifier: MIT
//
// sim/late_backend.h: a real backend that behaves as io_uring may: cancel() answers false, sends are queued, and what ended
// completes later. Everything else is libev's.
//
// It reads the bytes of a queued send and the op of a cancelled one again when they complete, so that AddressSanitizer finds
// an owner that has freed them. It is in builds with -Dtests=true only, by the name "late".
// Thread: one, except wake().
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "io/backend.h"

namespace cxxloop::sim {

class LateBackend final : public io::Backend {
 public:
  explicit LateBackend(std::unique_ptr<io::Backend> inner) noexcept : inner_(std::move(inner)) {}
  ~LateBackend() override;

  [[nodiscard]] const char* name() const noexcept override { return "late"; }
  [[nodiscard]] Errno submit(io::Op& op) noexcept override { return inner_->submit(op); }
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
  void release_memory() noexcept override { inner_->release_memory(); }
  [[nodiscard]] Errno wait(Deadline deadline) noexcept override;
  [[nodiscard]] size_t collected() const noexcept override { return ready_ + inner_->collected(); }
  [[nodiscard]] bool has_news() const noexcept override { return pending_.size() > ready_; }
  [[nodiscard]] const io::Op* next_collected() noexcept override {
    return ready_ > 0 ? pending_.front().op : inner_->next_collected();
  }
  bool dispatch_one() noexcept override;
  void wake() noexcept override { inner_->wake(); }
  [[nodiscard]] size_t ops_count() const noexcept override { return pending_.size() + inner_->ops_count(); }
  [[nodiscard]] io::BackendCounters counters() const noexcept override { return inner_->counters(); }

 private:
  // An op that the inner backend does not have: a queued send, or one that was taken back.
  struct Pending {
    io::Op* op;
    bool is_queued;
    std::vector<iovec> iov;         // of a send
    std::optional<int32_t> result;  // of a queued send that was handed over
    uint32_t checksum;              // of its bytes then
  };

  void hand_over() noexcept override;
  void hand_over_one(Pending& pending) noexcept;
  [[nodiscard]] Pending* find_queued(const io::Op& op) noexcept;
  [[nodiscard]] bool has_queued_send(int fd) const noexcept;
  [[nodiscard]] int32_t late_result(const Pending& pending) noexcept;
  void remove(const io::Op& op) noexcept;

  std::unique_ptr<io::Backend> inner_;
  std::vector<Pending> pending_;  // the oldest first
  size_t ready_ = 0;              // of these so many were pending when the last wait() ended, and are collected
  bool was_faster_ = false;       // True: the kernel had done the last op that was taken back
};

// nullptr: `why` tells the reason.
[[nodiscard]] std::unique_ptr<io::Backend> make_late_backend(Errno* why) noexcept;

}  // namespace cxxloop::sim
