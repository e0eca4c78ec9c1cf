// SPDX-License-Identifier: MIT
#include "base/parking_flag.h"

#include <gtest/gtest.h>

#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#include "base/mpsc_queue.h"

namespace cxxloop {
namespace {

TEST(ParkingFlag, NobodyWakesAConsumerThatDoesNotSleep) {
  ParkingFlag flag;
  EXPECT_FALSE(flag.take_wake_duty());
}

TEST(ParkingFlag, ExactlyOneProducerWakesAParkedConsumer) {
  ParkingFlag flag;
  ASSERT_TRUE(flag.try_park([] { return true; }));
  EXPECT_TRUE(flag.take_wake_duty());
  EXPECT_FALSE(flag.take_wake_duty());
}

TEST(ParkingFlag, ParkingIsRefusedWhileThereIsWork) {
  ParkingFlag flag;
  EXPECT_FALSE(flag.try_park([] { return false; }));
  EXPECT_FALSE(flag.take_wake_duty());
}

TEST(ParkingFlag, UnparkEndsTheDuty) {
  ParkingFlag flag;
  ASSERT_TRUE(flag.try_park([] { return true; }));
  flag.unpark();
  EXPECT_FALSE(flag.take_wake_duty());
}

// A sleep that only a wake-up ends: a lost one hangs the test.
class Bed {
 public:
  void sleep() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return wakes_ > 0; });
    --wakes_;
  }
  void wake() {
    const std::lock_guard lock(mutex_);
    ++wakes_;
    changed_.notify_one();
  }
  int unused_wakes() {
    const std::lock_guard lock(mutex_);
    return wakes_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  int wakes_ = 0;
};

TEST(ParkingFlag, LosesNoWakeUpAndMakesNoneInVain) {
  constexpr size_t producers = 3;
  constexpr size_t per_producer = 30'000;
  MpscQueue queue;
  ParkingFlag flag;
  Bed bed;
  std::vector<std::vector<MpscNode>> nodes;
  for (size_t p = 0; p < producers; ++p) nodes.emplace_back(per_producer);
  std::vector<std::thread> threads;
  for (size_t p = 0; p < producers; ++p) {
    threads.emplace_back([&, &mine = nodes[p]] {
      for (MpscNode& node : mine) {
        queue.push(&node);
        if (flag.take_wake_duty()) bed.wake();
        if ((&node - mine.data()) % 16 == 0) std::this_thread::yield();
      }
    });
  }
  int refusals = 0;
  for (size_t popped = 0; popped < producers * per_producer;) {
    while (queue.pop() != nullptr) ++popped;
    if (popped == producers * per_producer) break;
    if (flag.try_park([&] { return queue.empty(); })) {
      bed.sleep();
      flag.unpark();
    } else {
      ++refusals;
    }
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_TRUE(queue.empty());
  EXPECT_FALSE(flag.take_wake_duty());
  // Each announcement earns at most one wake-up, and each sleep has used one.
  EXPECT_LE(bed.unused_wakes(), refusals);
}

}  // namespace
}  // namespace cxxloop
