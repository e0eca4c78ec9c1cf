// SPDX-License-Identifier: MIT
#include "net/watch_table.h"

#include <gtest/gtest.h>

#include <utility>
#include <vector>

#include "cpp/io/worlds.h"
#include "cpp/net/watch_program.h"
#include "sim/seeds.h"

namespace cxxloop::net {
namespace {

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

TEST(WatchTableSim, WhoeverWatchesIsServed) {
  sim::for_each_seed([](uint64_t seed) {
    sim::SeededChoices choices(seed, 300);
    return WatchProgram(seed, choices).run();
  });
}

}  // namespace
}  // namespace cxxloop::net
