// SPDX-License-Identifier: MIT
#include "net/engine.h"

#include <gtest/gtest.h>

#include <atomic>
#include <deque>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "cpp/net/stream_probe.h"

namespace cxxloop::net {
namespace {

constexpr int64_t ns_per_ms = 1'000'000;

struct Job {
  explicit Job(std::function<void()> what = {}) : action(std::move(what)) { task.run = run; }
  static void run(Task& task) noexcept { reinterpret_cast<Job*>(&task)->action(); }

  Task task;  // first: run() relies on it
  std::function<void()> action;
};

struct Alarm {
  explicit Alarm(std::function<void()> what = {}) : action(std::move(what)) { timer.run = run; }
  static void run(TimerTask& timer) noexcept { reinterpret_cast<Alarm*>(&timer)->action(); }

  TimerTask timer;  // first: run() relies on it
  std::function<void()> action;
};

template <class WorldType>
class EngineTest : public testing::Test {
 protected:
  EngineTest() : engine(world.backend()), stop([this] { engine.stop(); }) {}

  void run() { ASSERT_EQ(engine.run(), Errno::ok); }
  void add(Alarm& alarm, int64_t delay_ns) {
    alarm.timer.node.deadline_ns = world.now_ns() + delay_ns;
    ASSERT_TRUE(engine.add_timer(alarm.timer));
  }
  std::function<void()> note(std::string text) {
    return [this, text] { story += text; };
  }

  WorldType world;
  Engine engine;
  Job stop;
  std::string story;
};

using Worlds = testing::Types<io::EvWorld, io::SimWorld, io::BenignSimWorld>;
TYPED_TEST_SUITE(EngineTest, Worlds);

TYPED_TEST(EngineTest, TasksRunInTheOrderOfTheirPosts) {
  std::deque<Job> jobs;
  for (const char* text : {"a", "b", "c"}) jobs.emplace_back(this->note(text));
  for (Job& job : jobs) this->engine.post(job.task);
  this->engine.post(this->stop.task);
  this->run();
  EXPECT_EQ(this->story, "abc");
  EXPECT_TRUE(this->engine.none_posted());
}

TYPED_TEST(EngineTest, ATaskMayPostItselfAgainAndStarvesNobody) {
  Job again;
  again.action = [this, &again] { this->engine.post(again.task); };
  this->engine.post(again.task);
  Alarm alarm([this] { this->engine.stop(); });
  this->add(alarm, 0);  // a simulated clock moves in sleeps only
  this->run();
  EXPECT_EQ(this->engine.take_posted(), &again.task);
}

TYPED_TEST(EngineTest, StopEndsARunAtTheEndOfItsTurn) {
  Job after(this->note("after"));
  this->engine.post(this->stop.task);
  this->engine.post(after.task);
  this->run();
  EXPECT_EQ(this->story, "after");
}

TYPED_TEST(EngineTest, AStopBeforeTheRunEndsItsFirstTurn) {
  Job job(this->note("ran"));
  this->engine.post(job.task);
  this->engine.stop();
  this->run();
  EXPECT_EQ(this->story, "ran");
}

TYPED_TEST(EngineTest, TimersRunInTheOrderOfTheirDeadlinesAndNeverEarly) {
  std::vector<int64_t> due;
  const int64_t begin = this->world.now_ns();
  std::deque<Alarm> alarms;
  for (const int delay_ms : {30, 10, 20}) {
    alarms.emplace_back([this, &due, begin, delay_ms] {
      EXPECT_GE(this->world.now_ns() - begin, delay_ms * ns_per_ms);
      due.push_back(delay_ms);
      if (delay_ms == 30) this->engine.stop();
    });
  }
  const int delays_ms[] = {30, 10, 20};
  for (size_t i = 0; i < alarms.size(); ++i) this->add(alarms[i], delays_ms[i] * ns_per_ms);
  this->run();
  EXPECT_EQ(due, (std::vector<int64_t>{10, 20, 30}));
  EXPECT_FALSE(this->engine.has_timers());
}

TYPED_TEST(EngineTest, ACancelledTimerDoesNotRun) {
  Alarm cancelled([] { ADD_FAILURE(); });
  Alarm alarm([this] { this->engine.stop(); });
  this->add(cancelled, ns_per_ms);
  this->add(alarm, 2 * ns_per_ms);
  Job cancel([this, &cancelled] { this->engine.cancel_timer(cancelled.timer); });
  this->engine.post(cancel.task);
  this->run();
  EXPECT_FALSE(cancelled.timer.node.queued());
}

TYPED_TEST(EngineTest, ATimerThatAddsItselfAgainWaitsForTheNextTurn) {
  int runs = 0;
  Alarm again;
  again.action = [this, &again, &runs] {
    if (++runs < 5) this->add(again, 0);
    this->engine.stop();
  };
  this->add(again, 0);
  for (int expected = 1; expected <= 5; ++expected) {
    this->run();
    EXPECT_EQ(runs, expected);
  }
}

TYPED_TEST(EngineTest, WhatATurnWroteIsSentAfterEachCallback) {
  const io::FdPair fds = this->world.make_pair();
  StreamProbe probe(this->world, fds.near);
  const auto write = [this, &probe](const char* text) {
    probe.append(text);
    ASSERT_TRUE(this->engine.cork().may_hold(probe.stream->queued_bytes(), 64 * 1024));
    this->engine.cork().add(*probe.stream);
  };
  Job head_and_body([this, &write, &fds] {
    write("head ");
    write("body");
    EXPECT_EQ(this->world.read(fds.far), "");
  });
  Job reads([this, &fds] { this->story += this->world.read(fds.far); });
  Alarm alarm([&write, this] {
    write(" timer");
    this->engine.stop();
  });
  this->engine.post(head_and_body.task);
  this->engine.post(reads.task);
  this->add(alarm, ns_per_ms);
  this->run();
  EXPECT_TRUE(this->world.run_until([&probe] { return probe.stream->is_drained(); }));  // a kernel may say that it is full
  EXPECT_EQ(this->story + this->world.read(fds.far), "head body timer");
  this->world.close(fds.far);
}

TYPED_TEST(EngineTest, WritesWithPatienceAreSentWithThoseOfTheLastCompletionOfTheBatch) {
  const io::FdPair pairs[] = {this->world.make_pair(), this->world.make_pair()};
  StreamProbe probes[] = {{this->world, pairs[0].near}, {this->world, pairs[1].near}};
  size_t answered = 0;
  for (StreamProbe& probe : probes) {
    probe.then = [this, &probe, &pairs, &answered](std::string_view event) {
      if (event != "data") return;
      const bool is_held = answered++ > 0 && !this->engine.cork().empty();
      for (const io::FdPair& fds : pairs) EXPECT_TRUE(!is_held || this->world.read(fds.far).empty());
      probe.append("x");
      this->engine.cork().add_patiently(*probe.stream, 0);
    };
    ASSERT_EQ(probe.stream->start_reading(), Errno::ok);
  }
  for (const io::FdPair& fds : pairs) ASSERT_EQ(this->world.write(fds.far, "?"), 1U);
  Alarm look;
  look.action = [this, &look, &answered] {
    EXPECT_TRUE(this->engine.cork().empty()) << "nobody waits for a completion that does not wait itself";
    if (answered < 2) return this->add(look, ns_per_ms);
    this->engine.stop();
  };
  this->add(look, ns_per_ms);
  this->run();
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_TRUE(this->world.run_until([&probes, i] { return probes[i].stream->is_drained(); }));
    EXPECT_EQ(this->world.read(pairs[i].far), "x");
    this->world.close(pairs[i].far);
  }
}

TYPED_TEST(EngineTest, AnEchoIsServed) {
  const io::FdPair fds = this->world.make_pair();
  StreamProbe probe(this->world, fds.near);
  probe.then = [this, &probe](std::string_view event) {
    if (event != "data") return;
    probe.append(std::exchange(probe.received, ""));
    this->engine.cork().add(*probe.stream);
  };
  ASSERT_EQ(probe.stream->start_reading(), Errno::ok);
  ASSERT_EQ(this->world.write(fds.far, "ping"), 4U);
  std::string answer;
  Alarm look;
  look.action = [this, &look, &answer, &fds] {
    answer += this->world.read(fds.far);
    if (answer.size() < 4) return this->add(look, ns_per_ms);
    this->engine.stop();
  };
  this->add(look, ns_per_ms);
  this->run();
  EXPECT_EQ(answer, "ping");
  this->world.close(fds.far);
}

TYPED_TEST(EngineTest, DataThatHasComeInTimeIsReadBeforeTheTimeoutRuns) {
  const io::FdPair fds = this->world.make_pair();
  StreamProbe probe(this->world, fds.near);
  probe.then = [this](std::string_view event) { this->story += event; };
  ASSERT_EQ(probe.stream->start_reading(), Errno::ok);
  Alarm timeout([this] {
    this->story += " timeout";
    this->engine.stop();
  });
  Job arrives([this, &fds] { ASSERT_EQ(this->world.write(fds.far, "x"), 1U); });
  this->engine.post(arrives.task);
  if constexpr (std::is_same_v<TypeParam, io::BenignSimWorld>) {
    this->add(timeout, 100 * ns_per_ms);  // its readiness may be late
  } else {
    this->add(timeout, 0);
  }
  this->run();
  EXPECT_EQ(this->story, "data timeout");
  this->world.close(fds.far);
}

TYPED_TEST(EngineTest, AnIdleEngineSaysSo) {
  EXPECT_TRUE(this->engine.is_idle());
  Job job(this->note("x"));
  this->engine.post(job.task);
  EXPECT_FALSE(this->engine.is_idle());
  this->engine.run_posted();
  EXPECT_TRUE(this->engine.is_idle());
  const io::FdPair fds = this->world.make_pair();
  StreamProbe probe(this->world, fds.near);
  probe.append("x");
  this->engine.cork().add(*probe.stream);
  EXPECT_FALSE(this->engine.is_idle());
  this->engine.pull_cork();
  EXPECT_TRUE(this->engine.is_idle());
  this->world.close(fds.far);
}

TYPED_TEST(EngineTest, ABatchOfTasksHasABound) {
  std::deque<Job> jobs(2 * Engine::tasks_per_batch_max);
  size_t ran = 0;
  for (Job& job : jobs) {
    job.action = [&ran] { ++ran; };
    this->engine.post(job.task);
  }
  EXPECT_EQ(this->engine.run_posted(), Engine::tasks_per_batch_max);
  size_t left = 0;
  this->engine.each_posted([&](Task& task) { EXPECT_EQ(&task, &jobs[ran + left++].task); });
  EXPECT_EQ(left, Engine::tasks_per_batch_max);
  EXPECT_EQ(this->engine.run_posted(), Engine::tasks_per_batch_max);
  EXPECT_EQ(this->engine.run_posted(), 0U);
  EXPECT_EQ(ran, jobs.size());
}

TYPED_TEST(EngineTest, ThePollIsSkippedOnlyWhileItFindsNothing) {
  const auto skipped_of = [this](int turns) {
    int skipped = 0;
    for (int i = 0; i < turns; ++i) {
      if (this->engine.poll_is_due()) {
        EXPECT_EQ(this->engine.poll(), Errno::ok);
      } else {
        ++skipped;
      }
    }
    return skipped;
  };
  EXPECT_EQ(skipped_of(PollPacing::empty_polls_before_skipping), 0);
  EXPECT_GT(skipped_of(10 * PollPacing::turns_skipped_max), 0);
  this->engine.expect_io();
  EXPECT_EQ(skipped_of(PollPacing::empty_polls_before_skipping), 0);
}

// A backend that knows of a completion without asking the kernel is polled at once, whatever the pacing says.
class EngineOnALateBackend : public EngineTest<io::LateWorld> {};

TEST_F(EngineOnALateBackend, NewsOfTheBackendEndTheSkipping) {
  const auto fds = world.make_pair();
  io::Op op(io::OpKind::poll_read, nullptr, [](io::Op&, int32_t) noexcept {});
  op.fd = fds.near;
  ASSERT_EQ(world.backend().submit(op), Errno::ok);
  for (uint32_t i = 0; i < PollPacing::empty_polls_before_skipping; ++i) EXPECT_EQ(engine.poll(), Errno::ok);
  EXPECT_FALSE(world.backend().has_news());
  EXPECT_FALSE(engine.poll_is_due());
  EXPECT_FALSE(world.backend().cancel(op));  // completes later
  EXPECT_TRUE(world.backend().has_news());
  EXPECT_TRUE(engine.poll_is_due());
  EXPECT_EQ(engine.poll(), Errno::ok);
  EXPECT_FALSE(world.backend().has_news());
  while (world.backend().dispatch_one()) {
  }
  EXPECT_FALSE(op.in_kernel());
}

// Threads exist beside a real kernel only: a simulated one never sleeps.
class EngineThreads : public EngineTest<io::EvWorld> {};

TEST_F(EngineThreads, EveryTaskOfEveryThreadRunsInItsThreadsOrder) {
  constexpr size_t threads_count = 4;
  constexpr size_t tasks_per_thread = 5'000;
  std::vector<std::deque<Job>> jobs(threads_count);
  std::vector<size_t> next(threads_count, 0);
  size_t left = threads_count * tasks_per_thread;
  for (size_t t = 0; t < threads_count; ++t) {
    for (size_t i = 0; i < tasks_per_thread; ++i) {
      jobs[t].emplace_back([this, &next, &left, t, i] {
        EXPECT_EQ(next[t]++, i);
        if (--left == 0) engine.stop();
      });
    }
  }
  std::vector<std::thread> threads;
  for (size_t t = 0; t < threads_count; ++t) {
    threads.emplace_back([this, &mine = jobs[t]] {
      for (size_t i = 0; i < mine.size(); ++i) {
        engine.post(mine[i].task);
        if (i % 64 == 0) std::this_thread::yield();  // the engine falls asleep now and then
      }
    });
  }
  run();
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(left, 0U);
}

TEST_F(EngineThreads, APingPongLosesNoWakeUp) {
  std::atomic<int> answers{0};
  Job answer([&answers] { answers.fetch_add(1); });
  std::thread asks([this, &answer, &answers] {
    for (int round = 0; round < 2'000; ++round) {
      engine.post(answer.task);
      while (answers.load() == round) std::this_thread::yield();
    }
    engine.stop();
  });
  run();
  asks.join();
  EXPECT_EQ(answers.load(), 2'000);
}

TEST_F(EngineThreads, StopEndsASleepFromAnotherThread) {
  for (int i = 0; i < 100; ++i) {
    std::thread stops([this] { engine.stop(); });
    run();
    stops.join();
  }
}

TEST_F(EngineThreads, AThreadOfAnotherEngineAnswersThroughIt) {
  io::EvWorld other_world;
  Engine other(other_world.backend());
  Job stops_other([&other] { other.stop(); });
  Job answer([this, &other, &stops_other] {
    story += "answer";
    engine.stop();
    other.post(stops_other.task);
  });
  Job question([this, &answer] { engine.post(answer.task); });
  std::thread serves([&other] { EXPECT_EQ(other.run(), Errno::ok); });
  other.post(question.task);
  run();
  serves.join();
  EXPECT_EQ(story, "answer");
}

TEST_F(EngineThreads, AnotherThreadMayNotHoldItsWritesBack) {
  Job job([this] {
    EXPECT_TRUE(engine.cork().may_hold(1, 1));
    std::thread([this] { EXPECT_FALSE(engine.cork().may_hold(1, 1)); }).join();
    engine.stop();
  });
  engine.post(job.task);
  run();
  EXPECT_FALSE(engine.cork().may_hold(1, 1));  // nobody would pull it
}

}  // namespace
}  // namespace cxxloop::net
