// SPDX-License-Identifier: MIT
#include "web/core/deadlines.h"

#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "sim/sim_backend.h"

namespace cxxloop::web {
namespace {

constexpr int64_t ms = 1'000'000;

struct Client : Deadlines::Node {
  int64_t expired_ns = 0;
  int expirations = 0;
  Deadlines* moves_in = nullptr;
  int64_t moves_to_ns = 0;
  Client* removes = nullptr;
};

class DeadlinesTest : public testing::Test {
 protected:
  static void on_expired(Deadlines::Node& node, int64_t now_ns) noexcept {
    Client& client = static_cast<Client&>(node);
    client.expired_ns = now_ns;
    ++client.expirations;
    if (client.removes != nullptr) client.moves_in->remove(*client.removes);
    if (client.moves_in != nullptr) client.moves_in->move(client, client.moves_to_ns);
  }
  ~DeadlinesTest() override {
    for (Client& client : clients) wheel.remove(client);
  }
  void run_to(int64_t until_ns) {
    while (backend.now_ns() < until_ns) {
      TimerTask* const next = engine.next_timer();
      const int64_t at_ns = next != nullptr ? std::min(next->node.deadline_ns, until_ns) : until_ns;
      ASSERT_EQ(backend.wait(Deadline{at_ns}), Errno::ok);
      while (TimerTask* const timer = engine.due_timer(backend.now_ns())) engine.run_timer(*timer);
    }
  }

  sim::SimBackend backend{1};
  net::Engine engine{backend};
  Deadlines wheel{engine, backend, on_expired};
  const int64_t begin_ns = backend.now_ns();
  Client clients[4];
};

TEST_F(DeadlinesTest, ExpireOnceAndNeverEarly) {
  wheel.set_smallest_limit(100 * ms);
  for (int i = 0; i < 4; ++i) wheel.add(clients[i], begin_ns + (i + 1) * 30 * ms);
  run_to(begin_ns + 500 * ms);
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(clients[i].expirations, 1);
    const int64_t late_ns = clients[i].expired_ns - (begin_ns + (i + 1) * 30 * ms);
    EXPECT_GE(late_ns, 0);
    EXPECT_LE(late_ns, 2 * wheel.tick_ns());
  }
}

TEST_F(DeadlinesTest, MoveLaterAndEarlier) {
  wheel.set_smallest_limit(100 * ms);
  wheel.add(clients[0], begin_ns + 50 * ms);
  wheel.add(clients[1], begin_ns + 60'000 * ms);
  wheel.move(clients[0], begin_ns + 9'000 * ms);
  wheel.move(clients[1], begin_ns + 20 * ms);
  run_to(begin_ns + 1'000 * ms);
  EXPECT_EQ(clients[0].expirations, 0);
  EXPECT_EQ(clients[1].expirations, 1);
  run_to(begin_ns + 9'000 * ms);
  EXPECT_EQ(clients[0].expirations, 0);
  run_to(begin_ns + 9'100 * ms);
  EXPECT_EQ(clients[0].expirations, 1);
}

TEST_F(DeadlinesTest, WaitForRoundsOfTheWheel) {
  wheel.set_smallest_limit(ms);
  wheel.add(clients[0], begin_ns + 600'000 * ms);
  wheel.add(clients[1], Deadlines::never_ns);
  run_to(begin_ns + 599'999 * ms);
  EXPECT_EQ(clients[0].expirations, 0);
  run_to(begin_ns + 600'100 * ms);
  EXPECT_EQ(clients[0].expirations, 1);
  EXPECT_EQ(clients[1].expirations, 0);
}

TEST_F(DeadlinesTest, MayMoveAndRemoveInsideAnExpiration) {
  wheel.set_smallest_limit(100 * ms);
  for (Client& client : clients) wheel.add(client, begin_ns + 50 * ms);
  clients[0].moves_in = &wheel;
  clients[0].moves_to_ns = begin_ns + 300 * ms;
  clients[0].removes = &clients[2];
  run_to(begin_ns + 200 * ms);
  EXPECT_EQ(clients[0].expirations, 1);
  EXPECT_EQ(clients[1].expirations, 1);
  EXPECT_EQ(clients[2].expirations, 0);
  EXPECT_EQ(clients[3].expirations, 1);
  EXPECT_EQ(wheel.size(), 3U);
  run_to(begin_ns + 400 * ms);
  EXPECT_GE(clients[0].expirations, 2);
  EXPECT_EQ(clients[1].expirations, 1) << "one that was not moved is not told again";
}

TEST_F(DeadlinesTest, HaveATimerOnlyWhileThereIsOne) {
  EXPECT_FALSE(engine.has_timers());
  wheel.add(clients[0], begin_ns + ms);
  EXPECT_TRUE(engine.has_timers());
  wheel.remove(clients[0]);
  wheel.remove(clients[0]);
  EXPECT_FALSE(engine.has_timers());
}

TEST_F(DeadlinesTest, FollowTheSmallestLimit) {
  for (const auto& [limit_ns, tick_ns] : {std::pair<int64_t, int64_t>(1, Deadlines::tick_ns_min),
                                          {5'000 * ms, int64_t{1} << 29},
                                          {600'000 * ms, Deadlines::tick_ns_max}}) {
    wheel.set_smallest_limit(limit_ns);
    EXPECT_EQ(wheel.tick_ns(), tick_ns);
  }
  wheel.add(clients[0], begin_ns + 100 * ms);
  wheel.set_smallest_limit(50 * ms);
  run_to(begin_ns + 200 * ms);
  EXPECT_EQ(clients[0].expirations, 1) << "placed anew";
}

}  // namespace
}  // namespace cxxloop::web
