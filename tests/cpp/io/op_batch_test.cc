// SPDX-License-Identifier: MIT
#include "io/op_batch.h"

#include <gtest/gtest.h>

#include <memory>
#include <vector>

namespace cxxloop::io {
namespace {

class OpBatchTest : public testing::Test {
 protected:
  Op& add() {
    ops.push_back(std::make_unique<Op>(OpKind::poll_read, nullptr, nullptr));
    return *ops.back();
  }

  OpBatch batch;
  std::vector<std::unique_ptr<Op>> ops;
};

TEST_F(OpBatchTest, LastInFirstOut) {
  ASSERT_TRUE(batch.reserve(3));
  Op& last = add();
  Op& middle = add();
  Op& first = add();
  batch.push_front(last);
  batch.push_front(middle);
  batch.push_front(first);
  EXPECT_EQ(batch.size(), 3U);
  EXPECT_EQ(batch.pop_front(), &first);
  EXPECT_EQ(first.batch_index, -1);
  EXPECT_EQ(batch.pop_front(), &middle);
  EXPECT_EQ(batch.pop_front(), &last);
  EXPECT_EQ(batch.pop_front(), nullptr);
  EXPECT_TRUE(batch.empty());
}

TEST_F(OpBatchTest, RemovedOpsAreSkipped) {
  ASSERT_TRUE(batch.reserve(3));
  for (int i = 0; i < 3; ++i) batch.push_front(add());
  batch.remove(*ops[2]);
  batch.remove(*ops[0]);
  batch.remove(*ops[0]);
  EXPECT_EQ(batch.front(), ops[1].get());
  EXPECT_EQ(batch.pop_front(), ops[1].get());
  EXPECT_EQ(batch.front(), nullptr);
  EXPECT_EQ(batch.pop_front(), nullptr);
}

TEST_F(OpBatchTest, AnOpOfAnotherBatchIsLeftThere) {
  OpBatch other;
  ASSERT_TRUE(batch.reserve(2) && other.reserve(2));
  Op& popped = add();
  batch.push_front(popped);
  EXPECT_EQ(batch.pop_front(), &popped);
  batch.push_front(add());
  other.push_front(popped);
  batch.remove(popped);
  EXPECT_EQ(other.pop_front(), &popped);
  EXPECT_EQ(batch.pop_front(), ops[1].get());
}

TEST_F(OpBatchTest, GrowingKeepsWhatWasCollected) {
  ASSERT_TRUE(batch.reserve(64));
  for (int i = 0; i < 64; ++i) batch.push_front(add());
  EXPECT_EQ(batch.pop_front(), ops[63].get());
  ASSERT_TRUE(batch.reserve(1000));
  batch.remove(*ops[62]);
  for (int i = 61; i >= 0; --i) ASSERT_EQ(batch.pop_front(), ops[static_cast<size_t>(i)].get());
  EXPECT_EQ(batch.pop_front(), nullptr);
}

TEST_F(OpBatchTest, ShrinksToTheRoomThatIsNeeded) {
  ASSERT_TRUE(batch.reserve(10'000));
  batch.shrink(100);
  for (int i = 0; i < 100; ++i) batch.push_front(add());
  EXPECT_EQ(batch.size(), 100U);
  for (int i = 99; i >= 0; --i) ASSERT_EQ(batch.pop_front(), ops[static_cast<size_t>(i)].get());
  batch.shrink(0);
  ASSERT_TRUE(batch.reserve(1000));
  batch.push_front(*ops[0]);
  EXPECT_EQ(batch.pop_front(), ops[0].get());
}

TEST_F(OpBatchTest, RefusesWhatMemoryCannotHold) {
  ASSERT_TRUE(batch.reserve(1));
  EXPECT_FALSE(batch.reserve(size_t{1} << 58));
  batch.push_front(add());
  EXPECT_EQ(batch.pop_front(), ops[0].get());
}

}  // namespace
}  // namespace cxxloop::io
