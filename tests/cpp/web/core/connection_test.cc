// SPDX-License-Identifier: MIT
#include "web/core/connection.h"

#include <gtest/gtest.h>

#include "cpp/web/core/serving.h"

namespace cxxloop::web {
namespace {

template <class W>
class ConnectionTest : public Serving<W> {};
TYPED_TEST_SUITE(ConnectionTest, ServingWorlds);

TEST(ConnectionSize, StaysSmall) {
  // Ten thousand idle connections are 7 MB of these, and nothing else of ours.
  EXPECT_LE(sizeof(Connection), 712U);
}

TYPED_TEST(ConnectionTest, EndsWhenTheClientHangsUp) {
  const int client = this->connect();
  ASSERT_TRUE(this->run_until([&] { return this->app.connects == 1; }));
  this->hang_up(client);
  EXPECT_TRUE(this->run_until([&] { return this->app.connection_ends == 1; }));
  EXPECT_EQ(this->server->counters().connections, 0U);
}

TYPED_TEST(ConnectionTest, ReadsWhatTheClientStillSendsSoThatItGetsTheAnswer) {
  const int client = this->connect();
  this->write(client, "nonsense\r\n\r\n");
  this->write(client, std::string(100'000, 'x'));
  EXPECT_TRUE(this->read_all(client).starts_with("HTTP/1.1 400 "));
  EXPECT_EQ(this->server->counters().connections, 1U) << "it lingers until the client hangs up, or for a while";
  this->hang_up(client);
  EXPECT_TRUE(this->run_until([&] { return this->server->counters().connections == 0; }));
}

TYPED_TEST(ConnectionTest, LingersForAWhileOnly) {
  const int client = this->connect();
  this->write(client, "nonsense\r\n\r\n");
  this->read_all(client);
  EXPECT_TRUE(this->run_until([&] { return this->server->counters().connections == 0; }, 10'000));
}

}  // namespace
}  // namespace cxxloop::web
