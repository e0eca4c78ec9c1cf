// SPDX-License-Identifier: MIT
#include "net/write_marks.h"

#include <gtest/gtest.h>

namespace cxxloop::net {
namespace {

TEST(WriteMarks, StopAWriterAboveTheHighMarkOnce) {
  WriteMarks marks;
  EXPECT_FALSE(marks.rises(64 * 1024));
  EXPECT_FALSE(marks.is_paused());
  EXPECT_TRUE(marks.rises(64 * 1024 + 1));
  EXPECT_TRUE(marks.is_paused());
  EXPECT_FALSE(marks.rises(1 << 20));
}

TEST(WriteMarks, LetAWriterGoOnAtTheLowMarkOnce) {
  WriteMarks marks;
  EXPECT_FALSE(marks.falls(0));
  ASSERT_TRUE(marks.rises(1 << 20));
  EXPECT_FALSE(marks.falls(16 * 1024 + 1));
  EXPECT_TRUE(marks.is_paused());
  EXPECT_TRUE(marks.falls(16 * 1024));
  EXPECT_FALSE(marks.is_paused());
  EXPECT_FALSE(marks.falls(0));
  EXPECT_TRUE(marks.rises(1 << 20));
}

TEST(WriteMarks, OfZeroStopAWriterAtTheFirstByteUntilTheQueueIsEmpty) {
  WriteMarks marks;
  marks.set(0, 0);
  EXPECT_FALSE(marks.rises(0));
  EXPECT_TRUE(marks.rises(1));
  EXPECT_FALSE(marks.falls(1));
  EXPECT_TRUE(marks.falls(0));
}

TEST(WriteMarks, RaisedWhileAWriterIsStoppedLetItGoOnAtTheNewLowMark) {
  WriteMarks marks;
  ASSERT_TRUE(marks.rises(1 << 20));
  marks.set(4 << 20, 2 << 20);
  EXPECT_TRUE(marks.is_paused());
  EXPECT_FALSE(marks.rises(8 << 20));
  EXPECT_TRUE(marks.falls(2 << 20));
  EXPECT_EQ(marks.high_bytes(), size_t{4} << 20);
  EXPECT_EQ(marks.low_bytes(), size_t{2} << 20);
}

}  // namespace
}  // namespace cxxloop::net
