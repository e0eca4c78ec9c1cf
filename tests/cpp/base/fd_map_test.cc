// SPDX-License-Identifier: MIT
#include "base/fd_map.h"

#include <gtest/gtest.h>

#include <limits>
#include <vector>

namespace cxxloop {
namespace {

struct Row {
  int value;
};
using Map = FdMap<Row>;
constexpr int chunk_size = static_cast<int>(Map::chunk_size);

std::vector<int> values_of(Map& map) {
  std::vector<int> values;
  map.for_each([&values](const Row& row) {
    if (row.value != 0) values.push_back(row.value);
  });
  return values;
}

TEST(FdMapTest, RowsBeginAsZeroAndStayWhereTheyAre) {
  Map map;
  EXPECT_EQ(map.find(0), nullptr);
  EXPECT_EQ(map.find(-1), nullptr);
  Row* const first = map.find_or_make(3);
  ASSERT_NE(first, nullptr);
  EXPECT_EQ(first->value, 0);
  first->value = 7;
  ASSERT_NE(map.find_or_make(100 * chunk_size), nullptr);
  EXPECT_EQ(map.find(3), first);
  EXPECT_EQ(values_of(map), std::vector<int>{7});
  EXPECT_EQ(map.find(50 * chunk_size), nullptr);
}

TEST(FdMapTest, FreesWhatNobodyUsesAndNothingElse) {
  Map map;
  for (int fd = 0; fd < 10 * chunk_size; ++fd) map.find_or_make(fd)->value = fd + 1;
  Row* const kept = map.find(5 * chunk_size + 1);
  map.for_each([kept](Row& row) {
    if (&row != kept) row.value = 0;
  });
  map.free_unused([](const Row& row) { return row.value == 0; });
  EXPECT_EQ(values_of(map), std::vector<int>{5 * chunk_size + 2});
  EXPECT_EQ(map.find(5 * chunk_size + 1), kept);
  EXPECT_NE(map.find(5 * chunk_size), nullptr);  // in one piece with the one that is used
  EXPECT_EQ(map.find(4 * chunk_size), nullptr);
  Row* const again = map.find_or_make(4 * chunk_size);
  ASSERT_NE(again, nullptr);
  EXPECT_EQ(again->value, 0);
}

TEST(FdMapTest, ALargeNumberCostsOneChunk) {
  Map map;
  Row* const row = map.find_or_make(1 << 20);
  ASSERT_NE(row, nullptr);
  size_t rows = 0;
  map.for_each([&rows](const Row&) { ++rows; });
  EXPECT_EQ(rows, Map::chunk_size);
  EXPECT_EQ(map.find((1 << 20) - chunk_size), nullptr);
  EXPECT_EQ(map.find(std::numeric_limits<int>::max()), nullptr);
}

}  // namespace
}  // namespace cxxloop
