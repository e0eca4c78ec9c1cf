// SPDX-License-Identifier: MIT
#include "io/wakeup.h"

#include <gtest/gtest.h>
#include <poll.h>

#include <atomic>
#include <cerrno>
#include <thread>
#include <vector>

namespace cxxloop::io {
namespace {

bool readable(const Wakeup& wakeup, int timeout_ms = 0) {
  pollfd entry{.fd = wakeup.fd(), .events = POLLIN, .revents = 0};
  return ::poll(&entry, 1, timeout_ms) == 1;
}

TEST(Wakeup, IsReadableUntilDrained) {
  Wakeup wakeup;
  ASSERT_EQ(wakeup.open(), Errno::ok);
  EXPECT_FALSE(readable(wakeup));
  wakeup.notify();
  EXPECT_TRUE(readable(wakeup));
  wakeup.drain();
  EXPECT_FALSE(readable(wakeup));
  wakeup.notify();
  EXPECT_TRUE(readable(wakeup));
}

TEST(Wakeup, ManyNotificationsCostOneWrite) {
  Wakeup wakeup;
  ASSERT_EQ(wakeup.open(), Errno::ok);
  for (int i = 0; i < 1000; ++i) wakeup.notify();
  EXPECT_EQ(wakeup.writes(), 1);
  wakeup.drain();
  wakeup.notify();
  EXPECT_EQ(wakeup.writes(), 2);
}

TEST(Wakeup, LeavesErrnoAlone) {
  Wakeup wakeup;
  ASSERT_EQ(wakeup.open(), Errno::ok);
  errno = EDOM;
  wakeup.notify();
  EXPECT_EQ(errno, EDOM);
}

// A consumer that sleeps on the descriptor alone: were a notification lost, it would sleep until the time-out.
TEST(Wakeup, LosesNoNotification) {
  constexpr int producers = 3;
  constexpr int per_producer = 20'000;
  Wakeup wakeup;
  ASSERT_EQ(wakeup.open(), Errno::ok);
  std::atomic<int> produced{0};
  std::vector<std::thread> threads;
  for (int p = 0; p < producers; ++p) {
    threads.emplace_back([&] {
      for (int i = 0; i < per_producer; ++i) {
        produced.fetch_add(1, std::memory_order_relaxed);
        wakeup.notify();
      }
    });
  }
  while (produced.load(std::memory_order_relaxed) < producers * per_producer) {
    ASSERT_TRUE(readable(wakeup, 20'000));
    wakeup.drain();
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace cxxloop::io
