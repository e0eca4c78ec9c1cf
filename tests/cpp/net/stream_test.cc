// SPDX-License-Identifier: MIT
#include "net/stream.h"

#include <gtest/gtest.h>

#include <array>
#include <string>

#include "cpp/net/stream_probe.h"

namespace cxxloop::net {
namespace {

std::string numbers(int count) {
  std::string text;
  for (int i = 0; i < count; ++i) text += std::to_string(i) + ' ';
  return text;
}

template <class W>
class StreamTest : public testing::Test {
 protected:
  StreamTest() : fds(world.make_pair()), probe(world, fds.near) {}
  ~StreamTest() override { world.close(fds.far); }

  Stream& stream() { return *probe.stream; }
  // Appends and flushes until the kernel takes no more; returns everything written.
  std::string fill() {
    const std::string block = numbers(10'000);
    std::string all;
    while (!stream().is_send_waiting()) {
      probe.append(block);
      all += block;
      stream().flush();
    }
    return all;
  }
  // What arrives at the far end, until it is `size` bytes.
  std::string read_far(size_t size) {
    std::string text;
    EXPECT_TRUE(world.run_until([&] {
      text += world.read(fds.far);
      return text.size() >= size;
    }));
    return text;
  }

  W world;
  io::FdPair fds;
  StreamProbe probe;
};

using Worlds = testing::Types<io::EvWorld, io::SimWorld, io::QueueingSimWorld, io::BenignSimWorld>;
TYPED_TEST_SUITE(StreamTest, Worlds);

TYPED_TEST(StreamTest, ReadsWhatComesAndTheEnd) {
  ASSERT_EQ(this->stream().start_reading(), Errno::ok);
  this->world.write(this->fds.far, "hello");
  EXPECT_TRUE(this->world.run_until([&] { return this->probe.received == "hello"; }));
  this->world.write(this->fds.far, "more");
  EXPECT_TRUE(this->world.run_until([&] { return this->probe.received == "hellomore"; }));
  ASSERT_EQ(this->world.backend().shutdown_write(this->fds.far), Errno::ok);
  EXPECT_TRUE(this->world.run_until([&] { return this->probe.count("eof") > 0; }));
  EXPECT_FALSE(this->stream().is_reading());
  this->world.settle();
  EXPECT_EQ(this->probe.count("eof"), 1U);
}

TYPED_TEST(StreamTest, EndOfFileComesAgainWhenReadingIsStartedAgain) {
  ASSERT_EQ(this->world.backend().shutdown_write(this->fds.far), Errno::ok);
  for (size_t ends = 1; ends <= 2; ++ends) {
    ASSERT_EQ(this->stream().start_reading(), Errno::ok);
    EXPECT_TRUE(this->world.run_until([&] { return this->probe.count("eof") == ends; }));
  }
}

TYPED_TEST(StreamTest, StoppedReadingLeavesTheBytesInTheKernel) {
  ASSERT_EQ(this->stream().start_reading(), Errno::ok);
  this->stream().stop_reading();
  this->world.write(this->fds.far, "later");
  this->world.settle();
  EXPECT_EQ(this->probe.received, "");
  ASSERT_EQ(this->stream().start_reading(), Errno::ok);
  EXPECT_TRUE(this->world.run_until([&] { return this->probe.received == "later"; }));
}

TYPED_TEST(StreamTest, ReadsIntoTheOwnersBuffer) {
  std::array<std::byte, 4> buffer{};
  this->probe.choose_target = [&] { return std::span<std::byte>(buffer); };
  ASSERT_EQ(this->stream().start_reading(), Errno::ok);
  this->world.write(this->fds.far, "abcdefgh");
  EXPECT_TRUE(this->world.run_until([&] { return this->probe.received == "abcdefgh"; }));
  EXPECT_GE(this->probe.count("data"), 2U);
}

TYPED_TEST(StreamTest, AnOwnerWithoutRoomIsAskedAgain) {
  int refusals = 3;
  this->probe.choose_target = [&]() -> std::optional<std::span<std::byte>> {
    if (refusals-- > 0) return std::nullopt;
    return std::span<std::byte>();
  };
  ASSERT_EQ(this->stream().start_reading(), Errno::ok);
  this->world.write(this->fds.far, "abc");
  EXPECT_TRUE(this->world.run_until([&] { return this->probe.received == "abc"; }));
  EXPECT_LT(refusals, 0);
}

TYPED_TEST(StreamTest, StoppingInTheTargetFunctionTakesThisOneRead) {
  this->probe.choose_target = [&] {
    this->stream().stop_reading();
    this->stream().take_last_read();
    return std::span<std::byte>();
  };
  ASSERT_EQ(this->stream().start_reading(), Errno::ok);
  this->world.write(this->fds.far, "x");
  EXPECT_TRUE(this->world.run_until([&] { return this->probe.received == "x"; }));
  this->world.write(this->fds.far, "y");
  this->world.settle();
  EXPECT_EQ(this->probe.received, "x");
}

TYPED_TEST(StreamTest, FlushSendsInOrder) {
  this->probe.append("head ");
  this->probe.append("body");
  EXPECT_EQ(this->stream().queued_bytes(), 9U);
  this->stream().flush();
  EXPECT_EQ(this->read_far(9), "head body");
  EXPECT_TRUE(this->world.run_until([&] { return this->stream().queued_bytes() == 0; }));
}

TYPED_TEST(StreamTest, FlushSendsMoreChunksThanFitIntoOneCall) {
  std::string all;
  for (int i = 0; i < 300; ++i) {
    this->probe.append(std::to_string(i));
    all += std::to_string(i);
  }
  this->stream().flush();
  EXPECT_EQ(this->read_far(all.size()), all);
}

TYPED_TEST(StreamTest, AFullKernelIsWaitedFor) {
  const std::string all = this->fill();
  EXPECT_EQ(this->probe.events, std::vector<std::string>{"send_waiting"});
  EXPECT_GT(this->stream().queued_bytes(), 0U);
  EXPECT_EQ(this->read_far(all.size()), all);
  EXPECT_TRUE(this->world.run_until([&] { return this->stream().queued_bytes() == 0; }));
  EXPECT_FALSE(this->stream().is_send_waiting());
  EXPECT_EQ(this->probe.count("send_waiting"), 1U);
  EXPECT_GE(this->probe.count("sent"), 1U);
}

TYPED_TEST(StreamTest, WhatIsAppendedWhileWaitingGoesBehind) {
  std::string all = this->fill();
  this->probe.append("the end");
  all += "the end";
  this->stream().flush();
  EXPECT_EQ(this->read_far(all.size()), all);
}

TYPED_TEST(StreamTest, FlushWithSendsTheTailBehindTheQueue) {
  this->probe.append("head ");
  const std::string tail = "body";
  const size_t left = this->probe.flush_with(tail);
  if (left > 0) this->probe.append(tail.substr(tail.size() - left));
  this->stream().flush();
  EXPECT_EQ(this->read_far(9), "head body");
}

TYPED_TEST(StreamTest, FlushWithTakesNothingWhileTheKernelIsFull) {
  std::string all = this->fill();
  EXPECT_EQ(this->probe.flush_with("tail"), 4U);
  this->probe.append("tail");
  all += "tail";
  EXPECT_EQ(this->read_far(all.size()), all);
}

TYPED_TEST(StreamTest, AnErrorEmptiesTheQueueAndIsToldOnce) {
  this->world.forget_and_close(this->fds.far);
  this->probe.append("nobody");
  this->probe.append("listens");
  this->stream().flush();
  EXPECT_TRUE(this->world.run_until([&] { return this->probe.count("write_error") > 0; }));
  EXPECT_EQ(this->probe.last_error, Errno::pipe);
  EXPECT_EQ(this->probe.chunks_released, 2);
  this->stream().flush();
  EXPECT_EQ(this->probe.count("write_error"), 1U);
  this->fds.far = this->world.make_pair().far;  // closed by the fixture
}

TYPED_TEST(StreamTest, DropWritesForgetsWhatIsQueued) {
  this->probe.append("never sent");
  this->stream().drop_writes();
  EXPECT_EQ(this->stream().queued_bytes(), 0U);
  EXPECT_EQ(this->probe.chunks_released, 1);
  this->probe.append("sent");
  this->stream().flush();
  EXPECT_EQ(this->read_far(4), "sent");
}

TYPED_TEST(StreamTest, DropWritesStopsWaiting) {
  this->fill();
  this->stream().drop_writes();
  EXPECT_FALSE(this->stream().is_send_waiting());
  this->world.read(this->fds.far);
  this->world.settle();
  EXPECT_EQ(this->probe.count("sent"), 0U);
}

TYPED_TEST(StreamTest, HalfClosedItStillReads) {
  ASSERT_EQ(this->stream().start_reading(), Errno::ok);
  ASSERT_EQ(this->stream().shutdown_write(), Errno::ok);
  EXPECT_TRUE(this->world.at_eof(this->fds.far));
  this->world.write(this->fds.far, "still");
  EXPECT_TRUE(this->world.run_until([&] { return this->probe.received == "still"; }));
}

TYPED_TEST(StreamTest, NothingIsSentToTheNextOwnerOfTheNumber) {
  this->probe.owned_fd = -1;
  this->probe.append("queued");
  this->stream().flush();
  EXPECT_EQ(this->probe.count("write_error"), 1U);
  EXPECT_EQ(this->probe.last_error, Errno::bad_fd);
  EXPECT_EQ(this->probe.flush_with("tail"), 0U);
  EXPECT_EQ(this->probe.count("write_error"), 2U);
  EXPECT_EQ(this->stream().shutdown_write(), Errno::bad_fd);
  this->world.settle();
  EXPECT_EQ(this->world.read(this->fds.far), "");
  EXPECT_FALSE(this->world.at_eof(this->fds.far));
}

TYPED_TEST(StreamTest, ASendThatWaitsMeetsTheNextOwnerOfTheNumber) {
  const std::string sent = this->fill();
  const size_t in_kernel = sent.size() - this->stream().queued_bytes();
  this->probe.owned_fd = -1;
  const std::string received = this->read_far(in_kernel);
  EXPECT_TRUE(this->world.run_until([&] { return this->probe.count("write_error") == 1; }));
  EXPECT_EQ(this->probe.last_error, Errno::bad_fd);
  EXPECT_EQ(received, sent.substr(0, in_kernel));
  EXPECT_EQ(this->world.read(this->fds.far), "");
}

TYPED_TEST(StreamTest, ReleaseTakesEverythingBack) {
  ASSERT_EQ(this->stream().start_reading(), Errno::ok);
  this->fill();
  this->world.write(this->fds.far, "unread");
  ASSERT_TRUE(this->stream().release());
  EXPECT_EQ(this->world.backend().ops_count(), 0U);
  EXPECT_EQ(this->probe.chunks_released, this->probe.chunks_appended);
  const size_t told = this->probe.events.size();
  this->probe.stream.reset();
  this->world.settle();
  EXPECT_EQ(this->probe.events.size(), told);
}

TYPED_TEST(StreamTest, AHandlerMayDestroyTheStream) {
  this->probe.then = [this](std::string_view) {
    EXPECT_TRUE(this->stream().release());
    this->probe.stream.reset();
  };
  ASSERT_EQ(this->stream().start_reading(), Errno::ok);
  this->world.write(this->fds.far, "bye");
  EXPECT_TRUE(this->world.run_until([&] { return this->probe.stream == nullptr; }));
  EXPECT_EQ(this->probe.events, std::vector<std::string>{"data"});
}

// What only a backend that cancels late or breaks on request can show.
class StreamFaultTest : public testing::Test {
 protected:
  class World : public io::SimWorld {
   public:
    sim::SimBackend& sim() { return static_cast<sim::SimBackend&>(backend()); }
  };

  StreamFaultTest() : fds(world.make_pair()), probe(world, fds.near) { world.sim().set_pipe_capacity(10); }
  ~StreamFaultTest() override {
    world.sim().set_faults(sim::Faults::none());
    world.close(fds.far);
  }
  void cancel_late() { world.sim().set_faults({.late_cancels = 1000}); }
  void refuse_submits() { world.sim().set_faults({.submit_errors = 1000}); }
  Stream& stream() { return *probe.stream; }

  World world;
  io::FdPair fds;
  StreamProbe probe;
};

TEST_F(StreamFaultTest, AWriteErrorInTheMiddleOfASendMayDestroyTheStream) {
  probe.append("0123456789abcdefghijklmnopqrstuvwxyz");
  stream().flush();
  ASSERT_EQ(probe.events, std::vector<std::string>{"send_waiting"});
  probe.then = [this](std::string_view event) {
    if (event != "write_error") return;
    EXPECT_TRUE(stream().release());
    probe.stream.reset();
  };
  refuse_submits();
  EXPECT_EQ(world.read(fds.far), "0123456789");
  EXPECT_TRUE(world.run_until([&] { return probe.stream == nullptr; }));
  EXPECT_EQ(probe.events, (std::vector<std::string>{"send_waiting", "write_error"}));
}

TEST_F(StreamFaultTest, TheFullKernelIsToldOnceHoweverOftenASendIsRenewed) {
  probe.append("0123456789abcdefghijklmnopqrstuvwxyz");
  stream().flush();
  std::string text;
  EXPECT_TRUE(world.run_until([&] { return (text += world.read(fds.far)).size() == 36; }));
  EXPECT_EQ(probe.count("send_waiting"), 1U);
  EXPECT_EQ(probe.count("sent"), 3U);
}

TEST_F(StreamFaultTest, WhatIsAppendedAfterALateDropIsSent) {
  probe.append("0123456789dropped");
  stream().flush();
  cancel_late();
  stream().drop_writes();
  EXPECT_EQ(stream().queued_bytes(), 0U);
  EXPECT_EQ(probe.chunks_released, 0);  // the kernel still reads them
  probe.append("KEPT");
  EXPECT_EQ(stream().queued_bytes(), 4U);
  std::string text;
  EXPECT_TRUE(world.run_until([&] { return (text += world.read(fds.far)).ends_with("KEPT"); }));
  EXPECT_TRUE(text.starts_with("0123456789"));
  EXPECT_TRUE(world.run_until([&] { return stream().queued_bytes() == 0; }));
}

TEST_F(StreamFaultTest, FlushWithTellsTheErrorItMet) {
  world.sim().reset(fds.near);
  probe.append("queued");
  EXPECT_EQ(probe.flush_with("tail"), 0U);
  EXPECT_EQ(probe.events, std::vector<std::string>{"write_error"});
  EXPECT_EQ(probe.last_error, Errno::conn_reset);
}

TEST_F(StreamFaultTest, ALateReleaseIsToldOnceAndNothingElseIs) {
  ASSERT_EQ(stream().start_reading(), Errno::ok);
  probe.append("0123456789abc");
  stream().flush();
  world.write(fds.far, "unread");
  cancel_late();
  EXPECT_FALSE(stream().release());
  EXPECT_EQ(stream().state(), Stream::State::releasing);
  EXPECT_TRUE(world.run_until([&] { return stream().state() == Stream::State::released; }));
  world.settle();
  EXPECT_EQ(probe.events, (std::vector<std::string>{"send_waiting", "released"}));
  EXPECT_EQ(world.sim().ops_count(), 0U);
}

TEST_F(StreamFaultTest, ReadingStartedAgainWhileItStopsGoesOn) {
  ASSERT_EQ(stream().start_reading(), Errno::ok);
  cancel_late();
  stream().stop_reading();
  ASSERT_EQ(stream().start_reading(), Errno::ok);
  world.write(fds.far, "text");
  EXPECT_TRUE(world.run_until([&] { return probe.received == "text"; }));
}

TEST_F(StreamFaultTest, ReadingThatCannotGoOnSaysSo) {
  ASSERT_EQ(stream().start_reading(), Errno::ok);
  cancel_late();
  stream().stop_reading();
  ASSERT_EQ(stream().start_reading(), Errno::ok);
  refuse_submits();
  EXPECT_TRUE(world.run_until([&] { return probe.count("read_error") == 1; }));
  EXPECT_EQ(probe.last_error, Errno::no_memory);
  EXPECT_FALSE(stream().is_reading());
}

TEST_F(StreamFaultTest, ReadingThatCannotStartSaysSoAtOnce) {
  refuse_submits();
  EXPECT_EQ(stream().start_reading(), Errno::no_memory);
  EXPECT_FALSE(stream().is_reading());
  EXPECT_TRUE(probe.events.empty());
}

// A backend that queues what it is asked to send.
class QueuedSendTest : public StreamTest<io::QueueingSimWorld> {
 protected:
  // Half a callback: something is handed over.
  void write_later(std::string_view text) {
    probe.append(text);
    stream().flush_later();
    EXPECT_TRUE(stream().is_held_back());
    EXPECT_FALSE(stream().is_send_waiting());
  }
};

TEST_F(QueuedSendTest, WhatIsHandedOverGoesWithoutAWord) {
  write_later("hello");
  EXPECT_EQ(world.read(fds.far), "");
  world.backend().flush();
  EXPECT_EQ(world.read(fds.far), "hello");
  EXPECT_EQ(probe.chunks_released, 0);
  world.settle();
  EXPECT_EQ(probe.chunks_released, 1);
  EXPECT_FALSE(stream().is_held_back());
  EXPECT_TRUE(probe.events.empty());
}

TEST_F(QueuedSendTest, FlushKnowsAtOnceWhatBecameOfIt) {
  write_later("one ");
  probe.append("two");
  stream().flush();
  EXPECT_EQ(stream().queued_bytes(), 0U);
  EXPECT_EQ(world.read(fds.far), "one two");
}

TEST_F(QueuedSendTest, TheNextWriteGoesBehindIt) {
  write_later("one ");
  world.backend().flush();
  write_later("two ");
  world.backend().flush();
  EXPECT_EQ(world.read(fds.far), "one two ");
  world.settle();
  EXPECT_EQ(stream().queued_bytes(), 0U);
}

TEST_F(QueuedSendTest, AFullKernelIsToldLate) {
  const std::string sent = fill();
  const size_t in_kernel = sent.size() - stream().queued_bytes();
  stream().drop_writes();
  probe.events.clear();
  write_later("later");
  world.backend().flush();
  EXPECT_TRUE(probe.events.empty());
  world.settle();
  EXPECT_EQ(probe.events, std::vector<std::string>{"send_waiting_late"});
  EXPECT_TRUE(stream().is_send_waiting());
  EXPECT_EQ(read_far(in_kernel + 5), sent.substr(0, in_kernel) + "later");
  world.settle();
  EXPECT_EQ(probe.count("sent"), 1U);
}

TEST_F(QueuedSendTest, DroppedWritesWereSentWhenTheyWereHandedOver) {
  write_later("written");
  probe.append("dropped");
  stream().drop_writes();
  EXPECT_EQ(world.read(fds.far), "written");
  EXPECT_EQ(probe.chunks_released, 2);
  EXPECT_FALSE(stream().is_held_back());
}

TEST_F(QueuedSendTest, AnErrorIsToldLate) {
  world.forget_and_close(fds.far);
  write_later("nobody");
  EXPECT_TRUE(probe.events.empty());
  world.settle();
  EXPECT_EQ(probe.events, std::vector<std::string>{"write_error"});
  EXPECT_EQ(probe.last_error, Errno::pipe);
}

}  // namespace
}  // namespace cxxloop::net
