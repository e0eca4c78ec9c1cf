// SPDX-License-Identifier: MIT
#include "net/write_queue.h"

#include <gtest/gtest.h>

#include <array>
#include <string>
#include <string_view>

namespace cxxloop::net {
namespace {

void count_release(void* owner) noexcept { ++*static_cast<int*>(owner); }
void count_ten(void* owner) noexcept { *static_cast<int*>(owner) += 10; }

class WriteQueueTest : public testing::Test {
 protected:
  void append(std::string_view text, int& releases) {
    ASSERT_TRUE(queue.append({reinterpret_cast<const std::byte*>(text.data()), text.size(), &releases}));
  }
  void append_calling(std::string_view text, int& releases) {
    ASSERT_TRUE(queue.append({reinterpret_cast<const std::byte*>(text.data()), text.size(), &releases, count_release}));
  }
  [[nodiscard]] std::string peeked(size_t entries_max = 8) const {
    std::array<iovec, 8> iov;
    const size_t count = queue.peek({iov.data(), entries_max});
    std::string text;
    for (size_t i = 0; i < count; ++i) {
      if (i > 0) text += '|';
      text.append(static_cast<const char*>(iov[i].iov_base), iov[i].iov_len);
    }
    return text;
  }

  WriteQueue queue{count_release};
  int first = 0;
  int second = 0;
};

TEST_F(WriteQueueTest, IsEmptyAtFirst) {
  EXPECT_TRUE(queue.empty());
  EXPECT_EQ(queue.bytes(), 0U);
  EXPECT_EQ(peeked(), "");
  queue.clear();
}

TEST_F(WriteQueueTest, ShowsTheOldestChunksFirst) {
  append("abc", first);
  append("de", second);
  EXPECT_EQ(queue.bytes(), 5U);
  EXPECT_EQ(queue.chunks(), 2U);
  EXPECT_EQ(peeked(), "abc|de");
  EXPECT_EQ(peeked(1), "abc");
}

TEST_F(WriteQueueTest, RemembersAPartOfAChunkThatWasSent) {
  append("abc", first);
  append("de", second);
  queue.consume(2);
  EXPECT_EQ(peeked(), "c|de");
  EXPECT_EQ(queue.bytes(), 3U);
  EXPECT_EQ(first, 0);
  queue.consume(2);
  EXPECT_EQ(peeked(), "e");
  EXPECT_EQ(first, 1);
  EXPECT_EQ(second, 0);
}

TEST_F(WriteQueueTest, ReleasesAChunkWithItsLastByte) {
  append("abc", first);
  append("de", second);
  queue.consume(3);
  EXPECT_EQ(first, 1);
  EXPECT_EQ(second, 0);
  EXPECT_EQ(peeked(), "de");
  queue.consume(2);
  EXPECT_EQ(second, 1);
  EXPECT_TRUE(queue.empty());
}

TEST_F(WriteQueueTest, ClearReleasesEverythingOnce) {
  append("abc", first);
  append("de", second);
  queue.consume(1);
  queue.clear();
  EXPECT_TRUE(queue.empty());
  EXPECT_EQ(queue.bytes(), 0U);
  append("fg", second);
  EXPECT_EQ(peeked(), "fg");
  EXPECT_EQ(first, 1);
  EXPECT_EQ(second, 1);
}

TEST_F(WriteQueueTest, AnOwnerThatMayCallBackWaitsForReleaseSpent) {
  append_calling("abc", first);
  append("de", second);
  queue.consume(4);
  EXPECT_EQ(peeked(), "e");
  EXPECT_EQ(queue.chunks(), 1U);
  EXPECT_TRUE(queue.has_spent());
  EXPECT_EQ(first, 0);
  queue.release_spent();
  EXPECT_FALSE(queue.has_spent());
  EXPECT_EQ(first, 1);
  EXPECT_EQ(peeked(), "e");
  queue.consume(1);
  EXPECT_EQ(second, 1);
}

TEST_F(WriteQueueTest, ClearLeavesOwnersThatMayCallBackToReleaseSpent) {
  append("ab", first);
  append_calling("cd", second);
  queue.clear();
  EXPECT_TRUE(queue.empty());
  EXPECT_EQ(queue.chunks(), 0U);
  EXPECT_EQ(first, 1);
  EXPECT_EQ(second, 0);
  append("ef", first);
  EXPECT_EQ(peeked(), "ef");
  queue.release_spent();
  EXPECT_EQ(second, 1);
  EXPECT_EQ(peeked(), "ef");
}

TEST_F(WriteQueueTest, ReleasesOwnersThatMayCallBackTheirOwnWay) {
  ASSERT_TRUE(queue.append({reinterpret_cast<const std::byte*>("ab"), 2, &first, count_ten}));
  append("cd", second);
  queue.clear();
  queue.release_spent();
  EXPECT_EQ(first, 10);
  EXPECT_EQ(second, 1);
}

TEST_F(WriteQueueTest, TellsOfTheOwnersThatMayCallBack) {
  append_calling("ab", first);
  append("cd", second);
  append_calling("ef", second);
  queue.consume(2);
  size_t owners = 0;
  queue.each_owner_that_may_call_back([&owners](void*) { ++owners; });
  EXPECT_EQ(owners, 2U);
}

// Its release writes to the queue that it came from, and drops all that is queued.
struct CallingOwner {
  WriteQueue* queue;
  int* releases;
};

void call_back(void* owner) noexcept {
  CallingOwner& calling = *static_cast<CallingOwner*>(owner);
  ++*calling.releases;
  if (*calling.releases > 4) return;
  const WriteChunk chunk{reinterpret_cast<const std::byte*>("xy"), 2, owner, call_back};
  ASSERT_TRUE(calling.queue->append(chunk));
  ASSERT_TRUE(calling.queue->append(chunk));
  calling.queue->consume(3);
  calling.queue->clear();
  calling.queue->release_spent();
}

TEST(WriteQueue, AnOwnerMayCallAnythingWhenItIsReleased) {
  int releases = 0;
  {
    WriteQueue queue(call_back);
    CallingOwner owner{&queue, &releases};
    ASSERT_TRUE(queue.append({reinterpret_cast<const std::byte*>("abc"), 3, &owner, call_back}));
    ASSERT_TRUE(queue.append({reinterpret_cast<const std::byte*>("de"), 2, &owner, call_back}));
    queue.consume(4);
    queue.release_spent();
    EXPECT_TRUE(queue.empty());
    EXPECT_FALSE(queue.has_spent());
  }
  EXPECT_EQ(releases, 2 + 4 * 2);
}

TEST(WriteQueue, ReleasesWhatIsLeftWhenItDies) {
  int releases = 0;
  {
    WriteQueue queue(count_release);
    ASSERT_TRUE(queue.append({reinterpret_cast<const std::byte*>("abc"), 3, &releases}));
    queue.consume(1);
  }
  EXPECT_EQ(releases, 1);
}

TEST_F(WriteQueueTest, ShowsWhatIsLeftOfEachChunk) {
  append("hello", first);
  append("world", second);
  queue.consume(2);
  const auto text = [this](size_t index) {
    const std::span<const std::byte> bytes = queue.chunk(index);
    return std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  };
  EXPECT_EQ(text(0), "llo");
  EXPECT_EQ(text(1), "world");
}

TEST_F(WriteQueueTest, GrowsItsNewestChunkInPlace) {
  const std::string text = "abcdef";
  const auto* const at = reinterpret_cast<const std::byte*>(text.data());
  EXPECT_FALSE(queue.grow_last(at, 1)) << "nothing is queued";
  append(std::string_view(text).substr(0, 2), first);
  EXPECT_TRUE(queue.grow_last(at + 2, 3));
  EXPECT_FALSE(queue.grow_last(at + 2, 1)) << "the chunk ends elsewhere";
  EXPECT_EQ(peeked(), "abcde");
  queue.consume(3);
  EXPECT_TRUE(queue.grow_last(at + 5, 1));
  EXPECT_EQ(peeked(), "def");
  EXPECT_EQ(queue.bytes(), 3U);
  queue.consume(3);
  EXPECT_EQ(first, 1);
  EXPECT_FALSE(queue.grow_last(at + 6, 1)) << "the chunk is gone";
}

TEST_F(WriteQueueTest, GivesItsMemoryBackWhenItIsEmpty) {
  append("abc", first);
  queue.release_memory();
  EXPECT_EQ(peeked(), "abc");
  queue.consume(3);
  queue.release_memory();
  append("de", second);
  EXPECT_EQ(peeked(), "de");
}

}  // namespace
}  // namespace cxxloop::net
