// SPDX-License-Identifier: MIT
#include "net/listener.h"

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <vector>

#include "cpp/io/worlds.h"
#include "cpp/net/listener_program.h"
#include "sim/seeds.h"

namespace cxxloop::net {
namespace {

class ListenerProbe final : public ListenerHandler {
 public:
  ListenerProbe(io::Backend& backend, int fd) : listener(std::make_unique<Listener>(backend, fd, *this)) {}

  void on_accept(UniqueFd fd, const io::Address& peer) noexcept override {
    EXPECT_GT(peer.size, 0U);
    EXPECT_NE(peer.storage.ss_family, AF_UNSPEC);
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

TEST(ListenerSim, EveryConnectionIsHandedUpOrClosed) {
  sim::for_each_seed([](uint64_t seed) {
    sim::SeededChoices choices(seed, 200);
    return ListenerProgram(seed, choices).run();
  });
}

}  // namespace
}  // namespace cxxloop::net
