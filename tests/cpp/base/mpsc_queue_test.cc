// SPDX-License-Identifier: MIT
#include "base/mpsc_queue.h"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

namespace cxxloop {
namespace {

struct Item : MpscNode {
  size_t producer = 0;
  size_t number = 0;
};

TEST(MpscQueue, PopsInTheOrderOfPushes) {
  MpscQueue queue;
  std::vector<Item> items(5);
  EXPECT_TRUE(queue.empty());
  EXPECT_EQ(queue.pop(), nullptr);
  for (Item& item : items) queue.push(&item);
  EXPECT_FALSE(queue.empty());
  for (Item& item : items) EXPECT_EQ(queue.pop(), &item);
  EXPECT_EQ(queue.pop(), nullptr);
  EXPECT_TRUE(queue.empty());
}

TEST(MpscQueue, TakesANodeAgainAfterItWasPopped) {
  MpscQueue queue;
  Item item;
  for (int i = 0; i < 100; ++i) {
    queue.push(&item);
    ASSERT_FALSE(queue.empty());
    ASSERT_EQ(queue.pop(), &item);
    ASSERT_TRUE(queue.empty());
  }
}

TEST(MpscQueue, EachVisitsWhatPopWouldReturn) {
  MpscQueue queue;
  std::vector<Item> items(4);
  size_t popped = 0;
  for (size_t pushed = 0; pushed <= items.size(); ++pushed) {
    if (pushed > 0) queue.push(&items[pushed - 1]);
    if (pushed == 2) {
      ASSERT_EQ(queue.pop(), &items[popped++]);
      ASSERT_EQ(queue.pop(), &items[popped++]);
    }
    std::vector<MpscNode*> seen;
    queue.each([&seen](MpscNode* node) { seen.push_back(node); });
    ASSERT_EQ(seen.size(), pushed - popped);
    for (size_t i = 0; i < seen.size(); ++i) EXPECT_EQ(seen[i], &items[popped + i]);
  }
}

TEST(MpscQueue, EmptyAgreesWithPopAtEveryLength) {
  MpscQueue queue;
  std::vector<Item> items(8);
  for (size_t length = 1; length <= items.size(); ++length) {
    for (size_t i = 0; i < length; ++i) queue.push(&items[i]);
    for (size_t i = 0; i < length; ++i) {
      ASSERT_FALSE(queue.empty());
      ASSERT_EQ(queue.pop(), &items[i]);
    }
    ASSERT_TRUE(queue.empty());
  }
}

TEST(MpscQueue, LosesNothingAndKeepsEachProducersOrder) {
  constexpr size_t producers = 4;
  constexpr size_t per_producer = 20'000;
  MpscQueue queue;
  std::vector<std::vector<Item>> items;
  for (size_t p = 0; p < producers; ++p) items.emplace_back(per_producer);
  std::vector<std::thread> threads;
  for (size_t p = 0; p < producers; ++p) {
    threads.emplace_back([&queue, &mine = items[p], p] {
      for (size_t i = 0; i < per_producer; ++i) {
        mine[i].producer = p;
        mine[i].number = i;
        queue.push(&mine[i]);
      }
    });
  }
  std::vector<size_t> next(producers, 0);
  for (size_t popped = 0; popped < producers * per_producer;) {
    auto* const item = static_cast<Item*>(queue.pop());
    if (item == nullptr) {
      std::this_thread::yield();
      continue;
    }
    ASSERT_EQ(item->number, next[item->producer]++);
    ++popped;
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_TRUE(queue.empty());
}

}  // namespace
}  // namespace cxxloop
