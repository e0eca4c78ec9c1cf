// SPDX-License-Identifier: MIT
#include "sim/late_backend.h"

#include <gtest/gtest.h>

#include <new>
#include <string>

#include "cpp/io/worlds.h"

static bool memory_is_out = false;

// The library's own calls this too.
void* operator new(std::size_t size, const std::nothrow_t&) noexcept { return memory_is_out ? nullptr : ::operator new(size); }

namespace cxxloop::io {
namespace {

class LateBackendTest : public testing::Test {
 protected:
  ~LateBackendTest() override {
    for (const int fd : {fds.near, fds.far}) world.close(fd);
  }
  SendResult try_send(SendProbe& send) {
    const iovec iov = {const_cast<char*>(send.rest.data()), send.rest.size()};
    return backend.try_send(send.op, {&iov, 1});
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

TEST_F(LateBackendTest, SubmitSaysThatMemoryIsOut) {
  PollProbe first(world, OpKind::poll_write, fds.near);
  PollProbe second(world, OpKind::poll_write, fds.far);
  ASSERT_EQ(first.submit(), Errno::ok);
  memory_is_out = true;
  EXPECT_EQ(second.submit(), Errno::no_memory);
  EXPECT_FALSE(second.op.in_kernel());
  memory_is_out = false;
  EXPECT_EQ(second.submit(), Errno::ok);
}

TEST_F(LateBackendTest, CancelNeedsNoMemory) {
  PollProbe poll(world, OpKind::poll_write, fds.near);
  RecvProbe recv(world, fds.far);
  ASSERT_EQ(poll.submit(), Errno::ok);
  ASSERT_EQ(recv.submit(), Errno::ok);
  memory_is_out = true;
  EXPECT_FALSE(backend.cancel(poll.op));
  EXPECT_FALSE(backend.cancel(recv.op));
  world.settle();
  memory_is_out = false;
  EXPECT_EQ(poll.completions, 1);
  EXPECT_EQ(recv.endings, 1);
}

TEST_F(LateBackendTest, ASendLeavesAtOnceWhenMemoryIsOut) {
  SendProbe send(world, fds.near, "text");
  memory_is_out = true;
  const SendResult sent = try_send(send);
  memory_is_out = false;
  ASSERT_TRUE(sent.is_sent());
  EXPECT_EQ(sent.bytes(), 4U);
  EXPECT_FALSE(send.op.in_kernel());
  EXPECT_EQ(world.read(fds.far), "text");
}

TEST_F(LateBackendTest, MemoryIsGivenBackUpToWhatACancelNeeds) {
  PollProbe poll(world, OpKind::poll_write, fds.near);
  SendProbe send(world, fds.far, "text");
  ASSERT_EQ(poll.submit(), Errno::ok);
  ASSERT_TRUE(try_send(send).is_queued());
  world.turn(Deadline::immediate());
  EXPECT_EQ(send.completions, 1);
  backend.release_memory();
  memory_is_out = true;
  EXPECT_FALSE(try_send(send).is_queued());
  EXPECT_FALSE(backend.cancel(poll.op));
  world.settle();
  memory_is_out = false;
  EXPECT_FALSE(poll.op.in_kernel());
}

// What another thread takes back while wait() sleeps ends the sleep.
class CancelBySleepHooks final : public SleepHooks {
 public:
  explicit CancelBySleepHooks(PollProbe& poll) : poll_(poll) {}
  void before_sleep() noexcept override { EXPECT_FALSE(poll_.backend.cancel(poll_.op)); }
  void after_sleep() noexcept override {}

 private:
  PollProbe& poll_;
};

TEST_F(LateBackendTest, ACancelDuringTheSleepEndsIt) {
  PollProbe poll(world, OpKind::poll_read, fds.near);
  CancelBySleepHooks hooks(poll);
  backend.set_sleep_hooks(&hooks);
  ASSERT_EQ(poll.submit(), Errno::ok);
  const int64_t begun_ns = world.now_ns();
  world.turn(Deadline{begun_ns + 60 * ns_per_second});
  backend.set_sleep_hooks(nullptr);
  EXPECT_LT(world.now_ns() - begun_ns, 30 * ns_per_second);
  EXPECT_EQ(poll.completions, 1);
}

}  // namespace
}  // namespace cxxloop::io
