// SPDX-License-Identifier: MIT
#include "web/core/response_head.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace cxxloop::web {
namespace {

struct Written {
  HeadPlan head;
  std::string text;
};

Written write(const AnsweredRequest& request, ResponseHead head, const std::vector<Header>& headers = {}) {
  head.headers = headers;
  const HeadPlan plan = plan_head(request, head);
  if (plan.fault != nullptr) return {plan, ""};
  std::string text(plan.bytes_max, '?');
  const char* const end = put_head(text.data(), request, head, plan);
  text.resize(static_cast<size_t>(end - text.data()));
  EXPECT_LE(text.size(), plan.bytes_max);
  return {plan, text};
}

TEST(ResponseHead, HasWhatTheApplicationGaveAndOurOwnLines) {
  const Written written = write({}, {.status = 404, .body_bytes = 12, .date = "now", .server = "us"}, {{"X-A", "b"}, {"x-a", "\xC3\xA4"}});
  EXPECT_EQ(written.text, "HTTP/1.1 404 Not Found\r\ndate: now\r\nserver: us\r\nX-A: b\r\nx-a: \xC3\xA4\r\ncontent-length: 12\r\n\r\n");
  EXPECT_EQ(written.head.fault, nullptr);
  EXPECT_EQ(written.head.framing, BodyFraming::length);
  EXPECT_EQ(written.head.content_length, 12u);
  EXPECT_TRUE(written.head.keep_alive);
}

TEST(ResponseHead, LeavesDateAndServerToTheApplicationThatHasThem) {
  EXPECT_EQ(write({}, {.body_bytes = 0, .date = "now", .server = "us"}, {{"Date", "then"}, {"SERVER", "it"}}).text,
            "HTTP/1.1 200 OK\r\nDate: then\r\nSERVER: it\r\ncontent-length: 0\r\n\r\n");
}

TEST(ResponseHead, FramesABodyOfUnknownSizeAsTheClientUnderstandsIt) {
  const Written chunked = write({}, {});
  EXPECT_EQ(chunked.text, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
  EXPECT_EQ(chunked.head.framing, BodyFraming::chunked);
  const Written closed = write({.minor_version = 0}, {});
  EXPECT_EQ(closed.text, "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n");
  EXPECT_EQ(closed.head.framing, BodyFraming::close);
  EXPECT_FALSE(closed.head.keep_alive);
  EXPECT_EQ(write({.minor_version = 0}, {.body_bytes = 1}).text,
            "HTTP/1.1 200 OK\r\ncontent-length: 1\r\nconnection: keep-alive\r\n\r\n");
}

TEST(ResponseHead, TakesTheApplicationsLengthBeforeOurs) {
  const Written written = write({}, {.body_bytes = 3}, {{"Content-Length", " 7 "}, {"content-length", "7"}});
  EXPECT_EQ(written.text, "HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n");
  EXPECT_EQ(written.head.content_length, 7u);
}

TEST(ResponseHead, OfAResponseWithoutABodySaysSo) {
  EXPECT_EQ(write({}, {.status = 204, .body_bytes = 0}).text, "HTTP/1.1 204 No Content\r\n\r\n");
  EXPECT_EQ(write({}, {.status = 204}, {{"content-length", "5"}}).text, "HTTP/1.1 204 No Content\r\n\r\n");
  EXPECT_EQ(write({}, {.status = 304, .body_bytes = 0}).text, "HTTP/1.1 304 Not Modified\r\n\r\n");
  EXPECT_EQ(write({}, {.status = 304}, {{"content-length", "5"}}).text, "HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n");
  const Written head = write({.is_head = true}, {.body_bytes = 0}, {{"content-length", "5"}});
  EXPECT_EQ(head.text, "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n");
  EXPECT_EQ(head.head.framing, BodyFraming::none);
  EXPECT_EQ(write({.is_head = true}, {.body_bytes = 0}).text, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
      << "the empty body of an answer to HEAD says nothing of the length of a GET's";
}

TEST(ResponseHead, EndsTheConnectionIfEitherSideWantsIt) {
  EXPECT_EQ(write({.keep_alive = false}, {.body_bytes = 0}).text, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
  const Written written = write({}, {.body_bytes = 0}, {{"Connection", "x, Close"}, {"Transfer-Encoding", "chunked"}, {"Keep-Alive", "5"}});
  EXPECT_EQ(written.text, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
  EXPECT_FALSE(written.head.keep_alive);
}

TEST(ResponseHead, OfAnUnknownStatusHasNoPhrase) {
  EXPECT_EQ(write({}, {.status = 299, .body_bytes = 0}).text, "HTTP/1.1 299 \r\ncontent-length: 0\r\n\r\n");
}

TEST(ResponseHead, IsNotWrittenIfItCouldBeReadAsTwo) {
  using namespace std::string_literals;
  for (const std::string& value : {"a\r\nb: c"s, "a\nb"s, "a\rb"s, "a\0b"s, "a\x7F"s, "\x01"s}) {
    const Written written = write({}, {.body_bytes = 0}, {{"x", "fine"}, {"x", value}});
    EXPECT_NE(written.head.fault, nullptr) << testing::PrintToString(value);
    EXPECT_EQ(written.text, "");
  }
  for (const std::string& name : {""s, "a b"s, "a:"s, "a\r\nb"s, "\xC3\xA4"s, "a\0"s, ":a"s, " a"s}) {
    EXPECT_NE(write({}, {}, {{name, "x"}}).head.fault, nullptr) << testing::PrintToString(name);
  }
  for (const char* length : {"", "-1", "+1", "0x1", "1 1", "1,1", "9223372036854775808", "99999999999999999999"}) {
    EXPECT_NE(write({}, {}, {{"Content-Length", length}}).head.fault, nullptr) << length;
  }
  EXPECT_NE(write({}, {}, {{"content-length", "1"}, {"content-length", "2"}}).head.fault, nullptr);
  for (const int status : {-1, 0, 99, 1000, 1 << 30}) EXPECT_NE(write({}, {.status = status}).head.fault, nullptr) << status;
}

TEST(ResponseHead, HasRoomForTheLongestOfOurLines) {
  const Written written = write({.minor_version = 0}, {.status = 203, .body_bytes = UINT64_MAX, .date = std::string(29, 'd'), .server = "s"});
  EXPECT_GT(written.head.bytes_max, written.text.size());
  EXPECT_NE(written.text.find("content-length: 18446744073709551615\r\n"), std::string::npos);
}

std::string trailers(const std::vector<Header>& headers) {
  const TrailerPlan plan = plan_trailers(headers);
  if (plan.fault != nullptr) return plan.fault;
  std::string text(plan.bytes_max, '?');
  text.resize(static_cast<size_t>(put_trailers(text.data(), headers) - text.data()));
  return text;
}

TEST(ResponseHead, WritesTrailersThatMayGoOut) {
  EXPECT_EQ(trailers({}), "\r\n");
  EXPECT_EQ(trailers({{"A", "b"}, {"c", ""}}), "A: b\r\nc: \r\n\r\n");
  EXPECT_NE(plan_trailers(std::vector<Header>{{"a", "\r\n"}}).fault, nullptr);
  EXPECT_NE(plan_trailers(std::vector<Header>{{"Content-Length", "5"}}).fault, nullptr);
  EXPECT_NE(plan_trailers(std::vector<Header>{{"transfer-encoding", "chunked"}}).fault, nullptr);
}

TEST(LastHead, IsFoundOnlyForTheSameWords) {
  LastHead last;
  const std::vector<Header> headers = {{"a", "bc"}, {"d", ""}};
  const ResponseHead head = {.status = 201, .headers = headers, .body_bytes = 3, .date = "now", .server = "us"};
  EXPECT_EQ(last.find({}, head), nullptr);
  const Written written = write({}, head, headers);
  last.keep({}, head, written.head, written.text);
  const HeadPlan* const plan = last.find({}, head);
  ASSERT_NE(plan, nullptr);
  EXPECT_EQ(last.text(), written.text);
  EXPECT_EQ(plan->bytes_max, written.text.size());
  EXPECT_EQ(plan->content_length, 3u);
  EXPECT_EQ(last.find({.minor_version = 0}, head), nullptr);
  EXPECT_EQ(last.find({.is_head = true}, head), nullptr);
  EXPECT_EQ(last.find({.keep_alive = false}, head), nullptr);
  const auto is_found = [&last, &head](auto change) {
    ResponseHead other = head;
    change(other);
    return last.find({}, other) != nullptr;
  };
  EXPECT_TRUE(is_found([](ResponseHead&) {}));
  EXPECT_FALSE(is_found([](ResponseHead& other) { other.status = 200; }));
  EXPECT_FALSE(is_found([](ResponseHead& other) { other.body_bytes = 4; }));
  EXPECT_FALSE(is_found([](ResponseHead& other) { other.body_bytes.reset(); }));
  EXPECT_FALSE(is_found([](ResponseHead& other) { other.date = "new"; }));
  EXPECT_FALSE(is_found([](ResponseHead& other) { other.date = {}; }));
  EXPECT_FALSE(is_found([](ResponseHead& other) { other.server = "it"; }));
  const std::vector<Header> others[] = {{{"ab", "c"}, {"d", ""}}, {{"a", "bc"}}, {{"a", "bc"}, {"d", ""}, {"e", ""}}, {{"a", "bd"}, {"d", ""}}};
  for (const std::vector<Header>& other_headers : others) {
    EXPECT_FALSE(is_found([&other_headers](ResponseHead& other) { other.headers = other_headers; }));
  }
}

TEST(LastHead, ALargeOneIsNotKeptNorWhatWasBefore) {
  LastHead last;
  const std::string value(2000, 'x');
  const Written small = write({}, {});
  last.keep({}, {}, small.head, small.text);
  ASSERT_NE(last.find({}, {}), nullptr);
  const std::vector<Header> large = {{"a", value}};
  const std::vector<Header> many(17, Header{"a", "b"});
  for (const std::vector<Header>& headers : {large, many}) {
    const ResponseHead head = {.headers = headers};
    const Written written = write({}, head, headers);
    last.keep({}, head, written.head, written.text);
    EXPECT_EQ(last.find({}, head), nullptr);
  }
  EXPECT_EQ(last.find({}, {}), nullptr);
}

}  // namespace
}  // namespace cxxloop::web
