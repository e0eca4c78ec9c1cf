// SPDX-License-Identifier: MIT
#include "base/unique_fd.h"

#include <fcntl.h>
#include <gtest/gtest.h>

namespace cxxloop {
namespace {

int open_something() { return ::open("/dev/null", O_RDONLY | O_CLOEXEC); }
bool is_open(int fd) { return ::fcntl(fd, F_GETFD) != -1; }

TEST(UniqueFd, ClosesWhatItOwns) {
  const int fd = open_something();
  { const UniqueFd owner(fd); }
  EXPECT_FALSE(is_open(fd));
}

TEST(UniqueFd, TakeHandsTheDescriptorOver) {
  const int fd = open_something();
  {
    UniqueFd owner(fd);
    EXPECT_EQ(owner.take(), fd);
    EXPECT_FALSE(owner.valid());
  }
  EXPECT_TRUE(is_open(fd));
  ::close(fd);
}

TEST(UniqueFd, MovingClosesOnlyTheOverwrittenOne) {
  const int kept = open_something();
  const int lost = open_something();
  UniqueFd from(kept);
  UniqueFd to(lost);
  to = std::move(from);
  EXPECT_EQ(to.get(), kept);
  EXPECT_TRUE(is_open(kept));
  EXPECT_FALSE(is_open(lost));
}

TEST(UniqueFd, ResetToItselfKeepsItOpen) {
  UniqueFd owner(open_something());
  owner.reset(owner.get());
  EXPECT_TRUE(is_open(owner.get()));
}

}  // namespace
}  // namespace cxxloop
