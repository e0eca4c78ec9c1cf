// SPDX-License-Identifier: MIT
#include "base/timer_heap.h"

#include <gtest/gtest.h>

#include <set>
#include <utility>
#include <vector>

#include "sim/random.h"

namespace cxxloop {
namespace {

TEST(TimerHeap, EmptyHasNoTop) {
  TimerHeap heap;
  EXPECT_TRUE(heap.empty());
  EXPECT_EQ(heap.top(), nullptr);
}

TEST(TimerHeap, EqualDeadlinesLeaveInOrderOfArrival) {
  TimerHeap heap;
  std::vector<TimerNode> nodes(200);
  for (size_t i = 0; i < nodes.size(); ++i) {
    nodes[i].deadline_ns = static_cast<int64_t>(i % 3);
    ASSERT_TRUE(heap.push(&nodes[i]));
  }
  for (size_t remainder = 0; remainder < 3; ++remainder) {
    for (size_t i = remainder; i < nodes.size(); i += 3) ASSERT_EQ(heap.pop(), &nodes[i]);
  }
}

TEST(TimerHeap, ANodeKnowsWhetherItIsQueued) {
  TimerHeap heap;
  TimerNode node;
  EXPECT_FALSE(node.queued());
  ASSERT_TRUE(heap.push(&node));
  EXPECT_TRUE(node.queued());
  heap.remove(&node);
  EXPECT_FALSE(node.queued());
  ASSERT_TRUE(heap.push(&node));
  EXPECT_EQ(heap.pop(), &node);
  EXPECT_FALSE(node.queued());
}

TEST(TimerHeap, BehavesAsASortedSet) {
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    sim::Random random(seed);
    TimerHeap heap;
    std::vector<TimerNode> nodes(400);
    std::set<std::pair<std::pair<int64_t, uint64_t>, TimerNode*>> model;
    for (int step = 0; step < 4000; ++step) {
      TimerNode& node = nodes[random.below(nodes.size())];
      if (!node.queued()) {
        node.deadline_ns = static_cast<int64_t>(random.below(50)) - 25;
        ASSERT_TRUE(heap.push(&node));
        model.insert({{node.deadline_ns, node.sequence}, &node});
      } else if (random.chance(700)) {
        heap.remove(&node);
        model.erase({{node.deadline_ns, node.sequence}, &node});
      } else {
        ASSERT_EQ(heap.pop(), model.begin()->second);
        model.erase(model.begin());
      }
      ASSERT_EQ(heap.size(), model.size());
      ASSERT_EQ(heap.top(), model.empty() ? nullptr : model.begin()->second);
    }
  }
}

TEST(TimerHeap, AWalkMeetsEveryNodeOnce) {
  TimerHeap heap;
  std::vector<TimerNode> nodes(30);
  for (TimerNode& node : nodes) ASSERT_TRUE(heap.push(&node));
  std::set<TimerNode*> met;
  for (size_t i = 0; i < heap.size(); ++i) met.insert(heap.at(i));
  EXPECT_EQ(met.size(), nodes.size());
}

TEST(TimerHeap, GivesMemoryOfABurstBack) {
  TimerHeap heap;
  std::vector<TimerNode> nodes(100'000);
  for (size_t i = 0; i < nodes.size(); ++i) {
    nodes[i].deadline_ns = static_cast<int64_t>(i);
    ASSERT_TRUE(heap.push(&nodes[i]));
  }
  for (size_t i = nodes.size(); i-- > 10;) heap.remove(&nodes[i]);
  EXPECT_LE(heap.capacity(), 2048U);
  for (size_t i = 0; i < 10; ++i) EXPECT_EQ(heap.pop(), &nodes[i]);
}

}  // namespace
}  // namespace cxxloop
