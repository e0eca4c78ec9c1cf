// SPDX-License-Identifier: MIT
#include "web/core/output.h"

#include <gtest/gtest.h>

#include <string>

#include "cpp/io/worlds.h"
#include "net/stream.h"

namespace cxxloop::web {
namespace {

struct Nobody final : net::StreamHandler {
  std::optional<std::span<std::byte>> on_read_target() noexcept override { return std::nullopt; }
  void on_data(std::span<const std::byte>) noexcept override {}
  void on_eof() noexcept override {}
  void on_read_error(Errno) noexcept override {}
  void on_send_waiting(bool) noexcept override {}
  void on_sent() noexcept override {}
  void on_write_error(Errno) noexcept override {}
  void on_released() noexcept override {}
};

class OutputTest : public testing::Test {
 protected:
  struct Writer {
    Writer(io::World& in_world, OutputPool& pool)
        : world(in_world), fds(world.make_pair()), stream(world.backend(), fds.near, nobody, OutputPool::let_go), output(pool, stream.queue()) {}
    ~Writer() {
      EXPECT_TRUE(stream.release());
      world.close(fds.far);
    }
    void put(std::string_view text) {
      ASSERT_NE(output.reserve(text.size()), nullptr);
      output.put(text);
    }
    std::string sent() {
      stream.flush();
      return world.read(fds.far);
    }

    io::World& world;
    io::FdPair fds;
    Nobody nobody;
    net::Stream stream;
    Output output;
  };

  static void release(void* owner) noexcept { ++*static_cast<int*>(owner); }

  io::SimWorld world;
  uint64_t queued_bytes = 0;
  OutputPool pool{release, queued_bytes};
  int releases = 0;
};

TEST_F(OutputTest, MakesOneChunkOfWhatIsWrittenInARow) {
  Writer writer(world, pool);
  for (const char* text : {"head ", "body ", "next"}) writer.put(text);
  EXPECT_EQ(writer.stream.queue().chunks(), 1U);
  EXPECT_EQ(writer.sent(), "head body next");
}

TEST_F(OutputTest, BeginsItsBlockAnewWhenAllIsSent) {
  Writer writer(world, pool);
  char* const first = writer.output.reserve(1);
  writer.output.put("a");
  EXPECT_EQ(writer.output.reserve(1), first + 1);
  EXPECT_EQ(writer.sent(), "a");
  EXPECT_EQ(writer.output.reserve(1), first);
}

TEST_F(OutputTest, KeepsTheBytesOfTwoConnectionsApart) {
  Writer one(world, pool);
  Writer other(world, pool);
  for (int i = 0; i < 3000; ++i) {
    one.put("one,");
    other.put("other,");
  }
  std::string expected_one;
  std::string expected_other;
  for (int i = 0; i < 3000; ++i) expected_one += "one,", expected_other += "other,";
  EXPECT_EQ(other.sent(), expected_other);
  EXPECT_EQ(one.sent(), expected_one);
}

TEST_F(OutputTest, WritesMoreThanABlock) {
  Writer writer(world, pool);
  const std::string large(3 * OutputPool::block_bytes, 'x');
  writer.put("a");
  writer.put(large);
  writer.put("b");
  EXPECT_EQ(writer.sent(), "a" + large + "b");
}

TEST_F(OutputTest, LendsBetweenWhatItCopies) {
  Writer writer(world, pool);
  const std::string lent = "lent";
  char* const at = writer.output.reserve(2);
  *at = 'a';
  writer.output.commit(1);
  writer.output.lend(lent, &releases);
  writer.output.put("b");
  writer.put("c");
  EXPECT_EQ(writer.stream.queue().chunks(), 3U);
  EXPECT_EQ(releases, 0);
  EXPECT_EQ(writer.sent(), "alentbc");
  EXPECT_EQ(releases, 1);
  EXPECT_EQ(queued_bytes, 7U);
}

TEST_F(OutputTest, ReleasesWhatIsDropped) {
  const std::string lent = "lent";
  {
    Writer writer(world, pool);
    ASSERT_NE(writer.output.reserve(1), nullptr);
    writer.output.put("a");
    writer.output.lend(lent, &releases);
    writer.stream.drop_writes();
    EXPECT_EQ(releases, 1);
    EXPECT_EQ(writer.sent(), "");
  }
  for (int i = 0; i < 400; ++i) {  // more than are kept for the next
    Writer writer(world, pool);
    writer.put("x");
    ASSERT_NE(writer.output.reserve(1), nullptr);
    writer.output.lend(lent, &releases);
  }
  EXPECT_EQ(releases, 401);
}

}  // namespace
}  // namespace cxxloop::web
