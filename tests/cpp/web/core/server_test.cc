// SPDX-License-Identifier: MIT
#include "web/core/server.h"

#include <gtest/gtest.h>

#include "cpp/web/core/serving.h"

namespace cxxloop::web {
namespace {

template <class W>
class ServerTest : public Serving<W> {};
TYPED_TEST_SUITE(ServerTest, ServingWorlds);

constexpr std::string_view get = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";

TYPED_TEST(ServerTest, ClosesEverythingAtOnce) {
  const int idle = this->connect();
  const int busy = this->connect();
  this->write(busy, get);
  ASSERT_TRUE(this->run_until([&] { return this->app.answers.size() == 1 && this->app.connects == 2; }));
  this->stop();
  EXPECT_TRUE(this->app.last().has_ended());
  EXPECT_EQ(this->app.last().ending.why, Ending::Why::closed);
  EXPECT_EQ(this->app.connection_ends, 2);
  EXPECT_TRUE(this->world.at_eof(idle));
}

TYPED_TEST(ServerTest, DrainsIdleConnectionsAndFinishesTheOthers) {
  const int idle = this->connect();
  const int busy = this->connect();
  this->write(busy, get);
  ASSERT_TRUE(this->run_until([&] { return this->app.answers.size() == 1 && this->app.connects == 2; }));
  this->server->drain();
  EXPECT_EQ(this->read_all(idle), "");
  EXPECT_EQ(this->app.idles, 0);
  this->app.last().respond("bye");
  EXPECT_EQ(this->read_all(busy), "HTTP/1.1 200 OK\r\ncontent-length: 3\r\nconnection: close\r\n\r\nbye");
  this->hang_up(busy);
  EXPECT_TRUE(this->run_until([&] { return this->app.idles == 1; }));
}

TYPED_TEST(ServerTest, RefusesConnectionsAboveTheLimit) {
  this->options.limits.connections_max = 2;
  const int first = this->connect();
  this->connect();
  ASSERT_TRUE(this->run_until([&] { return this->app.connects == 2; }));
  const int third = this->connect();
  const std::string refused = this->read_all(third);
  EXPECT_TRUE(refused.starts_with("HTTP/1.1 503 Service Unavailable\r\n")) << refused;
  EXPECT_NE(refused.find("retry-after: "), std::string::npos);
  EXPECT_EQ(this->app.connects, 2);
  EXPECT_EQ(this->server->counters().refused, 1U);
  this->hang_up(first);
  this->hang_up(third);
  ASSERT_TRUE(this->run_until([&] { return this->server->counters().connections == 1; }));
  this->connect();
  EXPECT_TRUE(this->run_until([&] { return this->app.connects == 3; }));
}

}  // namespace
}  // namespace cxxloop::web
