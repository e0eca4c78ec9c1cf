// SPDX-License-Identifier: MIT
#include "io/pipe.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <array>
#include <span>
#include <string>
#include <vector>

#include "base/unique_fd.h"

namespace cxxloop::io {
namespace {

class PipeTest : public testing::Test {
 protected:
  void SetUp() override {
    int ends[2];
    ASSERT_EQ(pipe2(ends, O_NONBLOCK | O_CLOEXEC), 0);
    read_end_ = UniqueFd(ends[0]);
    write_end_ = UniqueFd(ends[1]);
    (void)signal(SIGPIPE, SIG_IGN);  // as Python does
  }

  static std::span<const std::byte> bytes_of(const std::string& text) {
    return std::as_bytes(std::span(text.data(), text.size()));
  }

  std::string read_some(size_t size) {
    std::string text(size, '\0');
    Result<size_t> count = read(read_end_.get(), std::as_writable_bytes(std::span(text)));
    EXPECT_TRUE(count.ok());
    text.resize(count.ok() ? count.value() : 0);
    return text;
  }

  UniqueFd read_end_;
  UniqueFd write_end_;
};

TEST_F(PipeTest, ReadsWhatWasWritten) {
  ASSERT_EQ(write(write_end_.get(), bytes_of("hello")).value(), 5u);
  EXPECT_EQ(read_some(16), "hello");
}

TEST_F(PipeTest, AnEmptyPipeSaysAgainAndAClosedOneEnds) {
  std::array<std::byte, 4> buffer;
  EXPECT_EQ(read(read_end_.get(), buffer).error(), Errno::again);
  write_end_.reset();
  EXPECT_EQ(read(read_end_.get(), buffer).value(), 0u);
}

TEST_F(PipeTest, AFullPipeTakesAPartAndThenSaysAgain) {
  const std::string much(1 << 20, 'x');
  Result<size_t> taken = write(write_end_.get(), bytes_of(much));
  ASSERT_TRUE(taken.ok());
  EXPECT_GT(taken.value(), 0u);
  EXPECT_LT(taken.value(), much.size());
  EXPECT_EQ(write(write_end_.get(), bytes_of(much)).error(), Errno::again);
}

TEST_F(PipeTest, WritesVectorsInOrderAndAsManyAsTheKernelTakes) {
  std::string digits = "0123456789";
  std::vector<iovec> iov;
  for (char& digit : digits) iov.push_back({&digit, 1});
  ASSERT_EQ(write_vector(write_end_.get(), iov).value(), 10u);
  EXPECT_EQ(read_some(16), digits);
  iov.assign(4096, {digits.data(), 1});
  Result<size_t> taken = write_vector(write_end_.get(), iov);
  ASSERT_TRUE(taken.ok());
  EXPECT_EQ(taken.value(), 1024u);  // IOV_MAX
}

TEST_F(PipeTest, AReaderThatIsGoneIsAnErrorAndNoSignal) {
  read_end_.reset();
  EXPECT_EQ(write(write_end_.get(), bytes_of("x")).error(), Errno::pipe);
}

}  // namespace
}  // namespace cxxloop::io
