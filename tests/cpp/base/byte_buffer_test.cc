// SPDX-License-Identifier: MIT
#include "base/byte_buffer.h"

#include <gtest/gtest.h>

#include <limits>
#include <random>
#include <string>

namespace cxxloop {
namespace {

TEST(ByteBuffer, HasWhatWasAppendedAndNotDropped) {
  ByteBuffer buffer;
  std::string expected;
  std::mt19937 random(7);
  for (int step = 0; step < 20'000; ++step) {
    if (random() % 2 == 0) {
      const std::string bytes(random() % 300, static_cast<char>('a' + step % 26));
      ASSERT_TRUE(buffer.append(bytes));
      expected += bytes;
    } else {
      const size_t dropped = random() % (expected.size() + 1);
      buffer.drop_front(dropped);
      expected.erase(0, dropped);
    }
    ASSERT_EQ(buffer.view(), expected);
    ASSERT_EQ(buffer.empty(), expected.empty());
  }
}

TEST(ByteBuffer, DoesNotGrowWhileOldBytesMakeRoom) {
  ByteBuffer buffer;
  ASSERT_TRUE(buffer.append(std::string(200, 'x')));
  const size_t capacity = buffer.capacity();
  for (int i = 0; i < 1000; ++i) {
    ASSERT_TRUE(buffer.append(std::string(50, 'y')));
    buffer.drop_front(buffer.size() - 50);
  }
  EXPECT_EQ(buffer.capacity(), capacity);
}

TEST(ByteBuffer, AnswersFalseWithoutMemoryAndKeepsItsBytes) {
  ByteBuffer buffer;
  ASSERT_TRUE(buffer.append("kept"));
  EXPECT_FALSE(buffer.reserve(std::numeric_limits<size_t>::max() - 1));
  EXPECT_FALSE(buffer.reserve(std::numeric_limits<size_t>::max() / 4));
  EXPECT_EQ(buffer.view(), "kept");
}

TEST(ByteBuffer, TakesWhatSomebodyWroteBehindItsBytes) {
  ByteBuffer buffer;
  EXPECT_EQ(buffer.room().size(), 0u);
  ASSERT_TRUE(buffer.append("one"));
  ASSERT_TRUE(buffer.reserve(100));
  const std::span<char> room = buffer.room();
  ASSERT_GE(room.size(), 100u);
  room[0] = 't';
  room[1] = 'w';
  room[2] = 'o';
  EXPECT_EQ(buffer.view(), "one");
  buffer.extend(3);
  EXPECT_EQ(buffer.view(), "onetwo");
}

TEST(ByteBuffer, GivesItsMemoryBack) {
  ByteBuffer buffer;
  ASSERT_TRUE(buffer.append("gone"));
  buffer.release();
  EXPECT_EQ(buffer.capacity(), 0u);
  EXPECT_EQ(buffer.view(), "");
  ASSERT_TRUE(buffer.append("new"));
  EXPECT_EQ(buffer.view(), "new");
  ByteBuffer moved(std::move(buffer));
  EXPECT_EQ(moved.view(), "new");
}

}  // namespace
}  // namespace cxxloop
