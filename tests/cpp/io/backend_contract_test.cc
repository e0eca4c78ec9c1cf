// SPDX-License-Identifier: MIT
//
// What io/backend.h and io/op.h promise, on every backend.
#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "cpp/io/worlds.h"

namespace cxxloop::io {
namespace {

template <class W>
class BackendContract : public testing::Test {
 protected:
  // A pair that is closed with the test.
  FdPair pair() {
    const FdPair fds = world.make_pair();
    opened.push_back(fds.near);
    opened.push_back(fds.far);
    return fds;
  }
  FdPair datagram_pair() {
    const FdPair fds = world.make_datagram_pair();
    opened.push_back(fds.near);
    opened.push_back(fds.far);
    return fds;
  }
  void close(int fd) {
    std::erase(opened, fd);
    world.forget_and_close(fd);
  }
  // Writes until nothing more fits.
  void fill(int fd) {
    const std::string block(64 * 1024, 'x');
    while (world.write(fd, block) > 0) {
    }
  }
  void TearDown() override {
    EXPECT_EQ(world.backend().ops_count(), 0U);
    for (const int fd : opened) world.close(fd);
  }

  W world;
  std::vector<int> opened;
};

struct WorldNames {
  template <class W>
  static std::string GetName(int) {
    if (std::is_same_v<W, EvWorld>) return "Libev";
    if (std::is_same_v<W, LateWorld>) return "Late";
    if (std::is_same_v<W, QueueingSimWorld>) return "SimulatorThatQueues";
    return std::is_same_v<W, SimWorld> ? "Simulator" : "SimulatorWithBenignFaults";
  }
};
using AllWorlds = testing::Types<EvWorld, LateWorld, SimWorld, QueueingSimWorld, BenignSimWorld>;
TYPED_TEST_SUITE(BackendContract, AllWorlds, WorldNames);

TYPED_TEST(BackendContract, SubmitRefusesWhatIsNoDescriptor) {
  PollProbe negative(this->world, OpKind::poll_read, -1);
  EXPECT_EQ(negative.submit(), Errno::bad_fd);
  const FdPair fds = this->pair();
  this->close(fds.near);
  for (const OpKind kind : {OpKind::poll_read, OpKind::poll_write}) {
    PollProbe closed(this->world, kind, fds.near);
    EXPECT_EQ(closed.submit(), Errno::bad_fd);
  }
  RecvProbe closed(this->world, fds.near);
  EXPECT_EQ(closed.submit(), Errno::bad_fd);
  EXPECT_FALSE(closed.op.in_kernel());
}

TYPED_TEST(BackendContract, OneOpPerDirection) {
  const FdPair fds = this->pair();
  PollProbe first(this->world, OpKind::poll_read, fds.near);
  ASSERT_EQ(first.submit(), Errno::ok);
  RecvProbe second(this->world, fds.near);
  EXPECT_EQ(second.submit(), Errno::exists);
  PollProbe other_direction(this->world, OpKind::poll_write, fds.near);
  EXPECT_EQ(other_direction.submit(), Errno::ok);
  EXPECT_EQ(this->world.backend().ops_count(), 2U);
}

TYPED_TEST(BackendContract, PollIsLevelTriggered) {
  const FdPair fds = this->pair();
  PollProbe probe(this->world, OpKind::poll_read, fds.near);
  ASSERT_EQ(probe.submit(), Errno::ok);
  this->world.settle();
  EXPECT_EQ(probe.completions, 0);
  this->world.write(fds.far, "x");
  EXPECT_TRUE(this->world.run_until([&] { return probe.completions >= 5; }));
  EXPECT_TRUE(probe.op.in_kernel());
  EXPECT_EQ(this->world.read(fds.near), "x");
  this->world.settle();
  const int before = probe.completions;
  this->world.settle();
  EXPECT_EQ(probe.completions, before);
}

TYPED_TEST(BackendContract, PollWriteTellsWhetherThereIsRoom) {
  const FdPair fds = this->pair();
  PollProbe probe(this->world, OpKind::poll_write, fds.near);
  ASSERT_EQ(probe.submit(), Errno::ok);
  EXPECT_TRUE(this->world.run_until([&] { return probe.completions >= 2; }));
  this->fill(fds.near);
  probe.completions = 0;
  this->world.settle();
  EXPECT_EQ(probe.completions, 0);
  this->world.read(fds.far);
  EXPECT_TRUE(this->world.run_until([&] { return probe.completions > 0; }));
}

TYPED_TEST(BackendContract, CancelOfOneDirectionKeepsTheOther) {
  const FdPair fds = this->pair();
  PollProbe reader(this->world, OpKind::poll_read, fds.near);
  PollProbe writer(this->world, OpKind::poll_write, fds.near);
  ASSERT_EQ(reader.submit(), Errno::ok);
  ASSERT_EQ(writer.submit(), Errno::ok);
  EXPECT_TRUE(this->world.run_until([&] { return writer.completions > 0; }));
  EXPECT_EQ(reader.completions, 0);
  this->world.take_back(writer.op);
  const int written = writer.completions;
  this->world.write(fds.far, "x");
  EXPECT_TRUE(this->world.run_until([&] { return reader.completions > 1; }));
  EXPECT_EQ(writer.completions, written);
}

TYPED_TEST(BackendContract, CancelMakesIdleAndIsRepeatable) {
  if (this->world.cancels_late()) GTEST_SKIP() << "one more completion comes";
  const FdPair fds = this->pair();
  PollProbe probe(this->world, OpKind::poll_write, fds.near);
  EXPECT_TRUE(this->world.backend().cancel(probe.op));
  for (int i = 0; i < 3; ++i) {
    ASSERT_EQ(probe.submit(), Errno::ok);
    EXPECT_TRUE(probe.op.in_kernel());
    EXPECT_TRUE(this->world.backend().cancel(probe.op));
    EXPECT_TRUE(this->world.backend().cancel(probe.op));
    EXPECT_FALSE(probe.op.in_kernel());
    EXPECT_EQ(this->world.backend().ops_count(), 0U);
  }
  this->world.settle();
  EXPECT_EQ(probe.completions, 0);
}

TYPED_TEST(BackendContract, CancelDropsACollectedCompletion) {
  if (this->world.cancels_late()) GTEST_SKIP() << "one more completion comes";
  std::vector<std::unique_ptr<PollProbe>> probes;
  int called = 0;
  for (int i = 0; i < 8; ++i) {
    const FdPair fds = this->pair();
    this->world.write(fds.far, "x");
    probes.push_back(std::make_unique<PollProbe>(this->world, OpKind::poll_read, fds.near));
    probes.back()->then = [&] {
      ++called;
      for (auto& probe : probes) EXPECT_TRUE(probe->backend.cancel(probe->op));
    };
    ASSERT_EQ(probes.back()->submit(), Errno::ok);
  }
  EXPECT_TRUE(this->world.run_until([&] { return called > 0; }));
  this->world.settle();
  EXPECT_EQ(called, 1);
}

TYPED_TEST(BackendContract, ACallbackMayDestroyItsOpAndOthers) {
  if (this->world.cancels_late()) GTEST_SKIP() << "an op may not die before its last completion";
  std::vector<std::unique_ptr<PollProbe>> probes;
  int called = 0;
  for (int i = 0; i < 8; ++i) {
    const FdPair fds = this->pair();
    probes.push_back(std::make_unique<PollProbe>(this->world, OpKind::poll_write, fds.near));
    probes.back()->then = [&] {
      ++called;
      probes.clear();
    };
    ASSERT_EQ(probes.back()->submit(), Errno::ok);
  }
  EXPECT_TRUE(this->world.run_until([&] { return called > 0; }));
  this->world.settle();
  EXPECT_EQ(called, 1);
}

TYPED_TEST(BackendContract, ACallbackMaySubmitManyOps) {
  std::vector<std::unique_ptr<PollProbe>> probes;
  const auto add = [&] {
    probes.push_back(std::make_unique<PollProbe>(this->world, OpKind::poll_write, this->pair().near));
    EXPECT_EQ(probes.back()->submit(), Errno::ok);
  };
  for (int i = 0; i < 60; ++i) add();
  bool added = false;
  probes[0]->then = [&] {
    if (std::exchange(added, true)) return;
    for (int i = 0; i < 150; ++i) add();
  };
  const auto all_called = [&] {
    for (auto& probe : probes) {
      if (probe->completions == 0) return false;
    }
    return added;
  };
  EXPECT_TRUE(this->world.run_until(all_called));
}

TYPED_TEST(BackendContract, RecvDeliversAllBytesInOrder) {
  const FdPair fds = this->pair();
  RecvProbe probe(this->world, fds.near);
  ASSERT_EQ(probe.submit(), Errno::ok);
  std::string sent;
  for (int i = 0; i < 200; ++i) {
    const std::string part = std::to_string(i) + ";";
    ASSERT_EQ(this->world.write(fds.far, part), part.size());
    sent += part;
    if (i % 10 == 0) this->world.turn(Deadline::immediate());
  }
  EXPECT_TRUE(this->world.run_until([&] { return probe.bytes.size() >= sent.size(); }));
  EXPECT_EQ(probe.bytes, sent);
  EXPECT_TRUE(probe.op.in_kernel());
}

TYPED_TEST(BackendContract, RecvFillsTheOwnersBuffer) {
  const FdPair fds = this->pair();
  RecvProbe probe(this->world, fds.near);
  std::array<std::byte, 3> buffer;
  probe.choose_target = [&] { return std::span<std::byte>(buffer); };
  probe.then = [&] { EXPECT_EQ(probe.op.data, buffer.data()); };
  ASSERT_EQ(probe.submit(), Errno::ok);
  this->world.write(fds.far, "abcdefgh");
  EXPECT_TRUE(this->world.run_until([&] { return probe.bytes.size() == 8; }));
  EXPECT_EQ(probe.bytes, "abcdefgh");
}

// The kernel copies bulk twice as fast to there, on some processors.
TYPED_TEST(BackendContract, TheBackendsOwnBufferBeginsAtAPage) {
  const FdPair fds = this->pair();
  RecvProbe stream(this->world, fds.near);
  stream.then = [&] { EXPECT_EQ(reinterpret_cast<uintptr_t>(stream.op.data) % 4096, 0U); };
  ASSERT_EQ(stream.submit(), Errno::ok);
  this->world.write(fds.far, "x");
  EXPECT_TRUE(this->world.run_until([&] { return stream.bytes == "x"; }));
  const FdPair datagram_fds = this->datagram_pair();
  RecvFromProbe datagram(this->world, datagram_fds.near);
  datagram.then = [&] { EXPECT_EQ(reinterpret_cast<uintptr_t>(datagram.op.data) % 4096, 0U); };
  ASSERT_EQ(datagram.submit(), Errno::ok);
  this->world.write(datagram_fds.far, "x");
  EXPECT_TRUE(this->world.run_until([&] { return datagram.datagrams.size() == 1; }));
}

TYPED_TEST(BackendContract, RecvReadsNothingWithoutATarget) {
  const FdPair fds = this->pair();
  RecvProbe probe(this->world, fds.near);
  int asked = 0;
  probe.choose_target = [&]() -> std::optional<std::span<std::byte>> {
    if (++asked < 3) return std::nullopt;
    return std::span<std::byte>();
  };
  ASSERT_EQ(probe.submit(), Errno::ok);
  this->world.write(fds.far, "kept");
  EXPECT_TRUE(this->world.run_until([&] { return asked >= 2; }));
  EXPECT_EQ(probe.bytes, "");
  EXPECT_TRUE(this->world.run_until([&] { return probe.bytes == "kept"; }));
}

TYPED_TEST(BackendContract, TheTargetCallbackMayDestroyTheOp) {
  if (this->world.cancels_late()) GTEST_SKIP() << "an op may not die before its last completion";
  const FdPair fds = this->pair();
  auto probe = std::make_unique<RecvProbe>(this->world, fds.near);
  probe->choose_target = [&]() -> std::optional<std::span<std::byte>> {
    probe.reset();
    return std::nullopt;
  };
  ASSERT_EQ(probe->submit(), Errno::ok);
  this->world.write(fds.far, "x");
  EXPECT_TRUE(this->world.run_until([&] { return probe == nullptr; }));
  this->world.settle();
}

TYPED_TEST(BackendContract, ATargetCallbackThatCancelsMayStillTakeThisRead) {
  if (this->world.cancels_late()) GTEST_SKIP() << "one more completion comes";
  const FdPair fds = this->pair();
  RecvProbe probe(this->world, fds.near);
  std::array<std::byte, 8> buffer;
  probe.choose_target = [&] {
    EXPECT_TRUE(this->world.backend().cancel(probe.op));
    return std::span<std::byte>(buffer);
  };
  ASSERT_EQ(probe.submit(), Errno::ok);
  this->world.write(fds.far, "x");
  EXPECT_TRUE(this->world.run_until([&] { return probe.bytes == "x"; }));
  EXPECT_FALSE(probe.op.in_kernel());
  ASSERT_EQ(probe.submit(), Errno::ok);
  this->close(fds.far);
  EXPECT_TRUE(this->world.run_until([&] { return probe.endings == 1; }));
}

TYPED_TEST(BackendContract, RecvEndsAtEndOfFile) {
  const FdPair fds = this->pair();
  RecvProbe probe(this->world, fds.near);
  ASSERT_EQ(probe.submit(), Errno::ok);
  this->world.write(fds.far, "last");
  this->close(fds.far);
  EXPECT_TRUE(this->world.run_until([&] { return probe.endings > 0; }));
  EXPECT_EQ(probe.bytes, "last");
  EXPECT_EQ(probe.last_result, 0);
  this->world.settle();
  EXPECT_EQ(probe.endings, 1);
  ASSERT_EQ(probe.submit(), Errno::ok);
  EXPECT_TRUE(this->world.run_until([&] { return probe.endings == 2; }));
}

TYPED_TEST(BackendContract, ARecvCallbackMayDestroyItsOp) {
  if (this->world.cancels_late()) GTEST_SKIP() << "an op may not die before its last completion";
  const FdPair fds = this->pair();
  auto probe = std::make_unique<RecvProbe>(this->world, fds.near);
  probe->then = [&] { probe.reset(); };
  ASSERT_EQ(probe->submit(), Errno::ok);
  this->world.write(fds.far, "x");
  EXPECT_TRUE(this->world.run_until([&] { return probe == nullptr; }));
  this->world.settle();
}

TYPED_TEST(BackendContract, SendCompletesOncePerSubmit) {
  const FdPair fds = this->pair();
  const std::string text = "a vectored message";
  SendProbe probe(this->world, fds.near, text);
  while (!probe.rest.empty()) {
    const int before = probe.completions;
    ASSERT_EQ(probe.submit(), Errno::ok);
    ASSERT_TRUE(this->world.run_until([&] { return probe.completions > before; }));
    ASSERT_GT(probe.last_result, 0);
    this->world.settle();
    ASSERT_EQ(probe.completions, before + 1);
  }
  EXPECT_EQ(this->world.read(fds.far), text);
}

TYPED_TEST(BackendContract, SendGathersItsVector) {
  const FdPair fds = this->pair();
  SendProbe probe(this->world, fds.near, "head body tail");
  probe.piece_bytes = 5;
  ASSERT_EQ(this->world.backend().submit(probe.op), Errno::ok);
  ASSERT_TRUE(this->world.run_until([&] { return probe.completions == 1; }));
  const std::string all = "head body tail";
  EXPECT_EQ(this->world.read(fds.far), all.substr(0, static_cast<size_t>(probe.last_result)));
}

TYPED_TEST(BackendContract, SendWaitsForRoom) {
  const FdPair fds = this->pair();
  this->fill(fds.near);
  SendProbe probe(this->world, fds.near, "behind all that");
  ASSERT_EQ(probe.submit(), Errno::ok);
  this->world.settle();
  EXPECT_EQ(probe.completions, 0);
  this->world.read(fds.far);
  EXPECT_TRUE(this->world.run_until([&] { return probe.completions == 1; }));
  EXPECT_GT(probe.last_result, 0);
}

TYPED_TEST(BackendContract, ASendCallbackMaySubmitAgainOrDestroyItsOp) {
  if (this->world.cancels_late()) GTEST_SKIP() << "an op may not die before its last completion";
  const FdPair fds = this->pair();
  auto probe = std::make_unique<SendProbe>(this->world, fds.near, "0123456789");
  int completions = 0;
  probe->then = [&] {
    if (++completions < 3 && !probe->rest.empty()) {
      EXPECT_EQ(probe->submit(), Errno::ok);
    } else {
      probe.reset();
    }
  };
  ASSERT_EQ(probe->submit(), Errno::ok);
  EXPECT_TRUE(this->world.run_until([&] { return probe == nullptr; }));
  this->world.settle();
}

TYPED_TEST(BackendContract, SendToAPeerThatIsGoneFails) {
  const FdPair fds = this->pair();
  this->close(fds.far);
  SendProbe probe(this->world, fds.near, "nobody hears this");
  ASSERT_EQ(probe.submit(), Errno::ok);
  EXPECT_TRUE(this->world.run_until([&] { return probe.completions == 1; }));
  EXPECT_EQ(errno_of(probe.last_result), Errno::pipe);
}

TYPED_TEST(BackendContract, SendNowSendsOrSaysAgain) {
  const FdPair fds = this->pair();
  std::string text = "hello";
  for (int i = 0; i < 1000 && !text.empty(); ++i) {
    const iovec iov{text.data(), text.size()};
    Result<size_t> sent = this->world.backend().send_now(fds.near, {&iov, 1});
    if (!sent.ok()) {
      ASSERT_EQ(sent.error(), Errno::again);
      continue;
    }
    EXPECT_EQ(this->world.read(fds.far), text.substr(0, sent.value()));
    text.erase(0, sent.value());
  }
  EXPECT_EQ(text, "");
  this->fill(fds.near);
  const iovec iov{text.data(), 1};
  Result<size_t> refused = this->world.backend().send_now(fds.near, {&iov, 1});
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error(), Errno::again);
}

// Sends what a probe has left; true: it was queued.
template <class W>
bool try_send(W& world, SendProbe& probe) {
  std::array<iovec, SendOp::iov_max> iov;
  const size_t count = SendProbe::gather(probe.op, iov);
  const SendResult result = world.backend().try_send(probe.op, std::span(iov).first(count));
  if (result.is_sent()) probe.rest.remove_prefix(result.bytes());
  EXPECT_TRUE(result.is_sent() || result.is_full() || result.is_queued());
  EXPECT_EQ(probe.op.in_kernel(), result.is_queued());
  return result.is_queued();
}

TYPED_TEST(BackendContract, TrySendSendsOrQueuesOrSaysFull) {
  const FdPair fds = this->pair();
  const std::string text = "head and body";
  SendProbe probe(this->world, fds.near, text);
  for (int i = 0; i < 1000 && !probe.rest.empty(); ++i) {
    const int before = probe.completions;
    if (!try_send(this->world, probe)) continue;
    this->world.backend().flush();
    EXPECT_TRUE(this->world.run_until([&] { return probe.completions > before; }));
    EXPECT_EQ(probe.completions, before + 1);
    EXPECT_TRUE(probe.last_result > 0 || probe.last_result == -EAGAIN);
  }
  EXPECT_EQ(this->world.read(fds.far), text);
}

TYPED_TEST(BackendContract, WhatIsQueuedIsSentByFlush) {
  const FdPair fds = this->pair();
  SendProbe probe(this->world, fds.near, "now");
  if (!try_send(this->world, probe)) return;
  EXPECT_EQ(this->world.read(fds.far), "");
  this->world.backend().flush();
  const std::string arrived = this->world.read(fds.far);
  EXPECT_EQ(probe.completions, 0);
  EXPECT_TRUE(this->world.run_until([&] { return probe.completions == 1; }));
  EXPECT_EQ(probe.last_result, arrived.empty() ? -EAGAIN : static_cast<int32_t>(arrived.size()));
}

TYPED_TEST(BackendContract, WhatIsQueuedIsSentByWaitAndCompletesWhenTheKernelIsFull) {
  const FdPair fds = this->pair();
  this->fill(fds.near);
  SendProbe probe(this->world, fds.near, "no room");
  if (!try_send(this->world, probe)) return;
  EXPECT_TRUE(this->world.run_until([&] { return probe.completions == 1; }));
  EXPECT_EQ(probe.last_result, -EAGAIN);
}

TYPED_TEST(BackendContract, SettleTellsAtOnceAndForAll) {
  for (const bool flushed : {false, true}) {
    const FdPair fds = this->pair();
    SendProbe probe(this->world, fds.near, "settled");
    if (!try_send(this->world, probe)) continue;
    if (flushed) this->world.backend().flush();
    const SendResult result = this->world.backend().settle(probe.op);
    ASSERT_TRUE(result.is_sent() || result.is_full());
    EXPECT_FALSE(probe.op.in_kernel());
    EXPECT_EQ(this->world.read(fds.far), std::string("settled").substr(0, result.is_sent() ? result.bytes() : 0));
    this->world.settle();
    EXPECT_EQ(probe.completions, 0);
  }
}

TYPED_TEST(BackendContract, AQueuedSendIsNotSentToTheNextOwnerOfTheNumber) {
  const FdPair fds = this->pair();
  SendProbe probe(this->world, fds.near, "for nobody");
  int owner = fds.near;
  probe.op.fd_witness = &owner;
  if (!try_send(this->world, probe)) return;
  owner = -1;
  EXPECT_TRUE(this->world.run_until([&] { return probe.completions == 1; }));
  EXPECT_EQ(probe.last_result, -EBADF);
  EXPECT_EQ(this->world.read(fds.far), "");
}

TYPED_TEST(BackendContract, DrainTakesEverythingBackAndCallsNobody) {
  const FdPair fds = this->pair();
  const FdPair other = this->pair();
  const FdPair datagrams = this->datagram_pair();
  const int listener = this->world.make_listener();
  const int client = this->world.connect(listener);
  this->fill(fds.near);
  int calls = 0;
  const auto count = [&] { ++calls; };
  PollProbe poll(this->world, OpKind::poll_write, other.near);
  RecvProbe recv(this->world, fds.near);
  SendProbe waiting(this->world, fds.near, "waits");
  SendProbe queued(this->world, other.far, "goes");
  RecvFromProbe recv_from(this->world, datagrams.near);
  AcceptProbe accept(this->world, listener, 8);
  poll.then = recv.then = waiting.then = queued.then = recv_from.then = accept.then = count;
  for (Op* const op : {&poll.op, static_cast<Op*>(&recv.op), static_cast<Op*>(&waiting.op),
                       static_cast<Op*>(&recv_from.op), static_cast<Op*>(&accept.op)}) {
    ASSERT_EQ(this->world.backend().submit(*op), Errno::ok);
  }
  this->world.write(fds.far, "unread");
  this->world.write(datagrams.far, "unread");
  ASSERT_EQ(this->world.backend().wait(Deadline::immediate()), Errno::ok);
  const bool was_queued = try_send(this->world, queued);
  if (!was_queued) this->world.read(other.near);
  this->world.backend().drain();
  EXPECT_EQ(this->world.backend().ops_count(), 0U);
  EXPECT_FALSE(queued.op.in_kernel() || accept.op.in_kernel() || waiting.op.in_kernel());
  const std::string arrived = this->world.read(other.near);
  EXPECT_EQ(arrived, was_queued && !arrived.empty() ? "goes" : "");
  const bool has_room = std::is_same_v<TypeParam, QueueingSimWorld>;
  EXPECT_TRUE(!has_room || arrived == "goes");
  this->world.settle();
  EXPECT_EQ(calls, 0);
  this->close(fds.far);
  this->world.close(client);
  this->world.forget_and_close(listener);
}

TYPED_TEST(BackendContract, ShutdownOfWritesIsEndOfFileForThePeer) {
  const FdPair fds = this->pair();
  EXPECT_EQ(this->world.backend().shutdown_write(fds.near), Errno::ok);
  EXPECT_TRUE(this->world.at_eof(fds.far));
  RecvProbe probe(this->world, fds.near);
  ASSERT_EQ(probe.submit(), Errno::ok);
  this->world.write(fds.far, "still open this way");
  EXPECT_TRUE(this->world.run_until([&] { return probe.bytes == "still open this way"; }));
}

TYPED_TEST(BackendContract, HangUpWakesReaderAndWriter) {
  const FdPair fds = this->pair();
  this->fill(fds.near);
  PollProbe reader(this->world, OpKind::poll_read, fds.near);
  PollProbe writer(this->world, OpKind::poll_write, fds.near);
  ASSERT_EQ(reader.submit(), Errno::ok);
  ASSERT_EQ(writer.submit(), Errno::ok);
  this->world.settle();
  EXPECT_EQ(reader.completions + writer.completions, 0);
  this->close(fds.far);
  EXPECT_TRUE(this->world.run_until([&] { return reader.completions > 0 && writer.completions > 0; }));
}

TYPED_TEST(BackendContract, RecvFromKeepsBordersAndTellsTheSender) {
  const FdPair fds = this->datagram_pair();
  RecvFromProbe probe(this->world, fds.near);
  ASSERT_EQ(probe.submit(), Errno::ok);
  const std::vector<std::string> sent{"one", "", "three"};
  for (const std::string& text : sent) this->world.write(fds.far, text);
  EXPECT_TRUE(this->world.run_until([&] { return probe.datagrams.size() == 3; }));
  EXPECT_EQ(probe.datagrams, sent);
  const Address sender = this->world.address_of(fds.far);
  ASSERT_EQ(probe.peer.size, sender.size);
  EXPECT_EQ(memcmp(&probe.peer.storage, &sender.storage, sender.size), 0);
  EXPECT_TRUE(probe.op.in_kernel());
  EXPECT_TRUE(probe.errors.empty());
}

TYPED_TEST(BackendContract, RecvFromCountsTheDatagramsOfAReadiness) {
  const FdPair fds = this->datagram_pair();
  for (int i = 0; i < 3; ++i) this->world.write(fds.far, "x");
  RecvFromProbe probe(this->world, fds.near);
  ASSERT_EQ(probe.submit(), Errno::ok);
  EXPECT_TRUE(this->world.run_until([&] { return probe.datagrams.size() == 3; }));
  EXPECT_EQ(probe.counts, (std::vector<uint32_t>{1, 2, 3}));
}

TYPED_TEST(BackendContract, RecvFromWithoutATargetLeavesTheDatagramThere) {
  const FdPair fds = this->datagram_pair();
  RecvFromProbe probe(this->world, fds.near);
  bool wanted = false;
  probe.choose_target = [&]() -> std::optional<std::span<std::byte>> {
    if (wanted && probe.op.received == 0) return std::span<std::byte>();
    return std::nullopt;
  };
  ASSERT_EQ(probe.submit(), Errno::ok);
  for (int i = 0; i < 2; ++i) this->world.write(fds.far, "x");
  this->world.settle();
  EXPECT_TRUE(probe.datagrams.empty());
  wanted = true;
  EXPECT_TRUE(this->world.run_until([&] { return probe.datagrams.size() == 2; }));
  EXPECT_EQ(probe.counts, (std::vector<uint32_t>{1, 1}));
}

TYPED_TEST(BackendContract, RecvFromCutsADatagramOffAtTheEndOfItsTarget) {
  const FdPair fds = this->datagram_pair();
  RecvFromProbe probe(this->world, fds.near);
  std::array<std::byte, 3> target{};
  probe.choose_target = [&]() -> std::optional<std::span<std::byte>> { return target; };
  ASSERT_EQ(probe.submit(), Errno::ok);
  this->world.write(fds.far, "abcdef");
  this->world.write(fds.far, "next");
  EXPECT_TRUE(this->world.run_until([&] { return probe.datagrams.size() == 2; }));
  EXPECT_EQ(probe.datagrams, (std::vector<std::string>{"abc", "nex"}));
}

TYPED_TEST(BackendContract, RecvFromStopsWhenItsCallbackCancels) {
  const FdPair fds = this->datagram_pair();
  for (int i = 0; i < 3; ++i) this->world.write(fds.far, "x");
  RecvFromProbe probe(this->world, fds.near);
  probe.then = [&] { static_cast<void>(this->world.backend().cancel(probe.op)); };
  ASSERT_EQ(probe.submit(), Errno::ok);
  EXPECT_TRUE(this->world.run_until([&] { return !probe.datagrams.empty(); }));
  this->world.settle();
  EXPECT_EQ(probe.datagrams.size(), 1U);
  const std::vector<int32_t> last_words(this->world.cancels_late() ? 1 : 0, -ECANCELED);
  EXPECT_EQ(probe.errors, last_words);
  EXPECT_EQ(this->world.read_datagrams(fds.near).size(), 2U);
}

TYPED_TEST(BackendContract, ARecvFromCallbackMayDestroyItsOp) {
  if (this->world.cancels_late()) GTEST_SKIP() << "an op may not die before its last completion";
  const FdPair fds = this->datagram_pair();
  for (int i = 0; i < 3; ++i) this->world.write(fds.far, "x");
  auto probe = std::make_unique<RecvFromProbe>(this->world, fds.near);
  probe->then = [&] { probe.reset(); };
  ASSERT_EQ(probe->submit(), Errno::ok);
  EXPECT_TRUE(this->world.run_until([&] { return probe == nullptr; }));
  this->world.settle();
}

TYPED_TEST(BackendContract, TrySendToReachesThePeerOrAnAddress) {
  const FdPair fds = this->datagram_pair();
  const std::string_view text = "datagram";
  const auto try_until_sent = [&](const Address* address) {
    for (int i = 0; i < 100; ++i) {
      Result<size_t> sent = this->world.backend().send_now_to(fds.near, std::as_bytes(std::span(text)), address);
      if (sent.ok()) return sent.value();
      EXPECT_EQ(sent.error(), Errno::again);
    }
    return size_t{0};
  };
  EXPECT_EQ(try_until_sent(nullptr), text.size());
  const Address address = this->world.address_of(fds.far);
  EXPECT_EQ(try_until_sent(&address), text.size());
  EXPECT_EQ(this->world.read_datagrams(fds.far), (std::vector<std::string>{"datagram", "datagram"}));
}

TYPED_TEST(BackendContract, TrySendToAPeerThatIsGoneFails) {
  const FdPair fds = this->datagram_pair();
  const Address address = this->world.address_of(fds.far);
  this->close(fds.far);
  const std::byte byte{};
  Errno error = Errno::again;
  for (int i = 0; i < 100 && error == Errno::again; ++i) {
    Result<size_t> sent = this->world.backend().send_now_to(fds.near, {&byte, 1}, &address);
    error = sent.ok() ? Errno::ok : sent.error();
  }
  EXPECT_EQ(error, static_cast<Errno>(ECONNREFUSED));
}

TYPED_TEST(BackendContract, AcceptTakesEveryConnection) {
  const int listener = this->world.make_listener();
  this->opened.push_back(listener);
  AcceptProbe probe(this->world, listener, 2);
  ASSERT_EQ(probe.submit(), Errno::ok);
  for (int i = 0; i < 5; ++i) this->opened.push_back(this->world.connect(listener));
  EXPECT_TRUE(this->world.run_until([&] { return probe.accepted.size() == 5; }));
  EXPECT_TRUE(probe.op.in_kernel());
  EXPECT_TRUE(probe.errors.empty());
}

TYPED_TEST(BackendContract, AcceptTakesNoMoreThanItsLimitPerReadiness) {
  const int listener = this->world.make_listener();
  this->opened.push_back(listener);
  for (int i = 0; i < 6; ++i) this->opened.push_back(this->world.connect(listener));
  AcceptProbe probe(this->world, listener, 4);
  ASSERT_EQ(probe.submit(), Errno::ok);
  while (probe.accepted.empty()) {
    ASSERT_EQ(this->world.backend().wait(Deadline{this->world.now_ns() + 1'000'000}), Errno::ok);
    this->world.backend().dispatch_one();
  }
  EXPECT_EQ(probe.accepted.size(), 4U);
  EXPECT_TRUE(this->world.run_until([&] { return probe.accepted.size() == 6; }));
}

TYPED_TEST(BackendContract, AcceptStopsWhenItsCallbackCancels) {
  const int listener = this->world.make_listener();
  this->opened.push_back(listener);
  for (int i = 0; i < 3; ++i) this->opened.push_back(this->world.connect(listener));
  AcceptProbe first(this->world, listener, 100);
  first.then = [&] { static_cast<void>(this->world.backend().cancel(first.op)); };
  ASSERT_EQ(first.submit(), Errno::ok);
  EXPECT_TRUE(this->world.run_until([&] { return !first.accepted.empty(); }));
  this->world.settle();
  EXPECT_FALSE(first.op.in_kernel());
  EXPECT_EQ(first.accepted.size(), this->world.cancels_late() ? 2U : 1U) << "the last completion may be a connection";
  AcceptProbe second(this->world, listener, 100);
  ASSERT_EQ(second.submit(), Errno::ok);
  EXPECT_TRUE(this->world.run_until([&] { return first.accepted.size() + second.accepted.size() == 3; }));
}

TYPED_TEST(BackendContract, AnAcceptCallbackMayDestroyItsOp) {
  const int listener = this->world.make_listener();
  this->opened.push_back(listener);
  for (int i = 0; i < 3; ++i) this->opened.push_back(this->world.connect(listener));
  auto probe = std::make_unique<AcceptProbe>(this->world, listener, 100);
  probe->then = [&] { probe.reset(); };
  ASSERT_EQ(probe->submit(), Errno::ok);
  EXPECT_TRUE(this->world.run_until([&] { return probe == nullptr; }));
  this->world.settle();
}

TYPED_TEST(BackendContract, AReusedNumberIsADifferentDescriptor) {
  for (const bool turns_between : {false, true}) {
    SCOPED_TRACE(turns_between);
    const FdPair old = this->pair();
    auto old_probe = std::make_unique<RecvProbe>(this->world, old.near);
    ASSERT_EQ(old_probe->submit(), Errno::ok);
    this->world.write(old.far, "for the old one");
    EXPECT_TRUE(this->world.run_until([&] { return old_probe->bytes == "for the old one"; }));
    old_probe.reset();
    if (turns_between) this->world.settle();
    this->close(old.near);
    const FdPair fresh = this->pair();
    ASSERT_EQ(fresh.near, old.near);
    RecvProbe probe(this->world, fresh.near);
    ASSERT_EQ(probe.submit(), Errno::ok);
    this->world.write(old.far, "too late");
    this->world.settle();
    EXPECT_EQ(probe.bytes, "");
    EXPECT_EQ(probe.endings, 0);
    this->world.write(fresh.far, "for the new one");
    EXPECT_TRUE(this->world.run_until([&] { return probe.bytes == "for the new one"; }));
  }
}

TYPED_TEST(BackendContract, ACollectedCompletionDoesNotReachTheNextOwnerOfTheNumber) {
  const FdPair victim = this->pair();
  const FdPair killer = this->pair();
  PollProbe old_probe(this->world, OpKind::poll_read, victim.near);
  std::unique_ptr<PollProbe> fresh_probe;
  PollProbe killer_probe(this->world, OpKind::poll_read, killer.near);
  bool swapped = false;
  killer_probe.then = [&] {
    if (std::exchange(swapped, true)) return;
    static_cast<void>(this->world.backend().cancel(old_probe.op));
    this->close(victim.near);
    const FdPair fresh = this->pair();
    EXPECT_EQ(fresh.near, victim.near);
    fresh_probe = std::make_unique<PollProbe>(this->world, OpKind::poll_read, fresh.near);
    EXPECT_EQ(fresh_probe->submit(), Errno::ok);
  };
  ASSERT_EQ(killer_probe.submit(), Errno::ok);
  ASSERT_EQ(old_probe.submit(), Errno::ok);
  this->world.write(killer.far, "x");
  this->world.write(victim.far, "x");
  EXPECT_TRUE(this->world.run_until([&] { return swapped; }));
  this->world.settle();
  EXPECT_EQ(fresh_probe->completions, 0);
}

TYPED_TEST(BackendContract, AnOpTakesNothingOfTheNextOwnerOfItsNumber) {
  const FdPair fds = this->pair();
  const FdPair datagrams = this->datagram_pair();
  const int listener = this->world.make_listener();
  this->opened.push_back(listener);
  const int closed = -1;  // what a closed socket object says
  RecvProbe receiver(this->world, fds.near);
  SendProbe sender(this->world, fds.near, "not for the stranger");
  RecvFromProbe datagram_receiver(this->world, datagrams.near);
  AcceptProbe acceptor(this->world, listener, 10);
  for (Op* const op : {&static_cast<Op&>(receiver.op), &static_cast<Op&>(sender.op),
                       &static_cast<Op&>(datagram_receiver.op), &static_cast<Op&>(acceptor.op)}) {
    op->fd_witness = &closed;
  }
  ASSERT_EQ(receiver.submit(), Errno::ok);
  ASSERT_EQ(sender.submit(), Errno::ok);
  ASSERT_EQ(datagram_receiver.submit(), Errno::ok);
  ASSERT_EQ(acceptor.submit(), Errno::ok);
  this->world.write(fds.far, "for the stranger");
  this->world.write(datagrams.far, "for the stranger");
  const int client = this->world.connect(listener);
  this->opened.push_back(client);
  EXPECT_TRUE(this->world.run_until([&] { return this->world.backend().ops_count() == 0; }));
  EXPECT_EQ(receiver.last_result, -EBADF);
  EXPECT_EQ(sender.last_result, -EBADF);
  EXPECT_EQ(datagram_receiver.errors, std::vector<int32_t>{-EBADF});
  EXPECT_EQ(acceptor.errors, std::vector<int32_t>{-EBADF});
  EXPECT_TRUE(acceptor.accepted.empty());
  EXPECT_EQ(this->world.read(fds.near), "for the stranger");
  EXPECT_EQ(this->world.read(fds.far), "");
}

TYPED_TEST(BackendContract, AnOpMakesRoomForThoseOfTheNextOwnerOfItsNumber) {
  const FdPair fds = this->pair();
  int owned = fds.near;
  RecvProbe old_receiver(this->world, fds.near);
  SendProbe old_sender(this->world, fds.near, "not for the stranger");
  old_receiver.op.fd_witness = old_sender.op.fd_witness = &owned;
  RecvProbe receiver(this->world, fds.near);
  SendProbe sender(this->world, fds.near, "of the stranger");
  ASSERT_EQ(old_receiver.submit(), Errno::ok);
  ASSERT_EQ(old_sender.submit(), Errno::ok);
  ASSERT_EQ(receiver.submit(), Errno::exists);
  owned = -1;
  ASSERT_EQ(receiver.submit(), Errno::ok);
  ASSERT_EQ(sender.submit(), Errno::ok);
  EXPECT_EQ(this->world.backend().ops_count(), 4U);
  this->world.turn(Deadline::never());  // does not sleep: there is something to tell
  EXPECT_TRUE(this->world.run_until([&] { return old_receiver.endings == 1 && !old_sender.op.in_kernel(); }));
  EXPECT_EQ(old_receiver.last_result, -EBADF);
  EXPECT_EQ(old_sender.last_result, -EBADF);
  this->world.write(fds.far, "for the stranger");
  EXPECT_TRUE(this->world.run_until([&] { return receiver.bytes == "for the stranger" && !sender.op.in_kernel(); }));
  EXPECT_EQ(this->world.read(fds.far), "of the stranger");
}

TYPED_TEST(BackendContract, AnOpThatMadeRoomCanBeTakenBack) {
  const FdPair fds = this->pair();
  int owned = fds.near;
  RecvProbe old_receiver(this->world, fds.near);
  old_receiver.op.fd_witness = &owned;
  ASSERT_EQ(old_receiver.submit(), Errno::ok);
  owned = -1;
  RecvProbe receiver(this->world, fds.near);
  ASSERT_EQ(receiver.submit(), Errno::ok);
  const bool taken_back = this->world.backend().cancel(old_receiver.op);
  this->world.write(fds.far, "for the stranger");
  EXPECT_TRUE(this->world.run_until([&] { return receiver.bytes == "for the stranger" && !old_receiver.op.in_kernel(); }));
  EXPECT_EQ(old_receiver.endings, taken_back ? 0 : 1);
  EXPECT_EQ(this->world.backend().ops_count(), 1U);
}

TYPED_TEST(BackendContract, ATargetFunctionMayCloseTheDescriptor) {
  const FdPair fds = this->pair();
  int owned = fds.near;
  RecvProbe probe(this->world, fds.near);
  probe.op.fd_witness = &owned;
  probe.choose_target = [&] {
    owned = -1;
    return std::span<std::byte>();
  };
  ASSERT_EQ(probe.submit(), Errno::ok);
  this->world.write(fds.far, "for the stranger");
  EXPECT_TRUE(this->world.run_until([&] { return probe.endings == 1; }));
  EXPECT_EQ(probe.last_result, -EBADF);
  EXPECT_EQ(this->world.read(fds.near), "for the stranger");
}

TYPED_TEST(BackendContract, WaitDoesNotEndBeforeItsDeadline) {
  const int64_t deadline_ns = this->world.now_ns() + 3'000'000;
  int turns = 0;
  while (this->world.now_ns() < deadline_ns) {
    this->world.turn(Deadline{deadline_ns});
    ASSERT_LT(++turns, 50);
  }
}

TYPED_TEST(BackendContract, ADeadlineInThePastDoesNotSleep) {
  const int64_t start = this->world.now_ns();
  for (int i = 0; i < 10; ++i) this->world.turn(Deadline{start - 1});
  for (int i = 0; i < 10; ++i) this->world.turn(Deadline::immediate());
  EXPECT_LT(this->world.now_ns() - start, ns_per_second);
}

TYPED_TEST(BackendContract, AnEarlierWakeEndsTheNextWait) {
  for (int i = 0; i < 5; ++i) this->world.backend().wake();
  this->world.turn(Deadline::never());
  this->world.backend().wake();
  this->world.turn(Deadline::never());
}

TYPED_TEST(BackendContract, ReadinessEndsAnEndlessWait) {
  const FdPair fds = this->pair();
  PollProbe probe(this->world, OpKind::poll_read, fds.near);
  ASSERT_EQ(probe.submit(), Errno::ok);
  this->world.write(fds.far, "x");
  while (probe.completions == 0) this->world.turn(Deadline::never());
}

TYPED_TEST(BackendContract, CollectedCountsDown) {
  std::vector<std::unique_ptr<PollProbe>> probes;
  for (int i = 0; i < 4; ++i) {
    probes.push_back(std::make_unique<PollProbe>(this->world, OpKind::poll_write, this->pair().near));
    ASSERT_EQ(probes.back()->submit(), Errno::ok);
  }
  Backend& backend = this->world.backend();
  while (backend.collected() == 0) ASSERT_EQ(backend.wait(Deadline::never()), Errno::ok);
  for (size_t left = backend.collected(); left > 0; --left) {
    EXPECT_EQ(backend.collected(), left);
    EXPECT_TRUE(backend.dispatch_one());
  }
  EXPECT_FALSE(backend.dispatch_one());
}

}  // namespace
}  // namespace cxxloop::io
