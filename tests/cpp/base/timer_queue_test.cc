// SPDX-License-Identifier: MIT
#include "base/timer_queue.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <random>
#include <vector>

namespace cxxloop {
namespace {

TEST(TimerQueue, DueTimersRunAmongTheOthersByDeadlineThenByAge) {
  TimerQueue queue;
  TimerNode early, first_due, late, second_due, same_as_second;
  early.deadline_ns = 10;
  first_due.deadline_ns = 20;
  second_due.deadline_ns = 30;
  same_as_second.deadline_ns = 30;
  late.deadline_ns = 40;
  ASSERT_TRUE(queue.push(&late));
  ASSERT_TRUE(queue.push_due(&first_due));
  ASSERT_TRUE(queue.push_due(&second_due));
  ASSERT_TRUE(queue.push(&same_as_second));
  ASSERT_TRUE(queue.push(&early));
  for (TimerNode* const expected : {&early, &first_due, &second_due, &same_as_second, &late}) {
    ASSERT_EQ(queue.top(), expected);
    queue.remove(expected);
    EXPECT_FALSE(expected->queued());
  }
  EXPECT_TRUE(queue.empty());
  EXPECT_EQ(queue.top(), nullptr);
}

TEST(TimerQueue, ADueTimerOlderThanTheLaneGoesToTheHeap) {
  TimerQueue queue;
  TimerNode newer, older;
  newer.deadline_ns = 5;
  older.deadline_ns = 4;
  ASSERT_TRUE(queue.push_due(&newer));
  ASSERT_TRUE(queue.push_due(&older));
  EXPECT_EQ(queue.top(), &older);
  queue.remove(&older);
  EXPECT_EQ(queue.top(), &newer);
  queue.remove(&newer);
}

// Against a sorted vector: every operation, in random order.
TEST(TimerQueue, BehavesLikeASortedList) {
  for (uint64_t seed = 0; seed < 300; ++seed) {
    std::mt19937_64 random(seed);
    TimerQueue queue;
    std::vector<std::unique_ptr<TimerNode>> nodes;
    std::vector<TimerNode*> model;
    int64_t now_ns = 0;
    for (int step = 0; step < 400; ++step) {
      now_ns += static_cast<int64_t>(random() % 3);
      const uint64_t action = random() % 10;
      if (action < 6) {
        TimerNode* const node = nodes.emplace_back(std::make_unique<TimerNode>()).get();
        const bool due = random() % 2 == 0;
        node->deadline_ns = due ? now_ns : now_ns + static_cast<int64_t>(random() % 20) - 5;
        ASSERT_TRUE(due ? queue.push_due(node) : queue.push(node));
        const auto later = [](int64_t deadline, const TimerNode* other) { return deadline < other->deadline_ns; };
        model.insert(std::upper_bound(model.begin(), model.end(), node->deadline_ns, later), node);
      } else if (!model.empty()) {
        const size_t index = action < 8 ? 0 : random() % model.size();
        if (index == 0) {
          ASSERT_EQ(queue.top(), model[0]) << "seed " << seed;
        }
        queue.remove(model[index]);
        model.erase(model.begin() + static_cast<std::ptrdiff_t>(index));
      }
      ASSERT_EQ(queue.size(), model.size()) << "seed " << seed;
      size_t visited = 0;
      queue.each([&visited](TimerNode* node) { visited += node->queued() ? 1 : 0; });
      ASSERT_EQ(visited, model.size()) << "seed " << seed;
    }
    for (TimerNode* const node : model) {
      ASSERT_EQ(queue.top(), node) << "seed " << seed;
      queue.remove(node);
    }
  }
}

}  // namespace
}  // namespace cxxloop
