// SPDX-License-Identifier: MIT
#include "web/core/exchange.h"

#include <gtest/gtest.h>

#include "cpp/web/core/serving.h"

namespace cxxloop::web {
namespace {

template <class W>
class Http1ExchangeTest : public Serving<W> {};
TYPED_TEST_SUITE(Http1ExchangeTest, ServingWorlds);

constexpr std::string_view get = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";

TYPED_TEST(Http1ExchangeTest, SendsABodyOfUnknownLengthInChunks) {
  this->app.handle = [](Answer& answer) {
    ASSERT_EQ(answer.exchange->start({}), nullptr);
    ASSERT_EQ(answer.exchange->write("hello"), nullptr);
    ASSERT_EQ(answer.exchange->write(""), nullptr);
    ASSERT_EQ(answer.exchange->write("0123456789abcdef"), nullptr);
    const Header trailers[] = {{"A", "b"}};
    ASSERT_EQ(answer.exchange->end(trailers), nullptr);
  };
  const int client = this->connect();
  EXPECT_EQ(this->ask(client, get, "b\r\n\r\n"),
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n10\r\n0123456789abcdef\r\n0\r\nA: b\r\n\r\n");
  EXPECT_EQ(this->app.last().ending.body_bytes, 21U);
}

TYPED_TEST(Http1ExchangeTest, SendsWhatIsLentAndReleasesIt) {
  const std::string large(50'000, 'l');
  this->app.handle = [&](Answer& answer) {
    ASSERT_EQ(answer.exchange->start({}), nullptr);
    ASSERT_EQ(answer.exchange->write(large, this->lend()), nullptr);
    ASSERT_EQ(answer.exchange->write("small", this->lend()), nullptr);
    ASSERT_EQ(answer.exchange->write("", this->lend()), nullptr);
    ASSERT_EQ(answer.exchange->end(), nullptr);
  };
  const int client = this->connect();
  EXPECT_EQ(this->ask(client, get, "0\r\n\r\n"),
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nc350\r\n" + large + "\r\n5\r\nsmall\r\n0\r\n\r\n");
  EXPECT_TRUE(this->run_until([&] { return this->released == 3; }));
}

}  // namespace
}  // namespace cxxloop::web
