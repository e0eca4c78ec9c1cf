// SPDX-License-Identifier: MIT
#include "base/page_buffer.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <limits>

namespace cxxloop {
namespace {

constexpr size_t size = 256 * 1024;

TEST(PageBuffer, BeginsAtAPage) {
  for (int i = 0; i < 8; ++i) {
    PageBuffer buffer;
    const std::span<std::byte> memory = buffer.get(size);
    ASSERT_EQ(memory.size(), size);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(memory.data()) % 4096, 0U);
    memory.front() = memory.back() = std::byte{1};
  }
}

TEST(PageBuffer, IsTheSameUntilItIsReset) {
  PageBuffer buffer;
  const std::span<std::byte> memory = buffer.get(size);
  EXPECT_EQ(buffer.get(size).data(), memory.data());
  buffer.reset();
  buffer.reset();
  EXPECT_EQ(buffer.get(size).size(), size);
}

TEST(PageBuffer, IsEmptyWhenMemoryIsOut) {
  constexpr size_t too_much = (std::numeric_limits<size_t>::max() / 2 / 4096 - 1) * 4096;
  PageBuffer buffer;
  EXPECT_TRUE(buffer.get(too_much).empty());
  EXPECT_EQ(buffer.get(size).size(), size);
}

}  // namespace
}  // namespace cxxloop
