// SPDX-License-Identifier: MIT
#include "base/ring_queue.h"

#include <gtest/gtest.h>

#include <deque>

#include "sim/random.h"

namespace cxxloop {
namespace {

TEST(RingQueue, KeepsOrderAcrossGrowthAndWrapAround) {
  RingQueue<int> queue;
  int in = 0;
  int out = 0;
  for (int round = 0; round < 50; ++round) {
    for (int i = 0; i < 37; ++i) ASSERT_TRUE(queue.push_back(in++));
    for (int i = 0; i < 31; ++i) ASSERT_EQ(queue.pop_front(), out++);
  }
  EXPECT_EQ(queue.size(), static_cast<size_t>(in - out));
}

TEST(RingQueue, IndexCountsFromTheFront) {
  RingQueue<int> queue;
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(queue.push_back(i));
  for (int i = 0; i < 5; ++i) queue.pop_front();
  for (size_t i = 0; i < queue.size(); ++i) EXPECT_EQ(queue[i], static_cast<int>(i) + 5);
  EXPECT_EQ(queue.front(), 5);
}

TEST(RingQueue, BehavesAsADeque) {
  for (uint64_t seed = 1; seed <= 30; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    sim::Random random(seed);
    RingQueue<uint64_t> queue;
    std::deque<uint64_t> model;
    for (int step = 0; step < 300; ++step) {
      const bool grows = random.chance(500);
      for (size_t count = random.below(200); count > 0; --count) {
        if (grows) {
          const uint64_t value = random.next();
          const bool in_front = random.chance(100);
          ASSERT_TRUE(in_front ? queue.push_front(value) : queue.push_back(value));
          in_front ? model.push_front(value) : model.push_back(value);
        } else if (!model.empty()) {
          ASSERT_EQ(queue.pop_front(), model.front());
          model.pop_front();
        }
      }
      ASSERT_EQ(queue.size(), model.size());
      for (size_t i = 0; i < model.size(); i += 7) ASSERT_EQ(queue[i], model[i]);
    }
  }
}

TEST(RingQueue, ShrinksWhenItIsTold) {
  RingQueue<int> queue;
  for (int i = 0; i < 100'000; ++i) ASSERT_TRUE(queue.push_back(i));
  while (!queue.empty()) queue.pop_front();
  queue.shrink();
  EXPECT_EQ(queue.capacity(), RingQueue<int>::kept_capacity);
  for (int i = 0; i < 5000; ++i) ASSERT_TRUE(queue.push_back(i));
  for (int i = 0; i < 5000; ++i) ASSERT_EQ(queue.pop_front(), i);
}

TEST(RingQueue, GivesMemoryOfABurstBack) {
  RingQueue<int> queue;
  for (int i = 0; i < 100'000; ++i) ASSERT_TRUE(queue.push_back(i));
  while (!queue.empty()) queue.pop_front();
  ASSERT_TRUE(queue.push_back(1));
  queue.pop_front();
  EXPECT_LE(queue.capacity(), RingQueue<int>::kept_capacity);
  ASSERT_TRUE(queue.push_back(2));
  EXPECT_EQ(queue.pop_front(), 2);
}

TEST(RingQueue, KeepsItsMemoryUnderSteadyLoad) {
  RingQueue<int> queue;
  const auto one_round = [&] {
    for (int i = 0; i < 3000; ++i) ASSERT_TRUE(queue.push_back(i));
    while (!queue.empty()) queue.pop_front();
  };
  one_round();
  const size_t capacity = queue.capacity();
  for (int i = 0; i < 10; ++i) one_round();
  EXPECT_EQ(queue.capacity(), capacity);
}

TEST(RingQueue, ReserveMakesRoomOnce) {
  RingQueue<int> queue;
  ASSERT_TRUE(queue.push_back(7));
  ASSERT_TRUE(queue.reserve(1000));
  const size_t capacity = queue.capacity();
  EXPECT_GE(capacity, 1000U);
  for (int i = 1; i < 1000; ++i) ASSERT_TRUE(queue.push_back(i));
  EXPECT_EQ(queue.capacity(), capacity);
  EXPECT_EQ(queue.pop_front(), 7);
}

TEST(RingQueue, MoveLeavesAnEmptyQueueBehind) {
  RingQueue<int> from;
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(from.push_back(i));
  RingQueue<int> to(std::move(from));
  EXPECT_EQ(to.size(), 5U);
  EXPECT_EQ(to.pop_front(), 0);
  EXPECT_TRUE(from.empty());  // NOLINT: what is left behind is specified
  ASSERT_TRUE(from.push_back(9));
  EXPECT_EQ(from.pop_front(), 9);
}

TEST(RingQueue, RefusesWhatMemoryCannotHold) {
  RingQueue<int> queue;
  ASSERT_TRUE(queue.push_back(1));
  EXPECT_FALSE(queue.reserve(size_t{1} << 60));
  EXPECT_EQ(queue.pop_front(), 1);
}

TEST(RingQueue, GivesAllItsMemoryBack) {
  RingQueue<int> queue;
  ASSERT_TRUE(queue.push_back(1));
  EXPECT_EQ(queue.pop_front(), 1);
  queue.release();
  EXPECT_EQ(queue.capacity(), 0U);
  ASSERT_TRUE(queue.push_back(2));
  EXPECT_EQ(queue.pop_front(), 2);
}

}  // namespace
}  // namespace cxxloop
