// SPDX-License-Identifier: MIT
#include "web/core/http1_session.h"

#include <gtest/gtest.h>

#include <string>

#include "cpp/web/core/serving.h"

namespace cxxloop::web {
namespace {

template <class W>
class Http1SessionTest : public Serving<W> {};
TYPED_TEST_SUITE(Http1SessionTest, ServingWorlds);

std::string response(std::string_view body) {
  return "HTTP/1.1 200 OK\r\ncontent-length: " + std::to_string(body.size()) + "\r\n\r\n" + std::string(body);
}

TYPED_TEST(Http1SessionTest, AnswersRequestsOfOneConnectionOneAfterTheOther) {
  this->app.handle = echo;
  const int client = this->connect();
  for (const char* path : {"/a", "/b"}) {
    const std::string answer = response("GET " + std::string(path) + " ");
    EXPECT_EQ(this->ask(client, "GET " + std::string(path) + " HTTP/1.1\r\nHost: h\r\n\r\n", answer), answer);
  }
  EXPECT_EQ(this->app.connects, 1);
  EXPECT_EQ(this->server->counters().requests, 2U);
}

TYPED_TEST(Http1SessionTest, TakesBodiesOfBothFramings) {
  this->app.handle = echo;
  const int client = this->connect();
  EXPECT_EQ(this->ask(client, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello", "POST / hello"), response("POST / hello"));
  EXPECT_EQ(this->ask(client, "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1\r\n!\r\n0\r\nA: b\r\n\r\n", "POST / hello!"),
            response("POST / hello!"));
  EXPECT_EQ(this->app.last().trailers, "A=b;");
}

TYPED_TEST(Http1SessionTest, AnswersPipelinedRequestsInOrder) {
  this->app.handle = echo;
  const int client = this->connect();
  std::string requests;
  std::string answers;
  for (int i = 0; i < 500; ++i) {
    const std::string path = "/" + std::to_string(i);
    requests += "POST " + path + " HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc";
    answers += response("POST " + path + " abc");
  }
  this->write(client, requests);
  std::string got;
  EXPECT_TRUE(this->run_until([&] { return (got += this->world.read(client)).size() >= answers.size(); }));
  EXPECT_EQ(got, answers);
}

TYPED_TEST(Http1SessionTest, AnswersAnErrorBehindTheEarlierResponses) {
  this->app.handle = echo;
  const int client = this->connect();
  this->write(client, "GET /1 HTTP/1.1\r\nHost: h\r\n\r\nGET /2 HTTP/1.1\r\n\r\nGET /3 HTTP/1.1\r\nHost: h\r\n\r\n");
  const std::string got = this->read_all(client);
  EXPECT_TRUE(got.starts_with(response("GET /1 ") + "HTTP/1.1 400 Bad Request\r\n")) << got;
  EXPECT_NE(got.find("connection: close\r\n"), std::string::npos);
  EXPECT_EQ(got.find("/3"), std::string::npos);
  EXPECT_EQ(this->server->counters().bad_requests, 1U);
}

constexpr int64_t ms = 1'000'000;
constexpr std::string_view get = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";

TYPED_TEST(Http1SessionTest, ServesOthersWhileOneClientPipelinesThousands) {
  this->app.handle = echo;
  const int greedy = this->connect();
  const int other = this->connect();
  ASSERT_TRUE(this->run_until([&] { return this->app.connects == 2; }));
  std::string requests;
  for (int i = 0; i < 10'000; ++i) requests += get;
  std::string got;
  size_t greedy_before = 0;
  std::string_view left = requests;
  this->world.write(other, get);
  ASSERT_TRUE(this->run_until([&] {
    left.remove_prefix(this->world.write(greedy, left));
    got += this->world.read(greedy);
    if (greedy_before == 0 && !this->world.read(other).empty()) greedy_before = this->server->counters().requests;
    return got.size() >= 10'000 * response("GET / ").size();
  }, 20'000));
  EXPECT_GT(greedy_before, 0U);
  EXPECT_LT(greedy_before, 5'000U) << "the other client was served meanwhile";
  EXPECT_EQ(got.size(), 10'000 * response("GET / ").size());
  EXPECT_EQ(this->server->counters().requests, 10'001U);
}

TYPED_TEST(Http1SessionTest, BeginsTheNextRequestInACallbackOfItsOwn) {
  const int client = this->connect();
  this->write(client, std::string(get) + std::string(get));
  ASSERT_TRUE(this->run_until([&] { return this->app.answers.size() == 1; }));
  this->app.last().respond("one");
  EXPECT_EQ(this->app.answers.size(), 1U) << "not inside end()";
  this->engine.pull_cork();
  ASSERT_TRUE(this->run_until([&] { return this->app.answers.size() == 2; }));
  this->app.last().respond("two");
  this->engine.pull_cork();
  EXPECT_EQ(this->read_to(client, "two"), response("one") + response("two"));
}

TYPED_TEST(Http1SessionTest, AnswersWhatWasSentBeforeTheClientHasEnded) {
  this->app.handle = echo;
  const int client = this->connect();
  this->write(client, std::string(get) + std::string(get) + "GET /unfinished");
  ASSERT_EQ(this->world.backend().shutdown_write(client), Errno::ok);
  EXPECT_EQ(this->read_all(client), response("GET / ") + response("GET / "));
  EXPECT_TRUE(this->run_until([&] { return this->server->counters().connections == 0; }));
}

TYPED_TEST(Http1SessionTest, TellsTheApplicationThatTheClientHasEndedAndStillSendsTheResponse) {
  const int client = this->connect();
  this->write(client, get);
  ASSERT_TRUE(this->run_until([&] { return this->app.answers.size() == 1; }));
  Answer& answer = this->app.last();
  EXPECT_FALSE(answer.exchange->is_disconnected());
  ASSERT_EQ(this->world.backend().shutdown_write(client), Errno::ok);
  ASSERT_TRUE(this->run_until([&] { return answer.disconnects == 1; }));
  EXPECT_TRUE(answer.exchange->is_disconnected());
  answer.respond("late");
  this->engine.pull_cork();
  EXPECT_EQ(this->read_all(client), response("late"));
}

TYPED_TEST(Http1SessionTest, LosesABodyThatIsCutOff) {
  this->app.handle = [](Answer& answer) {
    answer.when_body = [&answer] { answer.take_all(); };
    answer.when_body();
  };
  const int client = this->connect();
  this->write(client, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhel");
  ASSERT_TRUE(this->run_until([&] { return this->app.answers.size() == 1 && this->app.last().body == "hel"; }));
  ASSERT_EQ(this->world.backend().shutdown_write(client), Errno::ok);
  ASSERT_TRUE(this->run_until([&] { return this->app.last().disconnects == 1; }));
  EXPECT_TRUE(this->app.last().is_lost);
  EXPECT_EQ(this->app.last().exchange->take_body().kind, BodyPart::Kind::lost);
  this->app.last().respond("pity");
  this->engine.pull_cork();
  EXPECT_EQ(this->read_all(client), response("pity"));
}

TYPED_TEST(Http1SessionTest, ReadsPastABodyThatNobodyWanted) {
  this->app.handle = [](Answer& answer) { answer.respond(answer.target); };
  const int client = this->connect();
  const std::string body(20'000, 'b');
  this->write(client, "POST /1 HTTP/1.1\r\nHost: h\r\nContent-Length: 20000\r\n\r\n" + body +
                          "POST /2 HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n4E20\r\n" + body + "\r\n0\r\n\r\n" +
                          "GET /3 HTTP/1.1\r\nHost: h\r\n\r\n");
  EXPECT_EQ(this->read_to(client, "/3"), response("/1") + response("/2") + response("/3"));
}

TYPED_TEST(Http1SessionTest, ClosesRatherThanReadALargeBodyThatNobodyWanted) {
  this->app.handle = [](Answer& answer) { answer.respond("no"); };
  const int client = this->connect();
  this->write(client, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\n");
  std::string_view left;
  const std::string body(400'000, 'b');
  left = body;
  std::string got;
  EXPECT_TRUE(this->run_until([&] {
    left.remove_prefix(this->world.write(client, left));
    got += this->world.read(client);
    return this->world.at_eof(client);
  }));
  EXPECT_EQ(got, response("no")) << "lost to no reset";
}

TYPED_TEST(Http1SessionTest, StopsReadingABodyThatNobodyTakes) {
  this->options.limits.body_buffer_bytes = 10'000;
  const int client = this->connect();
  this->write(client, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 30000000\r\n\r\n");
  ASSERT_TRUE(this->run_until([&] { return this->app.answers.size() == 1; }));
  const std::string piece(100'000, 'b');
  size_t sent = 0;
  for (int idle = 0; idle < 100; ++idle) {
    const size_t bytes = this->world.write(client, piece);
    sent += bytes;
    if (bytes > 0) idle = 0;
    this->turn();
    ASSERT_LT(sent, 20'000'000U) << "the server goes on reading";
  }
  Answer& answer = this->app.last();
  answer.when_body = [&] { answer.take_all(); };
  EXPECT_FALSE(answer.take_all());
  EXPECT_TRUE(this->run_until([&] { return answer.body.size() == sent; })) << "and reads on when somebody does";
}

TYPED_TEST(Http1SessionTest, StopsAnsweringAClientThatDoesNotRead) {
  this->options.limits.write_buffer_bytes = 100'000;
  const std::string large(50'000, 'l');
  this->app.handle = [&](Answer& answer) { answer.respond(large); };
  const int client = this->connect();
  std::string requests;
  for (int i = 0; i < 1000; ++i) requests += get;
  this->write(client, requests);
  for (int i = 0; i < 200; ++i) this->turn();
  EXPECT_LT(this->server->counters().requests, 900U);
  size_t got = 0;
  EXPECT_TRUE(this->run_until([&] { return (got += this->world.read(client).size()) >= 1000 * response(large).size(); }, 50'000));
  EXPECT_EQ(this->server->counters().requests, 1000U);
}

template <class W>
class Http1Refusals : public Serving<W> {
 protected:
  // The status of the server's own answer, after which it closes.
  int status_of(std::string_view request) {
    const int client = this->connect();
    this->write(client, request);
    const std::string got = this->read_all(client);
    EXPECT_NE(got.find("\r\nconnection: close\r\n"), std::string::npos) << got;
    EXPECT_NE(got.find("\r\ncontent-type: text/plain"), std::string::npos) << got;
    this->hang_up(client);
    return got.size() > 12 ? std::stoi(got.substr(9, 3)) : 0;
  }
};
TYPED_TEST_SUITE(Http1Refusals, ServingWorlds);

TYPED_TEST(Http1Refusals, HaveTheStatusOfTheirReason) {
  this->options.limits.head = {.line_bytes_max = 200, .head_bytes_max = 400, .headers_max = 4};
  this->options.limits.body_bytes_max = 10;
  this->app.handle = echo;
  const std::string host = " HTTP/1.1\r\nHost: h\r\n";
  EXPECT_EQ(this->status_of("GET /" + std::string(300, 'x') + host + "\r\n"), 414);
  EXPECT_EQ(this->status_of("GET /" + host + "A: " + std::string(500, 'x') + "\r\n\r\n"), 431);
  EXPECT_EQ(this->status_of("GET /" + host + "A: b\r\nA: b\r\nA: b\r\nA: b\r\n\r\n"), 431);
  EXPECT_EQ(this->status_of("POST /" + host + "Content-Length: 11\r\n\r\n"), 413);
  EXPECT_EQ(this->status_of("POST /" + host + "Transfer-Encoding: chunked\r\n\r\nb\r\nhello world\r\n0\r\n\r\n"), 413);
  EXPECT_EQ(this->status_of("POST /" + host + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello!"), 400);
  EXPECT_EQ(this->status_of("POST /" + host + "Transfer-Encoding: gzip, chunked\r\n\r\n"), 501);
  EXPECT_EQ(this->status_of("GET / HTTP/2.0\r\n\r\n"), 505);
  EXPECT_EQ(this->status_of("GET /" + host + "Expect: more\r\n\r\n"), 417);
  EXPECT_EQ(this->server->counters().bad_requests, 9U);
  for (const auto& answer : this->app.answers) {
    EXPECT_EQ(answer->ending.why, Ending::Why::refused);
    EXPECT_TRUE(answer->is_lost);
  }
}

TYPED_TEST(Http1SessionTest, EndsTheConnectionAfterAWrongBodyWhoseAnswerHadBegun) {
  this->app.handle = [](Answer& answer) {
    EXPECT_EQ(answer.exchange->start({.body_bytes = 2}), nullptr);
    answer.when_body = [&answer] {
      if (!answer.take_all()) return;
      EXPECT_TRUE(answer.is_lost);
      EXPECT_EQ(answer.exchange->write("ok"), nullptr);
      EXPECT_EQ(answer.exchange->end(), nullptr);
    };
    answer.when_body();
  };
  const int client = this->connect();
  this->write(client, "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello!" + std::string(get));
  EXPECT_EQ(this->read_all(client), response("ok"));
}

TYPED_TEST(Http1SessionTest, AnswersAHeadThatDoesNotComeInTime) {
  this->options.limits.head_ns = 60 * ms;
  const int silent = this->connect();
  const int slow = this->connect();
  ASSERT_TRUE(this->run_until([&] { return this->app.connects == 2; }));
  this->write(slow, "GET / HT");
  EXPECT_TRUE(this->read_all(slow).starts_with("HTTP/1.1 408 Request Timeout\r\n"));
  EXPECT_EQ(this->read_all(silent), "") << "it may have been opened to be ready";
  EXPECT_EQ(this->server->counters().timeouts, 1U);
}

TYPED_TEST(Http1SessionTest, ClosesAnIdleConnection) {
  this->options.limits.idle_ns = 60 * ms;
  this->app.handle = echo;
  const int client = this->connect();
  EXPECT_EQ(this->ask(client, get, "GET / "), response("GET / "));
  const int64_t begin_ns = this->world.now_ns();
  EXPECT_EQ(this->read_all(client), "");
  EXPECT_GE(this->world.now_ns() - begin_ns, 50 * ms);
}

TYPED_TEST(Http1SessionTest, KeepsAnIdleConnectionThatGaveItsMemoryBack) {
  this->options.limits.idle_ns = 3 * second_ns;
  this->app.handle = echo;
  const int client = this->connect();
  EXPECT_EQ(this->ask(client, get, "GET / "), response("GET / "));
  const int64_t begin_ns = this->world.now_ns();
  ASSERT_TRUE(this->run_until([&] { return this->world.now_ns() - begin_ns > 3 * second_ns / 2; }, 10'000));
  EXPECT_EQ(this->ask(client, get, "GET / "), response("GET / "));
}

TYPED_TEST(Http1SessionTest, AnswersABodyThatDoesNotComeInTime) {
  this->options.limits.body_ns = 60 * ms;
  this->app.handle = echo;
  const int client = this->connect();
  this->write(client, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhel");
  EXPECT_TRUE(this->read_all(client).starts_with("HTTP/1.1 408 Request Timeout\r\n"));
  EXPECT_EQ(this->app.last().ending.why, Ending::Why::timed_out);
}

TYPED_TEST(Http1SessionTest, AnswersABodyThatDribbles) {
  this->options.limits.body_rate_min = 1000;
  this->options.limits.body_rate_grace_ns = 100 * ms;
  this->app.handle = echo;
  const int client = this->connect();
  this->write(client, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\n");
  std::string got;
  ASSERT_TRUE(this->run_until([&] {
    const int64_t begin_ns = this->world.now_ns();
    this->world.write(client, "x");
    while (this->world.now_ns() - begin_ns < 5 * ms) this->turn();
    got += this->world.read(client);
    return this->world.at_eof(client);
  }));
  EXPECT_TRUE(got.starts_with("HTTP/1.1 408 Request Timeout\r\n")) << got;
}

TYPED_TEST(Http1SessionTest, DoesNotBlameAClientForAnApplicationThatDoesNotTakeItsBody) {
  this->options.limits.body_ns = 60 * ms;
  this->options.limits.body_rate_min = 1'000'000;
  this->options.limits.body_rate_grace_ns = 60 * ms;
  const int client = this->connect();
  this->write(client, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhel");
  ASSERT_TRUE(this->run_until([&] { return this->app.answers.size() == 1; }));
  const int64_t begin_ns = this->world.now_ns();
  ASSERT_TRUE(this->run_until([&] { return this->world.now_ns() - begin_ns > 200 * ms; }));
  Answer& answer = this->app.last();
  ASSERT_FALSE(answer.has_ended());
  EXPECT_FALSE(answer.take_all());
  answer.when_body = [&answer] {
    if (answer.take_all()) answer.respond(answer.body);
  };
  this->write(client, "lo");
  EXPECT_EQ(this->read_to(client, "hello"), response("hello"));
}

TYPED_TEST(Http1SessionTest, AnswersForAnApplicationThatDoesNot) {
  this->options.limits.handler_ns = 60 * ms;
  const int client = this->connect();
  this->write(client, get);
  const std::string got = this->read_all(client);
  EXPECT_TRUE(got.starts_with("HTTP/1.1 503 Service Unavailable\r\n"));
  EXPECT_NE(got.find("\r\nretry-after: "), std::string::npos);
  EXPECT_EQ(this->app.last().ending.why, Ending::Why::timed_out);
  EXPECT_EQ(this->app.last().ending.status, 503);
}

TYPED_TEST(Http1SessionTest, ResetsAClientThatTakesNothing) {
  this->options.limits.write_ns = 60 * ms;
  const std::string large(20'000'000, 'l');
  this->app.handle = [&](Answer& answer) { answer.respond(large); };
  const int client = this->connect();
  this->write(client, get);
  EXPECT_TRUE(this->run_until([&] { return this->server->counters().connections == 0 && this->app.connects == 1; }));
  EXPECT_EQ(this->server->counters().timeouts, 1U);
}

TYPED_TEST(Http1SessionTest, EndsAConnectionAfterItsLastRequest) {
  this->options.limits.requests_per_connection_max = 2;
  this->app.handle = echo;
  const int client = this->connect();
  this->write(client, std::string(get) + std::string(get) + std::string(get));
  EXPECT_EQ(this->read_all(client), response("GET / ") + "HTTP/1.1 200 OK\r\ncontent-length: 6\r\nconnection: close\r\n\r\nGET / ");
}

TYPED_TEST(Http1SessionTest, KeepsAConnectionOfHttp10OnlyIfTheClientAsks) {
  this->app.handle = echo;
  const int one = this->connect();
  this->write(one, "GET /1 HTTP/1.0\r\n\r\n");
  EXPECT_EQ(this->read_all(one), "HTTP/1.1 200 OK\r\ncontent-length: 7\r\nconnection: close\r\n\r\nGET /1 ");
  const int kept = this->connect();
  this->write(kept, "GET /1 HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET /2 HTTP/1.0\r\n\r\n");
  EXPECT_EQ(this->read_all(kept), "HTTP/1.1 200 OK\r\ncontent-length: 7\r\nconnection: keep-alive\r\n\r\nGET /1 "
                                  "HTTP/1.1 200 OK\r\ncontent-length: 7\r\nconnection: close\r\n\r\nGET /2 ");
}

// The same answers and the same exchanges, wherever the bytes are split.
TYPED_TEST(Http1SessionTest, GivesTheSameWhereverTheBytesAreSplit) {
  this->app.handle = echo;
  const std::string host = " HTTP/1.1\r\nHost: h\r\n";
  const std::string corpus[] = {
      "\r\nGET /a" + host + "\r\nPOST /b" + host + "Content-Length: 5\r\n\r\nhelloGET /c" + host + "Connection: close\r\n\r\n",
      "POST /a" + host + "Transfer-Encoding: chunked\r\n\r\n3;x=y\r\nhel\r\n2\r\nlo\r\n0\r\nA: b\r\n\r\nGET /b HTTP/1.0\r\n\r\n",
      "POST /a" + host + "Content-Length: 3\r\nExpect: 100-continue\r\nConnection: close\r\n\r\nabc",
      "GET /a" + host + "\r\nGET /b HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n",
      "POST /a" + host + "Transfer-Encoding: chunked\r\n\r\n3\r\nhelxx",
      "HEAD /a" + host + "\r\nOPTIONS *" + host + "Connection: close\r\n\r\n",
  };
  for (const std::string& requests : corpus) {
    std::string whole;
    for (size_t split = 0; split < requests.size(); ++split) {
      const int client = this->connect();
      if (split > 0) {
        this->write(client, std::string_view(requests).substr(0, split));
        for (int i = 0; i < 5; ++i) this->turn(0);
      }
      this->write(client, std::string_view(requests).substr(split));
      std::string got = this->read_all(client);
      this->hang_up(client);
      // Whether a client that waits for 100 Continue is told so depends on what it has sent.
      if (const size_t at = got.find("HTTP/1.1 100 Continue\r\n\r\n"); at != got.npos) got.erase(at, 25);
      if (split == 0) whole = got;
      ASSERT_EQ(got, whole) << split;
    }
  }
}

}  // namespace
}  // namespace cxxloop::web
