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

}  // namespace
}  // namespace cxxloop::web
