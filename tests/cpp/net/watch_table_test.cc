// SPDX-License-Identifier: MIT
#include "net/watch_table.h"

#include <gtest/gtest.h>

#include <array>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "cpp/io/worlds.h"
#include "sim/choices.h"
#include "sim/seeds.h"

namespace cxxloop::net {
namespace {

// A table, and how often each of its watchers was called.
struct Watches {
  explicit Watches(io::Backend& backend) : table(backend, on_ready, this) {}

  // Watchers are numbered from 1; 0 stands for none.
  static void* token(size_t watcher) { return reinterpret_cast<void*>(watcher); }
  static size_t watcher(void* token) { return reinterpret_cast<size_t>(token); }

  Errno watch(int fd, Direction direction, size_t by, size_t* replaced = nullptr) {
    void* former = nullptr;
    const Errno error = table.watch(fd, direction, token(by), &former);
    if (replaced != nullptr) *replaced = watcher(former);
    return error;
  }
  size_t unwatch(int fd, Direction direction) { return watcher(table.unwatch(fd, direction)); }
  size_t who(int fd, Direction direction) const { return watcher(table.token(fd, direction)); }

  static void on_ready(void* context, void* token, int fd, Direction direction) noexcept {
    auto& self = *static_cast<Watches*>(context);
    const size_t by = watcher(token);
    if (self.calls.size() <= by) self.calls.resize(by + 1);
    ++self.calls[by];
    if (const auto react = self.then) react(by, fd, direction);
  }

  int called(size_t by) const { return by < calls.size() ? calls[by] : 0; }

  WatchTable table;
  std::vector<int> calls;
  std::function<void(size_t by, int fd, Direction direction)> then;
};

template <class W>
class WatchTableTest : public testing::Test {
 protected:
  WatchTableTest() : fds(world.make_pair()), watches(world.backend()) {}
  ~WatchTableTest() override {
    watches.unwatch(fds.near, Direction::read);
    watches.unwatch(fds.near, Direction::write);
    EXPECT_EQ(world.backend().ops_count(), 0U);
    world.forget_and_close(fds.near);
    world.forget_and_close(fds.far);
  }
  bool run_until_called(size_t by, int times) {
    return world.run_until([&] { return watches.called(by) >= times; });
  }

  W world;
  io::FdPair fds;
  Watches watches;
};

using Worlds = testing::Types<io::EvWorld, io::SimWorld, io::BenignSimWorld>;
TYPED_TEST_SUITE(WatchTableTest, Worlds);

TYPED_TEST(WatchTableTest, CallsAsLongAsTheDescriptorIsReady) {
  ASSERT_EQ(this->watches.watch(this->fds.near, Direction::read, 1), Errno::ok);
  this->world.settle();
  EXPECT_EQ(this->watches.called(1), 0);
  this->world.write(this->fds.far, "x");
  EXPECT_TRUE(this->run_until_called(1, 3));
  this->world.read(this->fds.near);
  this->world.settle();
  const int calls = this->watches.called(1);
  this->world.settle();
  EXPECT_EQ(this->watches.called(1), calls);
}

TYPED_TEST(WatchTableTest, DirectionsAreWatchedApart) {
  ASSERT_EQ(this->watches.watch(this->fds.near, Direction::read, 1), Errno::ok);
  ASSERT_EQ(this->watches.watch(this->fds.near, Direction::write, 2), Errno::ok);
  EXPECT_TRUE(this->run_until_called(2, 2));
  EXPECT_EQ(this->watches.called(1), 0);
  EXPECT_EQ(this->watches.unwatch(this->fds.near, Direction::write), 2U);
  this->world.write(this->fds.far, "x");
  EXPECT_TRUE(this->run_until_called(1, 2));
}

TYPED_TEST(WatchTableTest, KnowsWhoWatches) {
  const int fd = this->fds.near;
  EXPECT_EQ(this->watches.who(fd, Direction::read), 0U);
  EXPECT_EQ(this->watches.who(-1, Direction::read), 0U);
  ASSERT_EQ(this->watches.watch(fd, Direction::read, 1), Errno::ok);
  EXPECT_EQ(this->watches.who(fd, Direction::read), 1U);
  EXPECT_EQ(this->watches.who(fd, Direction::write), 0U);
  std::vector<std::pair<int, size_t>> all;
  this->watches.table.each([&](int watched, Direction, void* token) { all.emplace_back(watched, Watches::watcher(token)); });
  EXPECT_EQ(all, (std::vector<std::pair<int, size_t>>{{fd, 1}}));
  EXPECT_EQ(this->watches.unwatch(fd, Direction::read), 1U);
  EXPECT_EQ(this->watches.unwatch(fd, Direction::read), 0U);
}

TYPED_TEST(WatchTableTest, ASecondWatcherReplacesTheFirst) {
  ASSERT_EQ(this->watches.watch(this->fds.near, Direction::read, 1), Errno::ok);
  size_t replaced = 0;
  ASSERT_EQ(this->watches.watch(this->fds.near, Direction::read, 2, &replaced), Errno::ok);
  EXPECT_EQ(replaced, 1U);
  this->world.write(this->fds.far, "x");
  EXPECT_TRUE(this->run_until_called(2, 2));
  EXPECT_EQ(this->watches.called(1), 0);
}

TYPED_TEST(WatchTableTest, AWatcherMayReplaceOrRemoveItself) {
  this->watches.then = [this](size_t by, int fd, Direction direction) {
    if (by == 3) {
      EXPECT_EQ(this->watches.unwatch(fd, direction), 3U);
    } else {
      EXPECT_EQ(this->watches.watch(fd, direction, by + 1), Errno::ok);
    }
  };
  ASSERT_EQ(this->watches.watch(this->fds.near, Direction::read, 1), Errno::ok);
  this->world.write(this->fds.far, "x");
  EXPECT_TRUE(this->run_until_called(3, 1));
  this->world.settle();
  EXPECT_EQ(this->watches.calls, (std::vector<int>{0, 1, 1, 1}));
}

TYPED_TEST(WatchTableTest, WhatIsNoDescriptorIsRefused) {
  const io::FdPair closed = this->world.make_pair();
  this->world.forget_and_close(closed.near);
  EXPECT_EQ(this->watches.watch(closed.near, Direction::read, 1), Errno::bad_fd);
  EXPECT_EQ(this->watches.who(closed.near, Direction::read), 0U);
  this->world.forget_and_close(closed.far);
}

class WatchTableFaultTest : public testing::Test {
 protected:
  WatchTableFaultTest() : pair(backend.make_pair()), watches(backend) {}
  ~WatchTableFaultTest() override {
    backend.set_faults(sim::Faults::none());
    watches.unwatch(pair.near, Direction::read);
    turn();
  }
  void turn() {
    EXPECT_EQ(backend.wait(Deadline{backend.now_ns() + 1'000'000}), Errno::ok);
    while (backend.dispatch_one()) {
    }
  }

  sim::SimBackend backend{1};
  sim::SimBackend::Pair pair;
  Watches watches;
};

TEST_F(WatchTableFaultTest, AWatchLostInItsReplacementIsHandedBack) {
  ASSERT_EQ(watches.watch(pair.near, Direction::read, 1), Errno::ok);
  backend.set_faults({.submit_errors = 1000});
  size_t replaced = 0;
  EXPECT_EQ(watches.watch(pair.near, Direction::read, 2, &replaced), Errno::no_memory);
  EXPECT_EQ(replaced, 1U);
  EXPECT_EQ(watches.who(pair.near, Direction::read), 0U);
}

// Whatever the last completion of the former watch says.
TEST_F(WatchTableFaultTest, AWatchMadeWhileTheFormerOneIsOnItsWayOutIsKept) {
  backend.set_faults({.late_cancels = 1000});
  ASSERT_TRUE(backend.write(pair.far, "x").ok());
  for (size_t by = 1; by < 50; ++by) {
    ASSERT_EQ(watches.watch(pair.near, Direction::read, by), Errno::ok);
    for (int turns = 0; turns < 3; ++turns) turn();
    ASSERT_GT(watches.called(by), 0);
    ASSERT_TRUE(by % 2 != 0 || watches.unwatch(pair.near, Direction::read) == by);
  }
}

TEST_F(WatchTableFaultTest, AWatcherWhoCannotBeServedIsToldToLook) {
  ASSERT_EQ(watches.watch(pair.near, Direction::read, 1), Errno::ok);
  backend.set_faults({.late_cancels = 1000});
  ASSERT_EQ(watches.watch(pair.near, Direction::read, 2), Errno::ok);
  backend.set_faults({.submit_errors = 1000});
  turn();
  EXPECT_EQ(watches.called(2), 1);
}

// Watchers of both directions of two connections come, go and replace each other, in callbacks too. Whoever watches is
// called while the descriptor is ready, nobody else is, and nobody is called for what is not ready.
class WatchProgram {
 public:
  explicit WatchProgram(uint64_t seed) : backend_(seed, faults()), choices_(seed, 300), watches_(backend_) {
    backend_.set_pipe_capacity(1);
    for (int i = 0; i < 2; ++i) {
      const sim::SimBackend::Pair pair = backend_.make_pair();
      fds_.insert(fds_.end(), {pair.near, pair.far});
    }
    watches_.then = [this](size_t by, int fd, Direction direction) { on_ready(by, fd, direction); };
  }

  std::string run() {
    while (broken_.empty() && !choices_.exhausted()) {
      if (choices_.chance(500)) change_a_watch();
      if (choices_.chance(500)) move_a_byte();
      turn(Deadline{backend_.now_ns() + 1'000'000});
    }
    check_everybody_is_served();
    for (const int fd : fds_) {
      watches_.unwatch(fd, Direction::read);
      watches_.unwatch(fd, Direction::write);
    }
    for (int turns = 0; turns < 100 && backend_.ops_count() > 0; ++turns) turn(Deadline::immediate());
    check(backend_.ops_count() == 0, "no op is left in the kernel");
    return broken_;
  }

 private:
  static sim::Faults faults() {
    sim::Faults faults = sim::Faults::benign();
    faults.late_cancels = 400;
    return faults;
  }
  void check(bool kept, const char* promise) {
    if (!kept && broken_.empty()) broken_ = promise;
  }
  void turn(Deadline deadline) {
    check(backend_.wait(deadline) == Errno::ok, "wait()");
    while (broken_.empty() && backend_.dispatch_one()) {
    }
  }
  Direction any_direction() { return choices_.chance(500) ? Direction::read : Direction::write; }
  int any_fd() { return fds_[choices_.below(fds_.size())]; }

  void change_a_watch() {
    const int fd = any_fd();
    const Direction direction = any_direction();
    const size_t former = watches_.who(fd, direction);
    if (choices_.chance(300)) {
      check(watches_.unwatch(fd, direction) == former, "unwatch() gives the watcher back");
      check(watches_.who(fd, direction) == 0, "nobody watches after unwatch()");
      return;
    }
    size_t replaced = 0;
    const size_t by = ++last_watcher_;
    check(watches_.watch(fd, direction, by, &replaced) == Errno::ok, "watch()");
    check(replaced == former, "watch() gives the former watcher back");
    check(watches_.who(fd, direction) == by, "watch() hands the watch over");
  }
  // Each direction of a connection holds one byte: a sender is writable exactly when its peer is not readable.
  void move_a_byte() {
    const int fd = any_fd();
    std::array<std::byte, 1> byte;
    if (choices_.chance(500)) {
      static_cast<void>(backend_.write(fd, "x").ok());
    } else {
      static_cast<void>(backend_.read(fd, byte).ok());
    }
  }
  void on_ready(size_t by, int fd, Direction direction) {
    check(by != 0 && watches_.who(fd, direction) == by, "only who watches is called");
    if (!choices_.exhausted() && choices_.chance(300)) change_a_watch();
  }
  void check_everybody_is_served() {
    while (backend_.write(fds_[0], "x").ok()) {
    }  // fds_[1] is readable, and fds_[1], [2] and [3] are writable
    std::array<std::byte, 1> byte;
    for (size_t i = 0; i < 2; ++i) static_cast<void>(backend_.read(fds_[i == 0 ? 0 : 2], byte).ok());
    static_cast<void>(backend_.read(fds_[3], byte).ok());
    watches_.calls.clear();
    for (int turns = 0; turns < 60; ++turns) turn(Deadline::immediate());
    watches_.calls.resize(last_watcher_ + 1);
    watches_.table.each([this](int fd, Direction direction, void* token) {
      const bool ready = direction == Direction::read ? fd == fds_[1] : fd != fds_[0];
      const int calls = watches_.calls[Watches::watcher(token)];
      check(ready == (calls > 0), ready ? "a watcher is called while its descriptor is ready" : "called for nothing");
      check(!ready || calls > 5, "watches are level-triggered");
    });
  }

  sim::SimBackend backend_;
  sim::SeededChoices choices_;
  Watches watches_;
  std::vector<int> fds_;
  size_t last_watcher_ = 0;
  std::string broken_;
};

TEST(WatchTableSim, WhoeverWatchesIsServed) {
  sim::for_each_seed([](uint64_t seed) { return WatchProgram(seed).run(); });
}

}  // namespace
}  // namespace cxxloop::net
