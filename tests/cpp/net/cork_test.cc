// SPDX-License-Identifier: MIT
#include "net/cork.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <memory>
#include <vector>

#include "cpp/net/stream_probe.h"

namespace cxxloop::net {
namespace {

class CorkTest : public testing::Test {
 protected:
  CorkTest() : fds(world.make_pair()), other_fds(world.make_pair()), probe(world, fds.near), other(world, other_fds.near) {}
  ~CorkTest() override {
    world.close(fds.far);
    world.close(other_fds.far);
  }

  io::SimWorld world;
  io::FdPair fds;
  io::FdPair other_fds;
  StreamProbe probe;
  StreamProbe other;
  Cork cork;
};

TEST_F(CorkTest, HoldsWritesBackUntilItIsPulled) {
  probe.append("head ");
  cork.add(*probe.stream);
  probe.append("body");
  cork.add(*probe.stream);
  other.append("other");
  cork.add(*other.stream);
  EXPECT_FALSE(cork.empty());
  EXPECT_EQ(world.read(fds.far), "");
  cork.pull();
  EXPECT_TRUE(cork.empty());
  EXPECT_EQ(world.read(fds.far), "head body");
  EXPECT_EQ(world.read(other_fds.far), "other");
}

TEST_F(CorkTest, PullsOneStreamAlone) {
  probe.append("now");
  cork.add(*probe.stream);
  other.append("later");
  cork.add(*other.stream);
  cork.pull_early(*probe.stream);
  cork.pull_early(*probe.stream);
  EXPECT_EQ(world.read(fds.far), "now");
  EXPECT_EQ(world.read(other_fds.far), "");
  cork.pull();
  EXPECT_EQ(world.read(other_fds.far), "later");
}

struct Writer final : LateWriter {
  explicit Writer(StreamProbe& its_probe) : probe(its_probe) {}
  void on_pull() noexcept override {
    ++pulls;
    probe.append("late ");
  }

  StreamProbe& probe;
  int pulls = 0;
};

TEST_F(CorkTest, WhoWritesLateWritesOnceBeforeTheStreamIsSent) {
  Writer writer(probe);
  cork.add(*probe.stream, writer);
  cork.add(*probe.stream, writer);
  EXPECT_FALSE(cork.empty());
  EXPECT_EQ(writer.pulls, 0);
  cork.pull();
  EXPECT_TRUE(cork.empty());
  EXPECT_EQ(writer.pulls, 1);
  EXPECT_EQ(world.read(fds.far), "late ");
  cork.add(*probe.stream, writer);
  cork.pull_early();
  EXPECT_EQ(world.read(fds.far), "late ");
}

// Each process has a world of its own: what the child would send, it finds in its copy.
TEST_F(CorkTest, AForkedChildDropsWhatItsParentWillSend) {
  probe.append("parent");
  cork.add(*probe.stream);
  other.append("parent");
  cork.add(*other.stream);
  EXPECT_FALSE(cork.is_inherited());
  Writer writer(probe);
  cork.add(*probe.stream, writer);
  const pid_t child = ::fork();
  if (child == 0) {
    cork.pull_early(*probe.stream);
    cork.pull();
    const bool dropped = world.read(fds.far).empty() && world.read(other_fds.far).empty();
    probe.append("child");
    probe.stream->flush();
    ::_exit(dropped && cork.empty() && cork.is_inherited() && world.read(fds.far) == "child" ? 0 : 1);
  }
  int status = -1;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  cork.pull();
  EXPECT_EQ(world.read(fds.far), "parentlate ");
  EXPECT_EQ(world.read(other_fds.far), "parent");
}

TEST_F(CorkTest, HoldsOnlyWhatItsThreadWillSendAndNotTooMuch) {
  constexpr size_t far_away = SIZE_MAX;
  EXPECT_FALSE(cork.may_hold(1, far_away)) << "nobody pulls it";
  cork.open();
  EXPECT_TRUE(cork.may_hold(Cork::held_bytes_max, far_away));
  EXPECT_FALSE(cork.may_hold(Cork::held_bytes_max + 1, far_away));
  EXPECT_TRUE(cork.may_hold(10, 10));
  EXPECT_FALSE(cork.may_hold(11, 10)) << "the writer must be told";
  std::thread([this] { EXPECT_FALSE(cork.may_hold(1, far_away)); }).join();
  cork.close();
  EXPECT_FALSE(cork.may_hold(1, far_away));
}

TEST_F(CorkTest, AStreamThatDiesOrDropsItsWritesIsForgotten) {
  probe.append("never");
  cork.add(*probe.stream);
  other.append("never");
  cork.add(*other.stream);
  other.stream->drop_writes();
  ASSERT_TRUE(probe.stream->release());
  probe.stream.reset();
  EXPECT_TRUE(cork.empty());
  cork.pull();
  EXPECT_EQ(world.read(other_fds.far), "");
}

TEST_F(CorkTest, WritesMadeDuringTheFlushAreFlushedToo) {
  world.forget_and_close(fds.far);
  probe.then = [this](std::string_view event) {
    ASSERT_EQ(event, "write_error");
    other.append("peer is gone");
    cork.add(*other.stream);
  };
  probe.append("x");
  cork.add(*probe.stream);
  cork.pull();
  EXPECT_TRUE(cork.empty());
  EXPECT_EQ(world.read(other_fds.far), "peer is gone");
}

// Of a callback that has written.
int64_t no_clock() noexcept {
  ADD_FAILURE() << "costs more than it tells";
  return 0;
}

TEST_F(CorkTest, WritesWithPatienceWaitForEachOtherUpToABound) {
  cork.add_patiently(*probe.stream, 0);
  EXPECT_TRUE(cork.may_wait(no_clock));
  cork.add_patiently(*other.stream, Cork::patience_ns);
  EXPECT_TRUE(cork.may_wait(no_clock));
  cork.pull();
  EXPECT_FALSE(cork.may_wait(no_clock)) << "what is written after this waits for nobody";
}

TEST_F(CorkTest, PatienceEndsAfterSomeWrites) {
  std::vector<io::FdPair> pairs;
  std::vector<std::unique_ptr<StreamProbe>> probes;
  for (uint32_t i = 1; i <= Cork::patient_writes_max; ++i) {
    pairs.push_back(world.make_pair());
    probes.push_back(std::make_unique<StreamProbe>(world, pairs.back().near));
    cork.add_patiently(*probes.back()->stream, 0);
    cork.add_patiently(*probes.back()->stream, 0);  // the same response goes on
    EXPECT_EQ(cork.may_wait(no_clock), i < Cork::patient_writes_max);
  }
  cork.pull();
  for (const io::FdPair& pair : pairs) world.close(pair.far);
}

TEST_F(CorkTest, PatienceEndsWithAWriteThatHasNone) {
  cork.add_patiently(*probe.stream, 0);
  cork.add(*other.stream);
  EXPECT_FALSE(cork.may_wait(no_clock));
  cork.pull();
}

TEST_F(CorkTest, ASlowCallbackThatWritesNothingEndsPatience) {
  int64_t now_ns = Cork::patience_ns;
  const auto clock = [&now_ns]() noexcept { return now_ns; };
  cork.add_patiently(*probe.stream, 0);
  EXPECT_TRUE(cork.may_wait(no_clock));
  EXPECT_TRUE(cork.may_wait(clock)) << "it was quick";
  EXPECT_EQ(++now_ns, Cork::patience_ns + 1);
  EXPECT_FALSE(cork.may_wait(clock));
  cork.pull();
  cork.add_patiently(*probe.stream, now_ns * Cork::haste_per_delay);
  EXPECT_FALSE(cork.may_wait(clock)) << "the next ones may be slow, too";
  cork.pull();
}

TEST_F(CorkTest, NobodyIsPatientForAWhileAfterASlowCallback) {
  constexpr int64_t slow_ns = Cork::patience_ns + 1;
  cork.add_patiently(*probe.stream, 0);
  cork.add_patiently(*other.stream, slow_ns);
  EXPECT_FALSE(cork.may_wait(no_clock));
  cork.pull();
  constexpr int64_t again_ns = slow_ns + slow_ns * Cork::haste_per_delay;
  cork.add_patiently(*probe.stream, again_ns - 1);
  EXPECT_FALSE(cork.may_wait(no_clock));
  cork.pull();
  cork.add_patiently(*probe.stream, again_ns);
  EXPECT_TRUE(cork.may_wait(no_clock));
  cork.pull();
}

TEST_F(CorkTest, AHandlerMayDestroyTheStreamThatIsFlushed) {
  world.forget_and_close(fds.far);
  probe.then = [this](std::string_view) {
    EXPECT_TRUE(probe.stream->release());
    probe.stream.reset();
  };
  probe.append("x");
  cork.add(*probe.stream);
  other.append("still");
  cork.add(*other.stream);
  cork.pull();
  EXPECT_EQ(probe.stream, nullptr);
  EXPECT_EQ(world.read(other_fds.far), "still");
}

}  // namespace
}  // namespace cxxloop::net
