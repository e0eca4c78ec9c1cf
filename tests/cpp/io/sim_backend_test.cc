// SPDX-License-Identifier: MIT
#include "sim/sim_backend.h"

#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <vector>

namespace cxxloop::sim {
namespace {

// Sends a text from one end of a connection to the other, with every fault there is, and retells what happened.
class Transfer {
 public:
  Transfer(uint64_t seed, Faults faults) : backend_(seed, faults), pair_(backend_.make_pair()) {
    for (int i = 0; i < 3000; ++i) text_ += std::to_string(i) + ' ';
    recv_.fd = pair_.far;
    send_.fd = pair_.near;
    backend_.set_pipe_capacity(1000);
  }
  ~Transfer() {
    for (io::Op* const op : {static_cast<io::Op*>(&recv_), static_cast<io::Op*>(&send_)}) {
      if (!backend_.cancel(*op)) {
        while (op->in_kernel()) turn();
      }
    }
  }

  void run() {
    for (int turns = 0; turns < 200'000 && !failed_ && received_.size() < text_.size(); ++turns) {
      if (!recv_.in_kernel()) submit(recv_);
      if (!send_.in_kernel() && sent_ < text_.size()) {
        submit(send_);
      }
      turn();
      for (io::Op* const op : {static_cast<io::Op*>(&recv_), static_cast<io::Op*>(&send_)}) {
        if (backend_.random().chance(50)) static_cast<void>(backend_.cancel(*op));
      }
    }
  }

  [[nodiscard]] bool complete() const { return received_ == text_; }
  [[nodiscard]] bool failed() const { return failed_; }
  // What arrived is the beginning of what was sent, nothing lost, doubled or out of place.
  [[nodiscard]] bool exact() const {
    return std::string_view(text_).substr(0, received_.size()) == received_ && received_.size() <= sent_;
  }
  [[nodiscard]] const std::vector<int32_t>& history() const { return history_; }

 private:
  void submit(io::Op& op) {
    const Errno error = backend_.submit(op);
    EXPECT_TRUE(error == Errno::ok || error == Errno::no_memory);
  }
  void turn() {
    EXPECT_EQ(backend_.wait(Deadline{backend_.now_ns() + 1'000'000}), Errno::ok);
    while (backend_.dispatch_one()) {
    }
  }
  static size_t gather(io::SendOp& op, std::span<iovec> iov) noexcept {
    auto& self = *static_cast<Transfer*>(op.owner);
    iov[0] = {self.text_.data() + self.sent_, self.text_.size() - self.sent_};
    return 1;
  }
  static std::optional<std::span<std::byte>> target(io::RecvOp&) noexcept { return std::span<std::byte>(); }
  static void on_received(io::Op& op, int32_t result) noexcept {
    auto& self = *static_cast<Transfer*>(op.owner);
    self.history_.push_back(result);
    if (result > 0) {
      const auto* const bytes = reinterpret_cast<const char*>(static_cast<io::RecvOp&>(op).data);
      self.received_.append(bytes, static_cast<size_t>(result));
    } else if (result != -ECANCELED) {
      self.failed_ = true;
    }
  }
  static void on_sent(io::Op& op, int32_t result) noexcept {
    auto& self = *static_cast<Transfer*>(op.owner);
    self.history_.push_back(result);
    if (result > 0) {
      self.sent_ += static_cast<size_t>(result);
    } else if (result != -ECANCELED) {
      self.failed_ = true;
    }
  }

  SimBackend backend_;
  SimBackend::Pair pair_;
  std::string text_;
  std::string received_;
  size_t sent_ = 0;
  bool failed_ = false;
  std::vector<int32_t> history_;
  io::RecvOp recv_{this, on_received, target};
  io::SendOp send_{this, on_sent, gather};
};

TEST(SimBackend, ASeedIsAHistory) {
  Transfer first(7, Faults::harsh());
  Transfer second(7, Faults::harsh());
  Transfer other(8, Faults::harsh());
  first.run();
  second.run();
  other.run();
  EXPECT_EQ(first.history(), second.history());
  EXPECT_NE(first.history(), other.history());
}

TEST(SimBackend, NothingIsLostWhateverIsCancelled) {
  Faults faults = Faults::benign();
  faults.late_cancels = 500;
  faults.submit_errors = 20;
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    Transfer transfer(seed, faults);
    transfer.run();
    ASSERT_TRUE(transfer.complete());
  }
}

TEST(SimBackend, ABrokenConnectionBreaksBothWaysAndInventsNothing) {
  int broken = 0;
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    Transfer transfer(seed, Faults::harsh());
    transfer.run();
    ASSERT_TRUE(transfer.failed() || transfer.complete());
    ASSERT_TRUE(transfer.exact());
    broken += transfer.failed() ? 1 : 0;
  }
  EXPECT_GT(broken, 0);
}

TEST(SimBackend, EventsHappenAtTheirTime) {
  SimBackend backend(1);
  const int64_t start_ns = backend.now_ns();
  std::vector<int> order;
  backend.schedule(2'000'000, [&] { order.push_back(2); });
  backend.schedule(1'000'000, [&] { order.push_back(1); });
  ASSERT_EQ(backend.wait(Deadline{start_ns + 1'500'000}), Errno::ok);
  EXPECT_EQ(order, std::vector<int>{1});
  ASSERT_EQ(backend.wait(Deadline{start_ns + 3'000'000}), Errno::ok);
  EXPECT_EQ(order, (std::vector<int>{1, 2}));
  EXPECT_GE(backend.now_ns(), start_ns + 3'000'000);
}

TEST(SimBackend, SaysWhenARealWaitWouldNeverEnd) {
  SimBackend backend(1);
  ASSERT_EQ(backend.wait(Deadline::never()), Errno::ok);
  EXPECT_TRUE(backend.stalled());
  backend.wake();
  ASSERT_EQ(backend.wait(Deadline::never()), Errno::ok);
  EXPECT_FALSE(backend.stalled());
}

TEST(SimBackend, AListenerThatClosesHangsUpOnWhoeverWaits) {
  SimBackend backend(1);
  const int listener = backend.make_listener();
  const int client = backend.connect(listener);
  backend.forget(listener);
  std::array<std::byte, 1> byte;
  Result<size_t> size = backend.read(client, byte);
  ASSERT_TRUE(size.ok());
  EXPECT_EQ(size.value(), 0U);
}

}  // namespace
}  // namespace cxxloop::sim
