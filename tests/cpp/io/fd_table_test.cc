// SPDX-License-Identifier: MIT
#include "io/fd_table.h"

#include <gtest/gtest.h>

#include <vector>

namespace cxxloop::io {
namespace {

struct Entry {
  int value;
};
using Table = FdTable<Entry>;
constexpr int chunk_size = static_cast<int>(Table::chunk_size);

std::vector<int> values_of(Table& table) {
  std::vector<int> values;
  table.for_each([&values](const Entry& entry) {
    if (entry.value != 0) values.push_back(entry.value);
  });
  return values;
}

TEST(FdTableTest, EntriesBeginAsZeroAndStayWhereTheyAre) {
  Table table;
  EXPECT_EQ(table.find(0), nullptr);
  EXPECT_EQ(table.find(-1), nullptr);
  Entry* const first = table.find_or_make(3);
  ASSERT_NE(first, nullptr);
  EXPECT_EQ(first->value, 0);
  first->value = 7;
  ASSERT_NE(table.find_or_make(100 * chunk_size), nullptr);
  EXPECT_EQ(table.find(3), first);
  EXPECT_EQ(values_of(table), std::vector<int>{7});
  EXPECT_EQ(table.find(50 * chunk_size), nullptr);
}

TEST(FdTableTest, FreesWhatNobodyUsesAndNothingElse) {
  Table table;
  for (int fd = 0; fd < 10 * chunk_size; ++fd) table.find_or_make(fd)->value = fd + 1;
  Entry* const kept = table.find(5 * chunk_size + 1);
  table.for_each([kept](Entry& entry) {
    if (&entry != kept) entry.value = 0;
  });
  table.free_unused([](const Entry& entry) { return entry.value == 0; });
  EXPECT_EQ(values_of(table), std::vector<int>{5 * chunk_size + 2});
  EXPECT_EQ(table.find(5 * chunk_size + 1), kept);
  EXPECT_NE(table.find(5 * chunk_size), nullptr);  // in one piece with the one that is used
  EXPECT_EQ(table.find(4 * chunk_size), nullptr);
  Entry* const again = table.find_or_make(4 * chunk_size);
  ASSERT_NE(again, nullptr);
  EXPECT_EQ(again->value, 0);
}

}  // namespace
}  // namespace cxxloop::io
