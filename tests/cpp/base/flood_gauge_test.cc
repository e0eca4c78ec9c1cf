// SPDX-License-Identifier: MIT
#include "base/flood_gauge.h"

#include <gtest/gtest.h>

namespace cxxloop {
namespace {

class FloodGaugeTest : public testing::Test {
 protected:
  void add(size_t count) {
    for (size_t i = 0; i < count; ++i) gauge.add();
  }
  // How often memory is returned, and how often it is tidied up, while `count` leave one by one.
  void leave(size_t count) {
    returns = tidied = 0;
    for (size_t i = 0; i < count; ++i) {
      gauge.remove();
      if (!gauge.should_trim()) continue;
      gauge.mark_returned();
      ++returns;
      if (!gauge.is_flood_over()) continue;
      gauge.mark_trimmed();
      ++tidied;
    }
  }

  FloodGauge gauge;
  int returns = 0;
  int tidied = 0;
};

TEST_F(FloodGaugeTest, AFewConnectionsAreNoReason) {
  add(60);
  leave(60);
  EXPECT_EQ(returns, 0);
  add(1000);
  leave(1000);
  EXPECT_EQ(tidied, 0);
}

TEST_F(FloodGaugeTest, AFloodThatEndsIsLookedThroughADozenTimes) {
  add(15'000);
  leave(15'000);
  EXPECT_GE(returns, 6);
  EXPECT_LE(returns, 12);
  EXPECT_EQ(tidied, 2);
}

TEST_F(FloodGaugeTest, ConnectionsThatComeAndGoAreNoReason) {
  add(500);
  for (int i = 0; i < 10'000; ++i) {
    leave(100);
    ASSERT_EQ(returns, 0);
    add(100);
  }
}

TEST_F(FloodGaugeTest, AFloodIsOverAlthoughSomeStay) {
  add(10'000);
  leave(9'900);
  EXPECT_EQ(tidied, 1);
  EXPECT_EQ(gauge.flood(), 10'000U);
  leave(99);
  EXPECT_EQ(tidied, 0);
  leave(1);
  EXPECT_EQ(tidied, 1);
}

TEST_F(FloodGaugeTest, TheNextFloodIsWeighedByItself) {
  add(15'000);
  leave(14'900);
  add(3'000);
  EXPECT_EQ(gauge.flood(), 3'100U);
  leave(3'100);
  EXPECT_EQ(tidied, 2);
  EXPECT_EQ(gauge.flood(), 0U);
}

TEST_F(FloodGaugeTest, ManyThatStayAreNoFlood) {
  add(20'000);
  leave(15'000);
  EXPECT_GE(returns, 1);
  EXPECT_EQ(tidied, 0);
}

}  // namespace
}  // namespace cxxloop
