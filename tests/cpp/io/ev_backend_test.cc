// SPDX-License-Identifier: MIT
//
// What only a real kernel can do to a backend: close descriptors behind its back, fork, interrupt, run out.
#include "io/ev_backend.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <csignal>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/unique_fd.h"
#include "io/ev_backend.h"
#include "cpp/io/worlds.h"

namespace cxxloop::io {
namespace {

class EvBackendTest : public testing::Test {
 protected:
  FdPair pair() {
    const FdPair fds = world.make_pair();
    opened.push_back(fds.near);
    opened.push_back(fds.far);
    return fds;
  }
  void close(int fd) {
    std::erase(opened, fd);
    world.close(fd);
  }
  void TearDown() override {
    EXPECT_EQ(world.backend().ops_count(), 0U);
    for (const int fd : opened) world.close(fd);
  }
  static int64_t context_switches() {
    rusage usage;
    ::getrusage(RUSAGE_THREAD, &usage);
    return usage.ru_nvcsw;
  }
  static int64_t cpu_time_us() {
    rusage usage;
    ::getrusage(RUSAGE_THREAD, &usage);
    return (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1'000'000 + usage.ru_utime.tv_usec + usage.ru_stime.tv_usec;
  }

  EvWorld world;
  Backend& backend = world.backend();
  std::vector<int> opened;
};

TEST_F(EvBackendTest, TellsWhatWasCompiledIn) {
  EXPECT_STREQ(backend.name(), "libev");
  EXPECT_STREQ(ev_base().library, "libev");
  EXPECT_EQ(ev_base().version_major, 4);
  EXPECT_STREQ(ev_base().poller, "epoll");
}

TEST_F(EvBackendTest, FilesWithoutReadinessAreRefused) {
  for (const char* const path : {"/dev/null", "/", "/proc/self/exe"}) {
    const UniqueFd file(::open(path, O_RDONLY | O_CLOEXEC));
    PollProbe probe(world, OpKind::poll_read, file.get());
    EXPECT_EQ(probe.submit(), Errno::not_permitted) << path;
  }
}

TEST_F(EvBackendTest, ReaderIsCalledBeforeWriterAndDescriptorsInKernelOrder) {
  const FdPair first = pair();
  const FdPair second = pair();
  std::string order;
  PollProbe writer(world, OpKind::poll_write, first.near);
  PollProbe reader(world, OpKind::poll_read, first.near);
  PollProbe other(world, OpKind::poll_read, second.near);
  writer.then = [&] { order += "w"; };
  reader.then = [&] { order += "r"; };
  other.then = [&] { order += "o"; };
  ASSERT_EQ(writer.submit(), Errno::ok);
  ASSERT_EQ(reader.submit(), Errno::ok);
  ASSERT_EQ(other.submit(), Errno::ok);
  ASSERT_TRUE(backend.cancel(writer.op));
  world.turn(Deadline::immediate());
  ASSERT_EQ(writer.submit(), Errno::ok);
  world.write(first.far, "x");
  world.write(second.far, "x");
  world.turn(Deadline::immediate());
  EXPECT_EQ(order, "rwo");
}

// Time

TEST_F(EvBackendTest, ARecvThatItsTargetCallbackSubmitsAgainEndsAtEndOfFile) {
  const FdPair fds = pair();
  RecvProbe probe(world, fds.near);
  probe.choose_target = [&] {
    EXPECT_TRUE(world.backend().cancel(probe.op));
    EXPECT_EQ(probe.submit(), Errno::ok);
    return std::span<std::byte>();
  };
  ASSERT_EQ(probe.submit(), Errno::ok);
  close(fds.far);
  EXPECT_TRUE(world.run_until([&] { return probe.endings > 0; }));
  world.settle();
  EXPECT_EQ(probe.endings, 1);
  EXPECT_FALSE(probe.op.in_kernel());
  EXPECT_EQ(world.backend().ops_count(), 0U);
}

TEST_F(EvBackendTest, DeadlinesAreNeverEarlyAndSeldomLate) {
  std::vector<int64_t> late_ns;
  for (int i = 0; i < 41; ++i) {
    const int64_t deadline_ns = monotonic_ns() + 1'300'000;
    world.turn(Deadline{deadline_ns});
    late_ns.push_back(monotonic_ns() - deadline_ns);
    ASSERT_GE(late_ns.back(), 0);
  }
  std::nth_element(late_ns.begin(), late_ns.begin() + 20, late_ns.end());
  EXPECT_LT(late_ns[20], 200'000);
}

TEST_F(EvBackendTest, AnEarlierTimerDoesNotEndALaterSleep) {
  const int64_t now_ns = monotonic_ns();
  backend.wake();
  world.turn(Deadline{now_ns + 2'000'000});
  ASSERT_EQ(backend.counters().timer_arms, 1);
  backend.wake();
  world.turn(Deadline{now_ns + 50'000'000});
  EXPECT_EQ(backend.counters().timer_arms, 1) << "a later deadline costs no system call";
  world.turn(Deadline{now_ns + 8'000'000});
  EXPECT_GE(monotonic_ns(), now_ns + 8'000'000);
}

TEST_F(EvBackendTest, ASpentTimerDoesNotEndAnEndlessSleep) {
  backend.wake();
  world.turn(Deadline{monotonic_ns() + 1'000'000});
  std::atomic<bool> woken{false};
  std::thread waker([&] {
    timespec pause{.tv_sec = 0, .tv_nsec = 30'000'000};
    ::nanosleep(&pause, nullptr);
    woken = true;
    backend.wake();
  });
  const int64_t before_us = cpu_time_us();
  world.turn(Deadline::never());
  EXPECT_TRUE(woken);
  EXPECT_LT(cpu_time_us() - before_us, 5'000);
  waker.join();
}

TEST_F(EvBackendTest, AnIdleSleepIsOneSleep) {
  const FdPair fds = pair();
  PollProbe probe(world, OpKind::poll_read, fds.near);
  ASSERT_EQ(probe.submit(), Errno::ok);
  const int64_t before = context_switches();
  const int64_t deadline_ns = monotonic_ns() + 30'000'000;
  world.turn(Deadline{deadline_ns});
  EXPECT_GE(monotonic_ns(), deadline_ns);
  EXPECT_LE(context_switches() - before, 2);
  EXPECT_EQ(backend.counters().waits, 1);
  EXPECT_EQ(backend.counters().blocking_waits, 1);
}

// Threads and signals

TEST_F(EvBackendTest, AnotherThreadEndsTheSleep) {
  for (int i = 0; i < 200; ++i) {
    std::thread waker([&] { backend.wake(); });
    world.turn(Deadline::never());
    waker.join();
  }
}

TEST_F(EvBackendTest, WakesBetweenTwoWaitsCostOneWrite) {
  for (int i = 0; i < 100; ++i) backend.wake();
  EXPECT_EQ(backend.counters().wake_writes, 1);
  world.turn(Deadline::never());
  EXPECT_EQ(backend.counters().wake_writes, 1);
}

std::atomic<int> signals_seen{0};

// A thread that holds the GIL which a sleeping wait() has given away, without the thread.
struct SubmitDuringSleep final : SleepHooks {
  explicit SubmitDuringSleep(PollProbe& probe_to_submit) noexcept : probe(probe_to_submit) {}
  void before_sleep() noexcept override { error = probe.submit(); }
  void after_sleep() noexcept override {}
  PollProbe& probe;
  Errno error = Errno::invalid;
};

TEST_F(EvBackendTest, WhatIsSubmittedDuringASleepTakesEffectAtOnce) {
  const FdPair fds = pair();
  world.write(fds.far, "x");
  PollProbe reader(world, OpKind::poll_read, fds.near);
  SubmitDuringSleep hooks(reader);
  backend.set_sleep_hooks(&hooks);
  const int64_t start_ns = monotonic_ns();
  world.turn(Deadline{start_ns + 30'000'000'000});
  backend.set_sleep_hooks(nullptr);
  EXPECT_EQ(hooks.error, Errno::ok);
  EXPECT_LT(monotonic_ns() - start_ns, 10'000'000'000);
  world.turn(Deadline::immediate());
  EXPECT_EQ(reader.completions, 1);
  EXPECT_TRUE(backend.cancel(reader.op));
}

TEST_F(EvBackendTest, ASignalEndsTheSleepWithoutAnError) {
  struct sigaction action {};
  struct sigaction old_action {};
  action.sa_handler = [](int) { ++signals_seen; };
  ASSERT_EQ(::sigaction(SIGALRM, &action, &old_action), 0);
  // Repeats, in case the first one comes before the sleep.
  const itimerval every_5_ms{.it_interval = {.tv_sec = 0, .tv_usec = 5000}, .it_value = {.tv_sec = 0, .tv_usec = 5000}};
  ASSERT_EQ(::setitimer(ITIMER_REAL, &every_5_ms, nullptr), 0);
  EXPECT_EQ(backend.wait(Deadline::never()), Errno::ok);
  EXPECT_EQ(backend.collected(), 0U);
  EXPECT_GT(signals_seen, 0);
  const itimerval off{};
  ::setitimer(ITIMER_REAL, &off, nullptr);
  ::sigaction(SIGALRM, &old_action, nullptr);
}

// Descriptors that are closed behind the backend's back

TEST_F(EvBackendTest, ADescriptorClosedBeforeItIsRegisteredEndsItsOps) {
  const FdPair fds = pair();
  PollProbe reader(world, OpKind::poll_read, fds.near);
  SendProbe writer(world, fds.near, "x");
  ASSERT_EQ(reader.submit(), Errno::ok);
  ASSERT_EQ(writer.submit(), Errno::ok);
  close(fds.near);
  world.turn(Deadline::never());
  EXPECT_EQ(reader.completions, 1);
  EXPECT_FALSE(reader.op.in_kernel());
  EXPECT_EQ(errno_of(writer.last_result), Errno::bad_fd);
  world.settle();
  EXPECT_EQ(reader.completions, 1);
  EXPECT_EQ(reader.submit(), Errno::bad_fd);
}

TEST_F(EvBackendTest, AClosedDescriptorThatIsChangedEndsItsOps) {
  const FdPair fds = pair();
  RecvProbe reader(world, fds.near);
  PollProbe writer(world, OpKind::poll_write, fds.near);
  ASSERT_EQ(reader.submit(), Errno::ok);
  ASSERT_EQ(writer.submit(), Errno::ok);
  world.turn(Deadline::immediate());
  close(fds.near);
  ASSERT_TRUE(backend.cancel(writer.op));
  world.turn(Deadline::never());
  EXPECT_EQ(errno_of(reader.last_result), Errno::bad_fd);
}

TEST_F(EvBackendTest, TheSecondDirectionOfAClosedDescriptorIsRefused) {
  const FdPair fds = pair();
  PollProbe reader(world, OpKind::poll_read, fds.near);
  PollProbe writer(world, OpKind::poll_write, fds.near);
  ASSERT_EQ(reader.submit(), Errno::ok);
  world.turn(Deadline::immediate());
  close(fds.near);
  EXPECT_EQ(writer.submit(), Errno::bad_fd);
}

TEST_F(EvBackendTest, OneWaitCollectsEverythingThatIsReady) {
  std::vector<std::unique_ptr<PollProbe>> probes;
  for (int i = 0; i < 300; ++i) {
    probes.push_back(std::make_unique<PollProbe>(world, OpKind::poll_write, pair().near));
    ASSERT_EQ(probes.back()->submit(), Errno::ok);
  }
  world.turn(Deadline::immediate());
  for (const auto& probe : probes) ASSERT_EQ(probe->completions, 1);
}

TEST_F(EvBackendTest, AClosedNumberThatIsReusedIsRegisteredAgain) {
  const FdPair old = pair();
  PollProbe probe(world, OpKind::poll_read, old.near);
  ASSERT_EQ(probe.submit(), Errno::ok);
  world.turn(Deadline::immediate());
  close(old.near);  // The user's mistake: closed first,
  const FdPair fresh = pair();
  ASSERT_EQ(fresh.near, old.near);
  ASSERT_TRUE(backend.cancel(probe.op));  // and removed after that.
  PollProbe fresh_probe(world, OpKind::poll_read, fresh.near);
  ASSERT_EQ(fresh_probe.submit(), Errno::ok);
  world.write(fresh.far, "x");
  EXPECT_TRUE(world.run_until([&] { return fresh_probe.completions > 0; }));
  EXPECT_EQ(probe.completions, 0);
}

// epoll watches the open file, not the number: it goes on reporting a file whose number was closed while a copy lives.
TEST_F(EvBackendTest, AClosedDescriptorWithALivingCopyDoesNotSpin) {
  const FdPair fds = pair();
  const UniqueFd copy(::dup(fds.near));
  {
    PollProbe probe(world, OpKind::poll_read, fds.near);
    ASSERT_EQ(probe.submit(), Errno::ok);
    world.turn(Deadline::immediate());
  }
  close(fds.near);
  world.write(fds.far, "nobody can read this");
  const int64_t before_us = cpu_time_us();
  const int64_t switches = context_switches();
  const int64_t end_ns = monotonic_ns() + 50'000'000;
  const int64_t waits = backend.counters().waits;
  while (monotonic_ns() < end_ns) world.turn(Deadline{end_ns});
  EXPECT_LT(backend.counters().waits - waits, 10);
  EXPECT_LT(context_switches() - switches, 10);
  EXPECT_LT(cpu_time_us() - before_us, 20'000);
}

TEST_F(EvBackendTest, ClosedDescriptorsSurviveARebuildOfThePoller) {
  const FdPair ghost = pair();
  const UniqueFd copy(::dup(ghost.near));
  const FdPair closed = pair();
  const FdPair good = pair();
  PollProbe closed_probe(world, OpKind::poll_read, closed.near);
  PollProbe good_probe(world, OpKind::poll_read, good.near);
  {
    PollProbe ghost_probe(world, OpKind::poll_read, ghost.near);
    ASSERT_EQ(ghost_probe.submit(), Errno::ok);
    ASSERT_EQ(closed_probe.submit(), Errno::ok);
    ASSERT_EQ(good_probe.submit(), Errno::ok);
    world.turn(Deadline::immediate());
  }
  close(closed.near);
  close(ghost.near);
  world.write(ghost.far, "x");  // The event that libev cannot turn off, so that it starts a new epoll set.
  const int64_t start_ns = monotonic_ns();
  while (closed_probe.completions == 0) world.turn(Deadline{start_ns + ns_per_second});
  EXPECT_LT(monotonic_ns() - start_ns, ns_per_second / 2) << "the sleep must not hold back what was found closed";
  world.write(good.far, "x");
  EXPECT_TRUE(world.run_until([&] { return good_probe.completions > 0; }));
}

int find_epoll_fd() {
  for (int fd = 0; fd < 256; ++fd) {
    std::array<char, 64> target{};
    const std::string link = "/proc/self/fd/" + std::to_string(fd);
    if (::readlink(link.c_str(), target.data(), target.size() - 1) > 0 &&
        std::string(target.data()) == "anon_inode:[eventpoll]") {
      return fd;
    }
  }
  return -1;
}

TEST_F(EvBackendTest, APollerClosedBehindOurBackIsAnErrorAndNoAbort) {
  world.turn(Deadline::immediate());
  const int epoll_fd = find_epoll_fd();
  ASSERT_GE(epoll_fd, 0);
  ::close(epoll_fd);
  EXPECT_EQ(backend.wait(Deadline::immediate()), Errno::bad_fd);
  // Something must stand at the number when the backend closes it.
  ASSERT_EQ(::dup2(STDIN_FILENO, epoll_fd), epoll_fd);
}

// Running out

TEST_F(EvBackendTest, AcceptWithoutFreeDescriptorsReportsOncePerReadiness) {
  const int listener = world.make_listener();
  opened.push_back(listener);
  for (int i = 0; i < 3; ++i) opened.push_back(world.connect(listener));
  AcceptProbe probe(world, listener, 100);
  ASSERT_EQ(probe.submit(), Errno::ok);
  rlimit old_limit;
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &old_limit), 0);
  const UniqueFd highest(::dup(listener));
  const rlimit limit{.rlim_cur = static_cast<rlim_t>(highest.get()) + 1, .rlim_max = old_limit.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &limit), 0);
  world.turn(Deadline::immediate());
  EXPECT_EQ(::setrlimit(RLIMIT_NOFILE, &old_limit), 0);
  EXPECT_TRUE(probe.accepted.empty());
  EXPECT_EQ(probe.errors, std::vector<int32_t>{-EMFILE});
  EXPECT_TRUE(world.run_until([&] { return probe.accepted.size() == 3; }));
}

TEST_F(EvBackendTest, MakingOneWithoutFreeDescriptorsFailsWithTheReason) {
  rlimit old_limit;
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &old_limit), 0);
  const UniqueFd highest(::dup(STDIN_FILENO));
  for (rlim_t spare = 1; spare <= 3; ++spare) {
    const rlimit limit{.rlim_cur = static_cast<rlim_t>(highest.get()) + spare, .rlim_max = old_limit.rlim_max};
    ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &limit), 0);
    Errno why = Errno::ok;
    EXPECT_EQ(make_ev_backend(&why), nullptr);
    EXPECT_EQ(why, static_cast<Errno>(EMFILE));
  }
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &old_limit), 0);
}

// Memory

class EvBackendAfterAFloodTest : public EvBackendTest {
 protected:
  static constexpr size_t many = 1500;

  // `many` ops on duplicates of one end of a socket pair, and most of them gone again.
  void flood() {
    std::vector<UniqueFd> copies;
    std::vector<std::unique_ptr<PollProbe>> probes;
    for (size_t i = 0; i < many; ++i) {
      copies.emplace_back(::dup(crowd.near));
      probes.push_back(std::make_unique<PollProbe>(world, OpKind::poll_read, copies.back().get()));
      ASSERT_EQ(probes.back()->submit(), Errno::ok);
    }
    world.turn(Deadline::immediate());
    for (size_t i = 0; i < many; ++i) {
      ASSERT_TRUE(backend.cancel(probes[i]->op));
      backend.forget(copies[i].get());
    }
  }

  FdPair crowd = pair();
};

TEST_F(EvBackendAfterAFloodTest, WhoIsLeftGoesOnWaiting) {
  const FdPair before = pair();
  PollProbe early(world, OpKind::poll_read, before.near);
  ASSERT_EQ(early.submit(), Errno::ok);
  flood();
  const FdPair after = pair();
  PollProbe late(world, OpKind::poll_read, after.near);
  PollProbe writer(world, OpKind::poll_write, after.near);
  ASSERT_EQ(late.submit(), Errno::ok);
  backend.release_memory();
  ASSERT_EQ(writer.submit(), Errno::ok);
  EXPECT_TRUE(world.run_until([&] { return writer.completions > 0; }));
  EXPECT_EQ(early.completions, 0);
  EXPECT_EQ(late.completions, 0);
  world.write(before.far, "x");
  EXPECT_TRUE(world.run_until([&] { return early.completions > 0; }));
  world.write(after.far, "x");
  EXPECT_TRUE(world.run_until([&] { return late.completions > 0; }));
}

TEST_F(EvBackendAfterAFloodTest, SleepsEndAtTheirDeadlineAndByWake) {
  const FdPair fds = pair();
  PollProbe probe(world, OpKind::poll_read, fds.near);
  ASSERT_EQ(probe.submit(), Errno::ok);
  flood();
  // A timer that is armed stays so.
  backend.wake();
  const Deadline armed{monotonic_ns() + 30'000'000};
  ASSERT_EQ(backend.wait(armed), Errno::ok);
  backend.release_memory();
  ASSERT_EQ(backend.wait(armed), Errno::ok);
  EXPECT_GE(monotonic_ns(), armed.at_ns);
  EXPECT_LT(monotonic_ns(), armed.at_ns + 1'000'000'000);
  backend.wake();
  ASSERT_EQ(backend.wait(Deadline::never()), Errno::ok);
  EXPECT_EQ(probe.completions, 0);
}

// Fork

int exit_status_of(pid_t child) {
  int status = -1;
  while (::waitpid(child, &status, 0) == -1 && errno == EINTR) {
  }
  return status;
}

TEST_F(EvBackendTest, AForkedChildLeavesTheParentsPollerAlone) {
  const FdPair fds = pair();
  PollProbe probe(world, OpKind::poll_read, fds.near);
  ASSERT_EQ(probe.submit(), Errno::ok);
  world.turn(Deadline::immediate());
  const pid_t child = ::fork();
  if (child == 0) {
    // All that a child may do with what it inherited, short of freeing it for the parent's sake.
    bool ok = backend.cancel(probe.op);
    ok = ok && backend.wait(Deadline::immediate()) == Errno::ok;
    ok = ok && backend.submit(probe.op) == Errno::ok && backend.cancel(probe.op);
    ::_exit(ok ? 0 : 1);
  }
  ASSERT_EQ(exit_status_of(child), 0);
  world.write(fds.far, "x");
  EXPECT_TRUE(world.run_until([&] { return probe.completions > 0; }));
}

TEST_F(EvBackendTest, AForkedChildMayGoOn) {
  const FdPair fds = pair();
  PollProbe probe(world, OpKind::poll_read, fds.near);
  ASSERT_EQ(probe.submit(), Errno::ok);
  world.turn(Deadline::immediate());
  const pid_t child = ::fork();
  if (child == 0) {
    backend.wake();
    world.turn(Deadline::never());
    world.write(fds.far, "x");
    while (probe.completions == 0) world.turn(Deadline::never());
    ::_exit(probe.completions > 0 ? 0 : 1);
  }
  ASSERT_EQ(exit_status_of(child), 0);
  EXPECT_EQ(probe.completions, 0);
  EXPECT_TRUE(world.run_until([&] { return probe.completions > 0; }));
}

}  // namespace
}  // namespace cxxloop::io
