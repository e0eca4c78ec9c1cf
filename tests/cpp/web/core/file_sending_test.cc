// SPDX-License-Identifier: MIT
#include "web/core/file_sending.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <string>

#include "cpp/io/worlds.h"

namespace cxxloop::web {
namespace {

class FileSendingTest : public testing::Test {
 protected:
  FileSendingTest() : fds(world.make_pair()) {
    for (int i = 0; i < 200'000; ++i) content += std::to_string(i) + ' ';
    EXPECT_EQ(std::fwrite(content.data(), 1, content.size(), file), content.size());
    std::fflush(file);
  }
  ~FileSendingTest() override {
    world.forget_and_close(fds.near);
    world.close(fds.far);
    std::fclose(file);
  }
  static void count(void* test) noexcept { ++static_cast<FileSendingTest*>(test)->calls; }

  io::EvWorld world;
  io::FdPair fds;
  std::FILE* file = std::tmpfile();
  std::string content;
  int calls = 0;
};

TEST_F(FileSendingTest, SendsPieceByPieceAndWaitsForRoom) {
  FileSending sending(world.backend(), fds.near, fileno(file), 0, content.size(), this, count);
  FileSending::Progress progress = FileSending::Progress::some;
  while (progress == FileSending::Progress::some) progress = sending.send_piece();
  ASSERT_EQ(progress, FileSending::Progress::none);
  ASSERT_EQ(sending.wait(), Errno::ok);
  EXPECT_TRUE(sending.is_waiting());
  world.settle();
  EXPECT_EQ(calls, 0);
  std::string got;
  while (!sending.is_done()) {
    ASSERT_TRUE(world.run_until([&] {
      got += world.read(fds.far);
      return calls > 0;
    }));
    calls = 0;
    progress = sending.send_piece();
  }
  EXPECT_EQ(progress, FileSending::Progress::done);
  EXPECT_TRUE(sending.stop());
  EXPECT_FALSE(sending.is_waiting());
  EXPECT_EQ(got + world.read(fds.far), content);
}

TEST_F(FileSendingTest, SendsAPartAndFindsOutThatAFileIsShort) {
  FileSending part(world.backend(), fds.near, fileno(file), content.size() - 5, 5, this, count);
  EXPECT_EQ(part.send_piece(), FileSending::Progress::done);
  EXPECT_EQ(world.read(fds.far), content.substr(content.size() - 5));
  FileSending beyond(world.backend(), fds.near, fileno(file), content.size(), 5, this, count);
  EXPECT_EQ(beyond.send_piece(), FileSending::Progress::short_file);
  FileSending unreadable(world.backend(), fds.near, -1, 0, 5, this, count);
  EXPECT_EQ(unreadable.send_piece(), FileSending::Progress::short_file);
}

}  // namespace
}  // namespace cxxloop::web
