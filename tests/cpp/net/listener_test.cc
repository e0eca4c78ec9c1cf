// SPDX-License-Identifier: MIT
#include "net/listener.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "cpp/io/worlds.h"
#include "sim/choices.h"
#include "sim/seeds.h"

namespace cxxloop::net {
namespace {

class ListenerProbe final : public ListenerHandler {
 public:
  ListenerProbe(io::Backend& backend, int fd) : listener(std::make_unique<Listener>(backend, fd, *this)) {}

  void on_accept(UniqueFd fd, const sockaddr_storage& peer, socklen_t peer_size) noexcept override {
    EXPECT_GT(peer_size, 0U);
    EXPECT_NE(peer.ss_family, AF_UNSPEC);
    accepted.push_back(fd.take());
    if (const auto react = then) react();
  }
  void on_accept_error(Errno error) noexcept override {
    errors.push_back(error);
    if (const auto react = then) react();
  }
  void on_stopped() noexcept override {
    ++stopped;
    if (const auto react = then) react();
  }

  std::unique_ptr<Listener> listener;
  std::vector<int> accepted;
  std::vector<Errno> errors;
  int stopped = 0;
  std::function<void()> then;
};

template <class W>
class ListenerTest : public testing::Test {
 protected:
  ListenerTest() : fd(world.make_listener()), probe(world.backend(), fd) {}
  ~ListenerTest() override {
    EXPECT_TRUE(probe.listener == nullptr || probe.listener->stop());
    for (const int open : probe.accepted) world.forget_and_close(open);
    for (const int open : clients) world.close(open);
    world.forget_and_close(fd);
  }
  void connect(int count) {
    for (int i = 0; i < count; ++i) clients.push_back(world.connect(fd));
  }
  bool run_until_accepted(size_t count) {
    return world.run_until([&] { return probe.accepted.size() >= count; });
  }

  W world;
  const int fd;
  ListenerProbe probe;
  std::vector<int> clients;
};

using Worlds = testing::Types<io::EvWorld, io::SimWorld, io::BenignSimWorld>;
TYPED_TEST_SUITE(ListenerTest, Worlds);

TYPED_TEST(ListenerTest, HandsUpEveryConnection) {
  ASSERT_EQ(this->probe.listener->start(100), Errno::ok);
  this->connect(5);
  EXPECT_TRUE(this->run_until_accepted(5));
  this->connect(1);
  EXPECT_TRUE(this->run_until_accepted(6));
  this->world.settle();
  EXPECT_EQ(this->probe.accepted.size(), 6U);
  for (size_t i = 0; i < 6; ++i) EXPECT_EQ(this->world.write(this->probe.accepted[i], "x"), 1U);
}

TYPED_TEST(ListenerTest, TakesAFewAtATime) {
  ASSERT_EQ(this->probe.listener->start(2), Errno::ok);
  this->connect(5);
  EXPECT_TRUE(this->world.run_until([&] { return !this->probe.accepted.empty(); }));
  EXPECT_LE(this->probe.accepted.size(), 2U);
  EXPECT_TRUE(this->run_until_accepted(5));
}

TYPED_TEST(ListenerTest, StoppedInACallbackTakesNoMore) {
  this->probe.then = [this] { EXPECT_TRUE(this->probe.listener->stop()); };
  ASSERT_EQ(this->probe.listener->start(100), Errno::ok);
  this->connect(5);
  EXPECT_TRUE(this->run_until_accepted(1));
  this->world.settle();
  EXPECT_EQ(this->probe.accepted.size(), 1U);
  this->probe.then = nullptr;
  ASSERT_EQ(this->probe.listener->start(100), Errno::ok);
  EXPECT_TRUE(this->run_until_accepted(5));
}

TYPED_TEST(ListenerTest, MayBeDestroyedInACallback) {
  this->probe.then = [this] {
    EXPECT_TRUE(this->probe.listener->stop());
    this->probe.listener.reset();
  };
  ASSERT_EQ(this->probe.listener->start(100), Errno::ok);
  this->connect(3);
  EXPECT_TRUE(this->run_until_accepted(1));
  this->world.settle();
  EXPECT_EQ(this->probe.accepted.size(), 1U);
}

TYPED_TEST(ListenerTest, StopIsIdempotent) {
  EXPECT_TRUE(this->probe.listener->stop());
  ASSERT_EQ(this->probe.listener->start(1), Errno::ok);
  EXPECT_TRUE(this->probe.listener->stop());
  EXPECT_TRUE(this->probe.listener->stop());
  this->world.settle();
  EXPECT_EQ(this->probe.stopped, 0);
}

TEST(Listener, RefusesWhatIsNoDescriptor) {
  sim::SimBackend backend(1);
  ListenerProbe probe(backend, 5);
  EXPECT_EQ(probe.listener->start(1), Errno::bad_fd);
  EXPECT_TRUE(probe.listener->stop());
}

// A server that starts, stops and is stopped by its own callbacks, while clients come. Whatever happens, every
// connection is handed up once, or refused.
std::string broken_promise(uint64_t seed) {
  sim::Faults faults = sim::Faults::harsh();
  faults.accept_errors = 200;
  sim::SimBackend backend(seed, faults);
  sim::SeededChoices choices(seed, 200);
  std::string broken;
  const auto check = [&broken](bool kept, const char* promise) {
    if (!kept && broken.empty()) broken = promise;
  };
  const int fd = backend.make_listener();
  ListenerProbe probe(backend, fd);
  enum class Expected { nothing, callbacks, on_stopped } expected = Expected::nothing;
  int stops_expected = 0;
  const auto stop = [&] {
    const bool idle = probe.listener->stop();
    if (!idle && expected == Expected::callbacks) ++stops_expected;
    expected = idle ? Expected::nothing : Expected::on_stopped;
  };
  size_t told = 0;
  probe.then = [&] {
    if (probe.stopped == stops_expected && expected == Expected::on_stopped) {
      expected = Expected::nothing;
      check(told == probe.accepted.size() + probe.errors.size(), "nothing is handed up while stopping");
      return;
    }
    ++told;
    check(expected == Expected::callbacks, "nothing is handed up after stop()");
    if (choices.chance(200)) stop();
  };
  std::vector<int> clients;
  while (broken.empty() && !choices.exhausted()) {
    if (choices.chance(400)) clients.push_back(backend.connect(fd));
    if (expected == Expected::nothing && choices.chance(300)) {
      if (probe.listener->start(static_cast<uint32_t>(choices.between(1, 4))) == Errno::ok) expected = Expected::callbacks;
    } else if (choices.chance(100)) {
      stop();
    }
    check(backend.wait(Deadline{backend.now_ns() + 1'000'000}) == Errno::ok, "wait()");
    while (backend.dispatch_one()) {
    }
    check(probe.stopped + (expected == Expected::on_stopped ? 1 : 0) == stops_expected, "on_stopped() once for each late stop");
  }
  stop();
  for (int turns = 0; turns < 100 && expected == Expected::on_stopped; ++turns) {
    check(backend.wait(Deadline::immediate()) == Errno::ok, "wait()");
    while (backend.dispatch_one()) {
    }
  }
  check(expected == Expected::nothing && backend.ops_count() == 0, "a listener stops");
  std::sort(probe.accepted.begin(), probe.accepted.end());
  check(std::adjacent_find(probe.accepted.begin(), probe.accepted.end()) == probe.accepted.end(), "handed up once");
  backend.forget(fd);  // refuses who still waits
  for (const int accepted : probe.accepted) check(backend.is_open(accepted), "a connection is handed up open");
  check(backend.open_count() == clients.size() + probe.accepted.size(), "a connection is handed up or closed");
  return broken;
}

TEST(ListenerSim, EveryConnectionIsHandedUpOrClosed) { sim::for_each_seed(broken_promise); }

}  // namespace
}  // namespace cxxloop::net
