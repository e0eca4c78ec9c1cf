// SPDX-License-Identifier: MIT
#include "base/fork_generation.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

namespace cxxloop {
namespace {

TEST(ForkGeneration, DiffersInTheChildAndItsChildOnly) {
  const uint64_t here = fork_generation();
  const pid_t child = ::fork();
  if (child == 0) {
    const uint64_t in_child = fork_generation();
    const pid_t grandchild = ::fork();
    if (grandchild == 0) ::_exit(fork_generation() != in_child && fork_generation() != here ? 0 : 1);
    int status = -1;
    ::waitpid(grandchild, &status, 0);
    ::_exit(status == 0 && in_child != here && in_child == fork_generation() ? 0 : 1);
  }
  int status = -1;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(fork_generation(), here);
}

TEST(ForkGeneration, GoesOnFromAnAdoptedOne) {
  const uint64_t here = fork_generation();
  adopt_fork_generation(here + 5);
  EXPECT_EQ(fork_generation(), here + 5);
  const pid_t child = ::fork();
  if (child == 0) ::_exit(fork_generation() == here + 6 ? 0 : 1);
  int status = -1;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  adopt_fork_generation(here);
}

}  // namespace
}  // namespace cxxloop
