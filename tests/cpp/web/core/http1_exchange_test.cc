// SPDX-License-Identifier: MIT
#include "web/core/exchange.h"

#include <gtest/gtest.h>

#include <csignal>
#include <cstdio>
#include <string>

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

std::string head(std::string_view rest) { return "HTTP/1.1 200 OK\r\n" + std::string(rest) + "\r\n"; }

TYPED_TEST(Http1ExchangeTest, SaysContinueWhenTheBodyIsTaken) {
  const int client = this->connect();
  const std::string_view request = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";
  this->write(client, request);
  ASSERT_TRUE(this->run_until([&] { return this->app.answers.size() == 1; }));
  this->settle();
  EXPECT_EQ(this->world.read(client), "");
  Answer& answer = this->app.last();
  EXPECT_FALSE(answer.take_all());
  EXPECT_FALSE(answer.take_all());
  this->engine.pull_cork();
  EXPECT_EQ(this->read_to(client, "\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n") << "once";
  answer.when_body = [&answer] {
    if (answer.take_all()) answer.respond(answer.body);
  };
  EXPECT_EQ(this->ask(client, "hello", "hello"), head("content-length: 5\r\n") + "hello");
}

TYPED_TEST(Http1ExchangeTest, ClosesIfTheClientMayStillWaitForContinue) {
  this->app.handle = [](Answer& answer) { answer.respond("no"); };
  const int client = this->connect();
  this->write(client, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
  EXPECT_EQ(this->read_all(client), head("content-length: 2\r\nconnection: close\r\n") + "no");
}

TYPED_TEST(Http1ExchangeTest, SendsNoBodyWhereNoneMayBe) {
  this->app.handle = [](Answer& answer) {
    ASSERT_EQ(answer.exchange->start({.status = std::stoi(answer.target.substr(1))}), nullptr);
    ASSERT_EQ(answer.exchange->write("body"), nullptr);
    ASSERT_EQ(answer.exchange->end(), nullptr);
  };
  const int client = this->connect();
  EXPECT_EQ(this->ask(client, "GET /204 HTTP/1.1\r\nHost: h\r\n\r\n", "\r\n\r\n"), "HTTP/1.1 204 No Content\r\n\r\n");
  EXPECT_EQ(this->ask(client, "GET /304 HTTP/1.1\r\nHost: h\r\n\r\n", "\r\n\r\n"), "HTTP/1.1 304 Not Modified\r\n\r\n");
  EXPECT_EQ(this->ask(client, "HEAD /200 HTTP/1.1\r\nHost: h\r\n\r\n", "\r\n\r\n"), head("transfer-encoding: chunked\r\n"));
  EXPECT_EQ(this->app.last().ending.body_bytes, 0U);
  EXPECT_EQ(this->ask(client, "GET /204 HTTP/1.1\r\nHost: h\r\n\r\n", "\r\n\r\n"), "HTTP/1.1 204 No Content\r\n\r\n");
}

TYPED_TEST(Http1ExchangeTest, EndsABodyOfUnknownLengthForHttp10WithTheConnection) {
  this->app.handle = [](Answer& answer) {
    EXPECT_EQ(answer.exchange->inform(103, {}), nullptr) << "of no effect";
    ASSERT_EQ(answer.exchange->start({}), nullptr);
    ASSERT_EQ(answer.exchange->write("hello"), nullptr);
    ASSERT_EQ(answer.exchange->end(), nullptr);
  };
  const int client = this->connect();
  this->write(client, "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
  EXPECT_EQ(this->read_all(client), head("connection: close\r\n") + "hello");
}

TYPED_TEST(Http1ExchangeTest, SendsInterimResponses) {
  this->app.handle = [](Answer& answer) {
    const Header link[] = {{"link", "</a.css>"}};
    EXPECT_EQ(answer.exchange->inform(103, link), nullptr);
    EXPECT_NE(answer.exchange->inform(101, {}), nullptr);
    EXPECT_NE(answer.exchange->inform(200, {}), nullptr);
    EXPECT_NE(answer.exchange->start({.status = 103}), nullptr);
    answer.respond("ok");
  };
  const int client = this->connect();
  EXPECT_EQ(this->ask(client, get, "ok"), "HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\n" + head("content-length: 2\r\n") + "ok");
}

TYPED_TEST(Http1ExchangeTest, RefusesWhatAnApplicationMayNotDo) {
  this->app.handle = [](Answer& answer) {
    Exchange& exchange = *answer.exchange;
    EXPECT_NE(exchange.write("early"), nullptr);
    EXPECT_NE(exchange.end(), nullptr);
    const Header split[] = {{"x", "a\r\nb: c"}};
    EXPECT_NE(exchange.start({.headers = split}), nullptr);
    EXPECT_FALSE(exchange.is_started());
    EXPECT_EQ(exchange.start({.body_bytes = 5}), nullptr);
    EXPECT_TRUE(exchange.is_started());
    EXPECT_NE(exchange.start({}), nullptr);
    EXPECT_NE(exchange.inform(103, {}), nullptr);
    EXPECT_EQ(exchange.write("hel"), nullptr);
    EXPECT_NE(exchange.write("long"), nullptr);
    EXPECT_EQ(exchange.write("lo"), nullptr);
    EXPECT_EQ(exchange.end(), nullptr);
  };
  const int client = this->connect();
  EXPECT_EQ(this->ask(client, get, "hello"), head("content-length: 5\r\n") + "hello");
}

TYPED_TEST(Http1ExchangeTest, EndsTheConnectionWithABodyThatIsTooShort) {
  this->app.handle = [](Answer& answer) {
    EXPECT_EQ(answer.exchange->start({.body_bytes = 5}), nullptr);
    EXPECT_EQ(answer.exchange->write("hel"), nullptr);
    EXPECT_NE(answer.exchange->end(), nullptr);
    EXPECT_TRUE(answer.has_ended());
    EXPECT_EQ(answer.ending.why, Ending::Why::aborted);
  };
  const int client = this->connect();
  this->write(client, std::string(get) + std::string(get));
  EXPECT_EQ(this->read_all(client), head("content-length: 5\r\n") + "hel") << "no other response follows in its place";
}

TYPED_TEST(Http1ExchangeTest, AnswersForAnApplicationThatFails) {
  this->app.handle = [](Answer& answer) { answer.exchange->abort(); };
  const int client = this->connect();
  this->write(client, get);
  EXPECT_TRUE(this->read_all(client).starts_with("HTTP/1.1 500 Internal Server Error\r\n"));
  EXPECT_EQ(this->app.last().ending.why, Ending::Why::aborted);
  EXPECT_EQ(this->app.last().ending.status, 500);
}

TYPED_TEST(Http1ExchangeTest, EndsAnAnswerThatFailsInTheMiddle) {
  this->app.handle = [](Answer& answer) {
    EXPECT_EQ(answer.exchange->start({}), nullptr);
    EXPECT_EQ(answer.exchange->write("hel"), nullptr);
    answer.exchange->abort();
    EXPECT_TRUE(answer.has_ended());
  };
  const int client = this->connect();
  this->write(client, get);
  ASSERT_TRUE(this->run_until([&] { return this->app.connection_ends == 1; }));
  EXPECT_EQ(this->world.read(client).find("0\r\n\r\n"), std::string::npos) << "not as if it were whole";
}

TYPED_TEST(Http1ExchangeTest, TellsWhenTheClientHasRead) {
  const std::string piece(100'000, 'p');
  size_t written = 0;
  this->app.handle = [&](Answer& answer) {
    EXPECT_EQ(answer.exchange->start({}), nullptr);
    answer.when_drained = [&] {
      EXPECT_FALSE(answer.exchange->is_full());
      while (written < 100 && !answer.exchange->is_full()) {
        EXPECT_EQ(answer.exchange->write(piece, this->lend()), nullptr);
        ++written;
      }
      if (written < 100 || answer.exchange->is_full()) return;
      EXPECT_EQ(answer.exchange->end(), nullptr);
    };
    answer.when_drained();
  };
  const int client = this->connect();
  this->write(client, get);
  for (int i = 0; i < 100; ++i) this->turn();
  EXPECT_LT(written, 100U);
  size_t got = 0;
  std::string end;
  EXPECT_TRUE(this->run_until([&] {
    const std::string part = this->world.read(client);
    got += part.size();
    end = (end + part).substr(end.size() + part.size() > 5 ? end.size() + part.size() - 5 : 0);
    return end == "0\r\n\r\n";
  }, 50'000));
  EXPECT_GT(got, 10'000'000U);
  EXPECT_TRUE(this->run_until([&] { return this->released == 100; }));
}

// A file, and a world whose sockets the kernel knows.
template <class W>
class SentFile : public Serving<W> {
 protected:
  SentFile() {
    std::signal(SIGPIPE, SIG_IGN);
    file = std::tmpfile();
    for (int i = 0; i < 300'000; ++i) content += std::to_string(i) + ' ';
    EXPECT_EQ(std::fwrite(content.data(), 1, content.size(), file), content.size());
    std::fflush(file);
  }
  ~SentFile() override {
    this->stop();
    std::fclose(file);
  }
  // Sends the file, then calls `then`.
  void send(Answer& answer, uint64_t offset, uint64_t size, std::function<void()> then) {
    ASSERT_EQ(answer.exchange->write_file(fileno(file), offset, size), nullptr);
    if (!answer.exchange->is_full()) return then();
    EXPECT_NE(answer.exchange->write("x"), nullptr) << "nothing else meanwhile";
    EXPECT_NE(answer.exchange->end(), nullptr);
    answer.when_drained = std::move(then);
  }

  std::FILE* file;
  std::string content;
};
using KernelWorlds = testing::Types<io::EvWorld, io::LateWorld>;
TYPED_TEST_SUITE(SentFile, KernelWorlds);

TYPED_TEST(SentFile, GoesOutBetweenOtherBytes) {
  this->app.handle = [&](Answer& answer) {
    EXPECT_EQ(answer.exchange->start({.body_bytes = 2 + this->content.size()}), nullptr);
    EXPECT_EQ(answer.exchange->write("<"), nullptr);
    this->send(answer, 0, this->content.size(), [&answer] {
      EXPECT_EQ(answer.exchange->write(">"), nullptr);
      EXPECT_EQ(answer.exchange->end(), nullptr);
    });
  };
  const int client = this->connect();
  for (int i = 0; i < 2; ++i) {
    const std::string got = this->ask(client, get, ">");
    EXPECT_EQ(got.substr(got.find("\r\n\r\n") + 4), "<" + this->content + ">");
  }
  EXPECT_EQ(this->app.last().ending.body_bytes, this->content.size() + 2);
}

TYPED_TEST(SentFile, GoesOutBehindMoreThanTheClientHasRead) {
  const std::string large(5'000'000, 'l');
  this->app.handle = [&](Answer& answer) {
    EXPECT_EQ(answer.exchange->start({.body_bytes = large.size() + 5 + 1}), nullptr);
    EXPECT_EQ(answer.exchange->write(large, this->lend()), nullptr);
    EXPECT_TRUE(answer.exchange->is_full());
    this->send(answer, 0, 5, [&answer] {
      EXPECT_FALSE(answer.exchange->is_full());
      EXPECT_EQ(answer.exchange->write(">"), nullptr);
      EXPECT_EQ(answer.exchange->end(), nullptr);
    });
  };
  const int client = this->connect();
  const std::string got = this->ask(client, get, ">");
  EXPECT_EQ(got.substr(got.find("\r\n\r\n") + 4), large + this->content.substr(0, 5) + ">");
  EXPECT_EQ(this->app.last().drains, 1);
}

TYPED_TEST(SentFile, IsOneChunkOfABodyOfUnknownLength) {
  this->app.handle = [&](Answer& answer) {
    EXPECT_EQ(answer.exchange->start({}), nullptr);
    this->send(answer, 10, 5, [&answer] { EXPECT_EQ(answer.exchange->end(), nullptr); });
  };
  const int client = this->connect();
  EXPECT_EQ(this->ask(client, get, "0\r\n\r\n"), head("transfer-encoding: chunked\r\n") + "5\r\n" + this->content.substr(10, 5) + "\r\n0\r\n\r\n");
}

TYPED_TEST(SentFile, IsNotSentWhereNoBodyMayBe) {
  this->app.handle = [&](Answer& answer) {
    EXPECT_EQ(answer.exchange->start({.body_bytes = 5}), nullptr);
    EXPECT_EQ(answer.exchange->write_file(fileno(this->file), 0, 5), nullptr);
    EXPECT_FALSE(answer.exchange->is_full());
    EXPECT_EQ(answer.exchange->end(), nullptr);
  };
  const int client = this->connect();
  EXPECT_TRUE(this->ask(client, "HEAD / HTTP/1.1\r\nHost: h\r\n\r\n", "\r\n\r\n").ends_with("\r\n\r\n"));
}

TYPED_TEST(SentFile, ResetsTheConnectionIfItIsShorter) {
  this->app.handle = [&](Answer& answer) {
    EXPECT_EQ(answer.exchange->start({.body_bytes = this->content.size() + 1}), nullptr);
    EXPECT_NE(answer.exchange->write_file(fileno(this->file), 0, this->content.size() + 2), nullptr) << "longer than the body";
    EXPECT_EQ(answer.exchange->write_file(fileno(this->file), 0, this->content.size() + 1), nullptr);
  };
  const int client = this->connect();
  this->write(client, get);
  ASSERT_TRUE(this->run_until([&] {
    this->world.read(client);
    return this->app.connection_ends == 1;
  }));
  EXPECT_EQ(this->app.last().ending.why, Ending::Why::aborted);
}

TYPED_TEST(SentFile, EndsWithItsClient) {
  this->app.handle = [&](Answer& answer) {
    EXPECT_EQ(answer.exchange->start({.body_bytes = this->content.size()}), nullptr);
    this->send(answer, 0, this->content.size(), [] {});
  };
  const int client = this->connect();
  this->write(client, get);
  ASSERT_TRUE(this->run_until([&] { return this->app.answers.size() == 1; }));
  this->hang_up(client);
  EXPECT_TRUE(this->run_until([&] { return this->server->counters().connections == 0; }));
  EXPECT_TRUE(this->app.last().has_ended());
}

TYPED_TEST(SentFile, EndsWithItsServer) {
  this->app.handle = [&](Answer& answer) {
    EXPECT_EQ(answer.exchange->start({.body_bytes = this->content.size()}), nullptr);
    this->send(answer, 0, this->content.size(), [] {});
  };
  const int client = this->connect();
  this->write(client, get);
  ASSERT_TRUE(this->run_until([&] { return this->app.answers.size() == 1; }));
  this->stop();
  EXPECT_EQ(this->app.last().ending.why, Ending::Why::closed);
}

TYPED_TEST(SentFile, IsGivenUpForAClientThatTakesNothing) {
  this->options.limits.write_ns = 60'000'000;
  this->app.handle = [&](Answer& answer) {
    EXPECT_EQ(answer.exchange->start({.body_bytes = 20 * this->content.size()}), nullptr);
    answer.when_drained = [&] { EXPECT_EQ(answer.exchange->write_file(fileno(this->file), 0, this->content.size()), nullptr); };
    answer.when_drained();
    while (!answer.has_ended() && !answer.exchange->is_full()) answer.when_drained();
  };
  const int client = this->connect();
  this->write(client, get);
  ASSERT_TRUE(this->run_until([&] { return this->app.connection_ends == 1; }));
  EXPECT_EQ(this->app.last().ending.why, Ending::Why::timed_out);
  EXPECT_EQ(this->server->counters().timeouts, 1U);
}

}  // namespace
}  // namespace cxxloop::web
