// SPDX-License-Identifier: MIT
#include "web/core/request_body.h"

#include <gtest/gtest.h>

#include <string>

namespace cxxloop::web {
namespace {

using Kind = RequestBody::Kind;

struct Reader {
  explicit Reader(Framing framing, uint64_t length = 0) {
    RequestHead head;
    head.framing = framing;
    head.content_length = length;
    body.begin(head);
  }
  RequestBody::Step next(std::string_view bytes, uint64_t bytes_max = 0) { return body.next(bytes, bytes_max, trailers); }

  RequestBody body;
  Trailers trailers;
};

TEST(RequestBody, OfARequestWithoutOneIsOverAtOnce) {
  Reader reader(Framing::none);
  EXPECT_TRUE(reader.body.is_over());
  EXPECT_EQ(reader.next("GET /").kind, Kind::end);
  EXPECT_EQ(reader.next("GET /").used, 0U);
}

TEST(RequestBody, EndsAfterItsLength) {
  Reader reader(Framing::length, 5);
  EXPECT_EQ(reader.next("").kind, Kind::more);
  EXPECT_EQ(reader.next("he").data, "he");
  EXPECT_EQ(reader.next("lloGET /").data, "llo");
  EXPECT_FALSE(reader.body.is_over());
  EXPECT_EQ(reader.next("GET /").kind, Kind::end);
  EXPECT_TRUE(reader.body.is_over());
  EXPECT_FALSE(reader.body.is_chunked());
}

TEST(RequestBody, EndsAfterItsLastChunk) {
  Reader reader(Framing::chunked);
  const std::string text = "2\r\nhe\r\n0\r\nA: b\r\n\r\n";
  const RequestBody::Step data = reader.next(text);
  EXPECT_EQ(data.data, "he");
  EXPECT_EQ(reader.next(std::string_view(text).substr(data.used)).kind, Kind::end);
  EXPECT_EQ(reader.trailers.all().size(), 1U);
  EXPECT_TRUE(reader.body.is_over());
  EXPECT_TRUE(reader.body.is_chunked());
}

TEST(RequestBody, IsRefusedAboveItsLimit) {
  Reader reader(Framing::chunked);
  EXPECT_EQ(reader.next("5\r\nhello", 5).kind, Kind::data);
  EXPECT_EQ(reader.next("\r\n1\r\n!", 5).kind, Kind::refused);
  EXPECT_EQ(reader.body.refusal().status, 413);
  EXPECT_EQ(reader.next("\r\n0\r\n\r\n", 5).kind, Kind::refused) << "for good";
}

TEST(RequestBody, TellsWhyItIsRefused) {
  Reader reader(Framing::chunked);
  EXPECT_EQ(reader.next("x\r\n").kind, Kind::refused);
  EXPECT_EQ(reader.body.refusal().status, 400);
  RequestHead head;
  head.framing = Framing::chunked;
  reader.body.begin(head);
  EXPECT_EQ(reader.next("1\r\na").data, "a") << "the next request begins anew";
}

}  // namespace
}  // namespace cxxloop::web
