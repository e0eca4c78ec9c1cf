// SPDX-License-Identifier: MIT
#include "web/core/websocket_handshake.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace cxxloop::web {
namespace {

using Outcome = WebSocketHandshake::Outcome;

// A request with these lines behind Host; the head's views live as long as the object.
struct Asked {
  explicit Asked(const std::string& lines, const std::string& line = "GET /chat HTTP/1.1", const std::optional<DeflateOptions>& deflate = DeflateOptions{})
      : text(line + "\r\nHost: server.example.com\r\n" + lines + "\r\n"), handshake(deflate) {
    EXPECT_EQ(parser.parse(text, head), HeadParser::Outcome::complete) << text << parser.refusal().reason;
    outcome = handshake.check(head);
  }

  std::string text;
  RequestHead head;
  HeadParser parser{HeadLimits{}};
  WebSocketHandshake handshake;
  Outcome outcome;
};

const std::string upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\n";
const std::string key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
const std::string version = "Sec-WebSocket-Version: 13\r\n";
const std::string valid = upgrade + key + version;

std::string response(const Asked& asked, const WebSocketHandshake::Response& response = {}) {
  ByteBuffer out;
  const char* const fault = asked.handshake.append_response(out, response);
  return fault == nullptr ? std::string(out.view()) : std::string("fault: ") + fault;
}

TEST(WebSocketHandshake, AnswersTheExampleOfTheRfc) {
  const Asked asked(valid + "Origin: http://example.com\r\nSec-WebSocket-Protocol: chat, superchat\r\n");
  EXPECT_EQ(asked.outcome, Outcome::valid);
  EXPECT_EQ(response(asked, {.subprotocol = "chat"}),
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n"
            "sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nsec-websocket-protocol: chat\r\n\r\n");
}

TEST(WebSocketHandshake, IgnoresCaseAndOtherProtocols) {
  for (const char* const lines : {"UPGRADE: WebSocket\r\nconnection: keep-alive, UPGRADE\r\n", "Upgrade: h2c, websocket\r\nConnection: upgrade\r\n"}) {
    EXPECT_EQ(Asked(lines + key + version).outcome, Outcome::valid) << lines;
  }
  EXPECT_EQ(Asked(valid + "Content-Length: 0\r\n").outcome, Outcome::valid);
}

TEST(WebSocketHandshake, LeavesOtherRequestsAlone) {
  EXPECT_EQ(Asked("").outcome, Outcome::other);
  EXPECT_EQ(Asked("Upgrade: h2c\r\nConnection: upgrade\r\n" + key + version).outcome, Outcome::other);
  EXPECT_EQ(Asked("Upgrade: websockets\r\nConnection: upgrade\r\n" + key + version).outcome, Outcome::other);
  EXPECT_EQ(Asked("Upgrade: websocket\r\n" + key + version).outcome, Outcome::other) << "Connection does not name Upgrade";
  EXPECT_EQ(Asked("Upgrade: websocket\r\nConnection: close\r\n" + key + version).outcome, Outcome::other);
  EXPECT_EQ(Asked(valid, "GET /chat HTTP/1.0").outcome, Outcome::other) << "RFC 9110 7.8: ignored in HTTP/1.0";
}

struct Refused {
  std::string lines;
  int status;
};

TEST(WebSocketHandshake, RefusesWhatItMust) {
  const std::vector<Refused> cases = {
      {upgrade + key, 426},
      {upgrade + key + "Sec-WebSocket-Version: 8\r\n", 426},
      {upgrade + key + "Sec-WebSocket-Version: 013\r\n", 426},
      {upgrade + key + "Sec-WebSocket-Version: 13, 8\r\n", 426},
      {upgrade + key + version + version, 400},
      {upgrade + version, 400},
      {upgrade + version + key + key, 400},
      {upgrade + version + "Sec-WebSocket-Key: \r\n", 400},
      {upgrade + version + "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=\r\n", 400},
      {upgrade + version + "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQAA\r\n", 400},
      {upgrade + version + "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==AAAA\r\n", 400},
      {upgrade + version + "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZ_==\r\n", 400},
      {upgrade + version + "Sec-WebSocket-Key: dGhlIHNhb=BsZSBub25jZQ==\r\n", 400},
      {valid + "Content-Length: 5\r\n", 400},
      {valid + "Transfer-Encoding: chunked\r\n", 400},
      {valid + "Sec-WebSocket-Protocol: a, b c\r\n", 400},
      {valid + "Sec-WebSocket-Protocol: a\r\nSec-WebSocket-Protocol: \"b\"\r\n", 400},
      {valid + "Sec-WebSocket-Extensions: permessage-deflate;\r\n", 400},
  };
  for (const Refused& test : cases) {
    const Asked asked(test.lines);
    EXPECT_EQ(asked.outcome, Outcome::refused) << test.lines;
    EXPECT_EQ(asked.handshake.refusal().status, test.status) << test.lines;
    EXPECT_EQ(asked.handshake.refusal_headers().size(), test.status == 426 ? 2U : 0U);
  }
  for (const char* const method : {"POST", "HEAD", "get"}) {
    const Asked asked(valid, std::string(method) + " /chat HTTP/1.1");
    EXPECT_EQ(asked.outcome, Outcome::refused) << method;
    EXPECT_EQ(asked.handshake.refusal().status, 400) << method;
  }
}

TEST(WebSocketHandshake, NamesItsVersionWith426) {
  const Asked asked(upgrade + key);
  std::string lines;
  for (const Header& header : asked.handshake.refusal_headers()) lines.append(header.name).append("=").append(header.value).append(" ");
  EXPECT_EQ(lines, "upgrade=websocket sec-websocket-version=13 ");
}

TEST(WebSocketHandshake, ListsSubprotocolsOfAllHeadersInTheirOrder) {
  const Asked asked(valid + "Sec-WebSocket-Protocol: b, a\r\nX: c\r\nsec-websocket-protocol: ,v1.d ,\r\n");
  EXPECT_EQ(asked.outcome, Outcome::valid);
  std::string names;
  each_subprotocol(asked.head, [&names](std::string_view name) { names.append(name).append(";"); });
  EXPECT_EQ(names, "b;a;v1.d;");
}

TEST(WebSocketHandshake, AgreesUponCompressionIfItMay) {
  const std::string offer = valid + "Sec-WebSocket-Extensions: x-other\r\nSec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n";
  const Asked asked(offer);
  ASSERT_TRUE(asked.handshake.deflate());
  EXPECT_EQ(asked.handshake.deflate()->client_window_bits, 12);
  const std::string line = "\r\nsec-websocket-extensions: permessage-deflate; server_max_window_bits=12; client_max_window_bits=12\r\n\r\n";
  EXPECT_TRUE(response(asked).ends_with(line)) << response(asked);
  const Asked plain(offer, "GET / HTTP/1.1", std::nullopt);
  EXPECT_FALSE(plain.handshake.deflate());
  EXPECT_EQ(response(plain).find("extensions"), std::string::npos);
}

TEST(WebSocketHandshake, WritesTheApplicationsHeadersUnlessTheyAreItsOwn) {
  const Asked asked(valid);
  const std::vector<Header> good = {{"Set-Cookie", "a=b"}, {"x-y", "z"}};
  EXPECT_EQ(response(asked, {.headers = good, .date = "today", .server = "us"}),
            "HTTP/1.1 101 Switching Protocols\r\ndate: today\r\nserver: us\r\nSet-Cookie: a=b\r\nx-y: z\r\nupgrade: websocket\r\n"
            "connection: Upgrade\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n");
  for (const Header& header : {Header{"Sec-WebSocket-Protocol", "a"}, Header{"sec-websocket-accept", "a"}, Header{"Sec-WebSocket-Extensions", "a"},
                               Header{"Upgrade", "a"}, Header{"connection", "close"}, Header{"content-length", "0"}, Header{"Transfer-Encoding", "chunked"}, Header{"a", "b\r\nc: d"}, Header{"a b", "c"}}) {
    EXPECT_TRUE(response(asked, {.headers = {&header, 1}}).starts_with("fault: ")) << header.name;
  }
  EXPECT_TRUE(response(asked, {.subprotocol = "a\r\nb: c"}).starts_with("fault: "));
  EXPECT_TRUE(response(asked, {.subprotocol = "a, b"}).starts_with("fault: "));
}

}  // namespace
}  // namespace cxxloop::web
