// SPDX-License-Identifier: MIT
#include "sim/late_backend.h"

#include <gtest/gtest.h>

#include "cpp/io/worlds.h"

namespace cxxloop::io {
namespace {

class LateBackendTest : public testing::Test {
 protected:
  ~LateBackendTest() override {
    for (const int fd : {fds.near, fds.far}) world.close(fd);
  }
  LateWorld world;
  Backend& backend = world.backend();
  const FdPair fds = world.make_pair();
};

TEST_F(LateBackendTest, ACancelledOpCompletesOnceMoreAndLater) {
  PollProbe poll(world, OpKind::poll_write, fds.near);
  ASSERT_EQ(poll.submit(), Errno::ok);
  EXPECT_FALSE(backend.cancel(poll.op));
  EXPECT_FALSE(backend.cancel(poll.op));
  EXPECT_TRUE(poll.op.in_kernel());
  EXPECT_EQ(poll.completions, 0);
  EXPECT_EQ(backend.ops_count(), 1U);
  world.turn(Deadline::never());
  EXPECT_EQ(poll.completions, 1);
  EXPECT_FALSE(poll.op.in_kernel());
  EXPECT_EQ(backend.ops_count(), 0U);
}

TEST_F(LateBackendTest, WhatIsCancelledInTheMiddleOfABatchWaitsForTheNext) {
  PollProbe poll(world, OpKind::poll_write, fds.near);
  RecvProbe recv(world, fds.far);
  ASSERT_EQ(poll.submit(), Errno::ok);
  ASSERT_EQ(recv.submit(), Errno::ok);
  poll.then = [&] {
    poll.then = nullptr;
    EXPECT_FALSE(backend.cancel(recv.op));
  };
  world.turn(Deadline::never());
  EXPECT_EQ(recv.endings, 0);
  world.turn(Deadline::never());
  EXPECT_EQ(recv.endings, 1);
  EXPECT_EQ(recv.last_result, -ECANCELED);
}

TEST_F(LateBackendTest, AConnectionMayComeAfterTheCancel) {
  const int listener = world.make_listener();
  AcceptProbe accept(world, listener, 1);
  size_t came = 0;
  for (int i = 0; i < 4; ++i) {
    ASSERT_EQ(accept.submit(), Errno::ok);
    const int client = world.connect(listener);
    EXPECT_FALSE(backend.cancel(accept.op));
    world.settle();
    EXPECT_FALSE(accept.op.in_kernel());
    came = accept.accepted.size();
    world.close(client);
  }
  EXPECT_GT(came, 0U);
  EXPECT_GT(accept.errors.size(), 0U);
  world.close(listener);
}

}  // namespace
}  // namespace cxxloop::io
