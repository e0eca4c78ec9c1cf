// SPDX-License-Identifier: MIT
#include "web/core/date_line.h"

#include <gtest/gtest.h>

#include <string>

namespace cxxloop::web {
namespace {

TEST(DateLine, IsWrittenAsHttpWantsIt) {
  DateLine date;
  EXPECT_EQ(date.at(784111777), "Sun, 06 Nov 1994 08:49:37 GMT");
  EXPECT_EQ(date.at(0), "Thu, 01 Jan 1970 00:00:00 GMT");
  EXPECT_EQ(date.at(951827696), "Tue, 29 Feb 2000 12:34:56 GMT");
  EXPECT_EQ(date.at(4102444799), "Thu, 31 Dec 2099 23:59:59 GMT");
}

TEST(DateLine, IsWrittenAnewWhenTheSecondChanges) {
  DateLine date;
  const std::string first(date.at(100));
  EXPECT_EQ(date.at(100), first);
  EXPECT_NE(date.at(101), first);
  EXPECT_EQ(date.at(100), first);
}

TEST(DateLine, TellsTheTimeOfTheSystem) {
  DateLine date;
  const time_t before = time(nullptr);
  const std::string now(date.now());
  const time_t after = time(nullptr);
  bool is_between = false;
  for (time_t second = before - 1; second <= after; ++second) is_between |= now == date.at(second);
  EXPECT_TRUE(is_between) << now;
}

}  // namespace
}  // namespace cxxloop::web
