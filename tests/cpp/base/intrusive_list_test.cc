// SPDX-License-Identifier: MIT
#include "base/intrusive_list.h"

#include <gtest/gtest.h>

#include <deque>
#include <vector>

#include "sim/random.h"

namespace cxxloop {
namespace {

struct Item : ListNode {};

TEST(IntrusiveList, KeepsOrder) {
  IntrusiveList<Item> list;
  std::vector<Item> items(4);
  for (Item& item : items) list.push_back(item);
  for (Item& item : items) EXPECT_EQ(list.pop_front(), &item);
  EXPECT_EQ(list.pop_front(), nullptr);
}

TEST(IntrusiveList, EachShowsTheItemsInOrder) {
  IntrusiveList<Item> list;
  std::vector<Item> items(3);
  for (Item& item : items) list.push_back(item);
  std::vector<Item*> shown;
  list.each([&shown](Item& item) { shown.push_back(&item); });
  EXPECT_EQ(shown, (std::vector<Item*>{&items[0], &items[1], &items[2]}));
}

TEST(IntrusiveList, RemoveOfAnUnlinkedItemIsHarmless) {
  IntrusiveList<Item> list;
  Item item;
  list.remove(item);
  EXPECT_FALSE(item.is_linked());
  list.push_back(item);
  list.remove(item);
  list.remove(item);
  EXPECT_TRUE(list.empty());
}

TEST(IntrusiveList, AnItemThatDiesLeavesTheList) {
  IntrusiveList<Item> list;
  Item first;
  {
    Item second;
    list.push_back(first);
    list.push_back(second);
  }
  EXPECT_EQ(list.pop_front(), &first);
  EXPECT_TRUE(list.empty());
}

TEST(IntrusiveList, AListThatDiesLeavesItsItems) {
  Item item;
  {
    IntrusiveList<Item> list;
    list.push_back(item);
  }
  EXPECT_FALSE(item.is_linked());
}

TEST(IntrusiveList, BehavesAsADeque) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    sim::Random random(seed);
    std::vector<Item> items(50);
    IntrusiveList<Item> list;
    std::deque<Item*> model;
    for (int step = 0; step < 2000; ++step) {
      Item& item = items[random.below(items.size())];
      if (!item.is_linked()) {
        list.push_back(item);
        model.push_back(&item);
      } else if (random.chance(500)) {
        list.remove(item);
        std::erase(model, &item);
      } else {
        ASSERT_EQ(list.pop_front(), model.front());
        model.pop_front();
      }
      ASSERT_EQ(list.empty(), model.empty());
    }
  }
}

}  // namespace
}  // namespace cxxloop
