// SPDX-License-Identifier: MIT
#include "web/core/server.h"

#include <arpa/inet.h>
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
  EXPECT_EQ(this->server->counters().limits[static_cast<size_t>(Limit::connections)], 1U);
  EXPECT_EQ(this->server->counters().responses[4], 1U);
  this->hang_up(first);
  this->hang_up(third);
  ASSERT_TRUE(this->run_until([&] { return this->server->counters().connections == 1; }));
  this->connect();
  EXPECT_TRUE(this->run_until([&] { return this->app.connects == 3; }));
}

TYPED_TEST(ServerTest, AnswersTheRequestThatIsOnItsWayWhenItDrains) {
  this->app.handle = echo;
  const int client = this->connect();
  EXPECT_FALSE(this->ask(client, get, "GET / ").empty());
  this->server->drain();
  this->write(client, get);
  EXPECT_EQ(this->read_all(client), "HTTP/1.1 200 OK\r\ncontent-length: 6\r\nconnection: close\r\n\r\nGET / ");
}

TYPED_TEST(ServerTest, CountsInTheBlockThatItIsGiven) {
  ServerMetrics metrics;
  this->options.metrics = &metrics;
  this->app.handle = echo;
  const int client = this->connect();
  const std::string answer = this->ask(client, get, "GET / ");
  EXPECT_EQ(metrics.counters.accepted, 1U);
  EXPECT_EQ(metrics.counters.connections, 1U);
  EXPECT_EQ(metrics.counters.requests, 1U);
  EXPECT_EQ(metrics.counters.exchanges, 0U);
  EXPECT_EQ(metrics.counters.responses[1], 1U);
  EXPECT_EQ(metrics.counters.received_bytes, get.size());
  EXPECT_EQ(metrics.counters.sent_bytes, answer.size());
  this->stop();
  EXPECT_EQ(metrics.counters.connections, 0U);
}

TYPED_TEST(ServerTest, MeasuresAnExchangeFromItsHeadToItsEnd) {
  ServerMetrics metrics;
  this->options.metrics = &metrics;
  const int client = this->connect();
  this->write(client, get);
  ASSERT_TRUE(this->run_until([&] { return this->app.answers.size() == 1; }));
  const int64_t before_ns = this->world.now_ns();
  ASSERT_TRUE(this->run_until([&] { return this->world.now_ns() - before_ns > 20'000'000; }));
  this->app.last().respond("ok");
  EXPECT_GE(metrics.latency.sum_ns, 20'000'000U);
  EXPECT_EQ(metrics.latency.buckets[LatencyHistogram::bucket_of(static_cast<int64_t>(metrics.latency.sum_ns))], 1U);
}

TYPED_TEST(ServerTest, CountsWhichLimitsAreMet) {
  this->options.limits.head_ns = 60'000'000;
  this->options.limits.body_bytes_max = 10;
  this->options.limits.head.line_bytes_max = 100;
  const auto count = [this](Limit limit) { return this->server->counters().limits[static_cast<size_t>(limit)]; };
  for (const std::string& request : {"GET /" + std::string(200, 'a') + " HTTP/1.1\r\nHost: h\r\n\r\n",
                                     std::string("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 11\r\n\r\n"), std::string("GET / HT")}) {
    const int client = this->connect();
    this->write(client, request);
    EXPECT_TRUE(this->read_all(client).starts_with("HTTP/1.1 4"));
  }
  EXPECT_EQ(count(Limit::line), 1U);
  EXPECT_EQ(count(Limit::body), 1U);
  EXPECT_EQ(count(Limit::head_time), 1U);
  EXPECT_EQ(count(Limit::head), 0U);
  EXPECT_EQ(this->server->counters().bad_requests, 2U);
  EXPECT_EQ(this->server->counters().timeouts, 1U);
}

TYPED_TEST(ServerTest, IsIdleAtOnceWithoutAConnection) {
  this->start();
  this->server->drain();
  EXPECT_EQ(this->app.idles, 1);
  this->server->drain();
  EXPECT_EQ(this->app.idles, 1);
}

TYPED_TEST(ServerTest, MayBeClosedInsideARequest) {
  this->app.handle = [this](Answer&) { EXPECT_FALSE(this->server->close()) << "the connection stands on the stack"; };
  const int client = this->connect();
  this->connect();
  ASSERT_TRUE(this->run_until([&] { return this->app.connects == 2; }));
  this->write(client, get);
  ASSERT_TRUE(this->run_until([&] { return this->app.connection_ends == 2; }));
  EXPECT_EQ(this->app.last().ending.why, Ending::Why::closed);
}

TYPED_TEST(ServerTest, KeepsAtLimitsThatAreChanged) {
  this->app.handle = echo;
  const int client = this->connect();
  EXPECT_FALSE(this->ask(client, get, "GET / ").empty());
  Limits limits;
  limits.idle_ns = 50'000'000;
  this->server->set_limits(limits);
  EXPECT_FALSE(this->ask(client, get, "GET / ").empty());
  EXPECT_EQ(this->read_all(client), "");
}

TYPED_TEST(ServerTest, AnswersItsHealthUntilItDrains) {
  this->options.health_path = "/health";
  this->app.handle = echo;
  const int client = this->connect();
  constexpr std::string_view ask = "GET /health?now HTTP/1.1\r\nHost: h\r\n\r\n";
  EXPECT_TRUE(this->ask(client, ask, "ok\n").starts_with("HTTP/1.1 200 "));
  EXPECT_FALSE(this->ask(client, "GET /healthy HTTP/1.1\r\nHost: h\r\n\r\n", "GET /healthy ").empty());
  EXPECT_EQ(this->app.answers.size(), 1U);
  this->server->drain();
  this->write(client, ask);
  const std::string last = this->read_all(client);
  EXPECT_TRUE(last.starts_with("HTTP/1.1 503 ")) << last;
  EXPECT_TRUE(last.ends_with("draining\n")) << last;
}

TYPED_TEST(ServerTest, RefusesRequestsAboveTheConcurrency) {
  this->options.limits.concurrency_max = 3;
  this->options.health_path = "/health";
  const int busy = this->connect();
  this->write(busy, get);
  ASSERT_TRUE(this->run_until([&] { return this->app.answers.size() == 1; }));
  const int second = this->connect();
  this->write(second, get);
  ASSERT_TRUE(this->run_until([&] { return this->app.answers.size() == 2; })) << "its own connection is the second one";
  const int third = this->connect();
  EXPECT_TRUE(this->ask(third, "GET /health HTTP/1.1\r\nHost: h\r\n\r\n", "ok\n").starts_with("HTTP/1.1 200 "));
  this->write(third, get);
  const std::string refused = this->read_all(third);
  EXPECT_TRUE(refused.starts_with("HTTP/1.1 503 ")) << refused;
  EXPECT_NE(refused.find("retry-after: "), std::string::npos);
  EXPECT_EQ(this->app.answers.size(), 2U);
  EXPECT_EQ(this->server->counters().limits[static_cast<size_t>(Limit::concurrency)], 1U);
}

// --- the PROXY protocol -----------------------------------------------------------------------------------------

constexpr std::string_view introduction = "PROXY TCP4 192.0.2.7 192.0.2.1 5000 80\r\n";

template <class W>
class ProxiedServer : public Serving<W> {
 protected:
  ProxiedServer() {
    this->options.proxy_protocol = true;
    this->app.are_proxies = true;
    this->app.handle = echo;
  }

  uint32_t client_host() const { return ntohl(reinterpret_cast<const sockaddr_in&>(this->app.last_peer.storage).sin_addr.s_addr); }
};
TYPED_TEST_SUITE(ProxiedServer, ServingWorlds);

TYPED_TEST(ProxiedServer, TellsTheAddressInFrontOfTheFirstRequest) {
  const std::string text = std::string(introduction) + std::string(get);
  for (size_t at = 1; at < text.size(); ++at) {
    const int client = this->connect();
    this->write(client, text.substr(0, at));
    this->settle();
    this->write(client, text.substr(at));
    this->read_to(client, "GET / ");
    EXPECT_EQ(this->client_host(), 0xc0000207U) << at;
    this->hang_up(client);
  }
}

TYPED_TEST(ProxiedServer, KeepsTheProxysOwnAddress) {
  EXPECT_FALSE(this->ask(this->connect(), "PROXY UNKNOWN\r\n" + std::string(get), "GET / ").empty());
  EXPECT_EQ(this->app.last_peer.size, 0U);
}

TYPED_TEST(ProxiedServer, EndsConnectionsThatBeginOtherwise) {
  const int client = this->connect();
  this->write(client, get);
  EXPECT_EQ(this->read_all(client), "");
  EXPECT_EQ(this->app.connects, 0);
  EXPECT_EQ(this->server->counters().bad_requests, 1U);
}

TYPED_TEST(ProxiedServer, BelievesNobodyElse) {
  this->app.are_proxies = false;
  const int client = this->connect();
  this->write(client, std::string(introduction) + std::string(get));
  EXPECT_TRUE(this->read_all(client).starts_with("HTTP/1.1 400 "));
}

TYPED_TEST(ProxiedServer, EndsAHeaderThatDoesNotCome) {
  this->options.limits.head_ns = 50'000'000;
  const int client = this->connect();
  this->write(client, introduction.substr(0, 20));
  EXPECT_EQ(this->read_all(client), "");
  EXPECT_EQ(this->server->counters().timeouts, 1U);
}

TYPED_TEST(ProxiedServer, MayBeDrainedAndClosedBeforeTheHeader) {
  const int client = this->connect();
  this->connect();
  ASSERT_TRUE(this->run_until([&] { return this->server->counters().connections == 2; }));
  this->server->drain();
  EXPECT_EQ(this->read_all(client), "");
  EXPECT_TRUE(this->run_until([&] { return this->app.idles == 1; }));
}

TYPED_TEST(ProxiedServer, CountsConnectionsOfTheClientNotOfTheProxy) {
  this->options.limits.connections_per_address_max = 2;
  const std::string first = std::string(introduction) + std::string(get);
  const std::string other = "PROXY TCP4 192.0.2.8 192.0.2.1 5000 80\r\n" + std::string(get);
  const int one = this->connect();
  EXPECT_FALSE(this->ask(one, first, "GET / ").empty());
  EXPECT_FALSE(this->ask(this->connect(), first, "GET / ").empty());
  const int refused = this->connect();
  this->write(refused, first);
  EXPECT_TRUE(this->read_all(refused).starts_with("HTTP/1.1 503 "));
  EXPECT_EQ(this->server->counters().refused, 1U);
  EXPECT_FALSE(this->ask(this->connect(), other, "GET / ").empty());
  this->hang_up(one);
  ASSERT_TRUE(this->run_until([&] { return this->app.connection_ends == 1; }));
  EXPECT_FALSE(this->ask(this->connect(), first, "GET / ").empty());
}

// Addresses are of real sockets.
using ServerOfAddresses = Serving<io::EvWorld>;

TEST_F(ServerOfAddresses, RefusesTooManyConnectionsOfOne) {
  options.limits.connections_per_address_max = 2;
  const int first = connect();
  connect();
  ASSERT_TRUE(run_until([&] { return app.connects == 2; }));
  EXPECT_TRUE(read_all(connect()).starts_with("HTTP/1.1 503 "));
  hang_up(first);
  ASSERT_TRUE(run_until([&] { return app.connection_ends == 1; }));
  connect();
  EXPECT_TRUE(run_until([&] { return app.connects == 3; }));
}

TEST_F(ServerOfAddresses, DoesNotCountProxies) {
  options.limits.connections_per_address_max = 1;
  app.are_proxies = true;
  for (int i = 0; i < 3; ++i) connect();
  EXPECT_TRUE(run_until([&] { return app.connects == 3; }));
}

// Accepting fails for a while, as it does without descriptors.
class FailingWorld : public io::SimWorld {
 public:
  FailingWorld() : io::SimWorld(sim::Faults{.accept_errors = 500}) {}
};
using ServerOfFailures = Serving<FailingWorld>;

TEST_F(ServerOfFailures, AcceptsWhenItCanAgain) {
  app.handle = echo;
  const int64_t begin_ns = world.now_ns();
  for (int i = 0; i < 30; ++i) EXPECT_FALSE(ask(connect(), get, "GET / ").empty());
  EXPECT_GT(app.accept_errors, 0);
  EXPECT_LT(app.accept_errors, 100 + (world.now_ns() - begin_ns) / 200'000'000) << "tried again after a pause, not at once";
}

}  // namespace
}  // namespace cxxloop::web
