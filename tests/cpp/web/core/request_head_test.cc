// SPDX-License-Identifier: MIT
#include "web/core/request_head.h"

#include <gtest/gtest.h>

#include <string>

namespace cxxloop::web {
namespace {

using Outcome = HeadParser::Outcome;

struct Parsed {
  Outcome outcome = Outcome::incomplete;
  int status = 0;
  std::string reason;
  size_t consumed = 0;
};

Parsed parse(std::string_view text, RequestHead& head, const HeadLimits& limits = {}) {
  HeadParser parser(limits);
  const Outcome outcome = parser.parse(text, head);
  return {outcome, parser.refusal().status, parser.refusal().reason, parser.consumed()};
}

std::string with(std::string_view header) { return "GET / HTTP/1.1\r\nHost: a\r\n" + std::string(header) + "\r\n\r\n"; }
std::string line(std::string_view request_line) { return std::string(request_line) + "\r\nHost: a\r\n\r\n"; }

TEST(RequestHead, HasWhatWasSent) {
  RequestHead head;
  const std::string text = "POST /a%20b?c=d?e HTTP/1.1\r\nhOsT: example.org:80\r\nX-A: \t one  two \t\r\nx-a:\r\nContent-Length: 5\r\n\r\nhello";
  const Parsed parsed = parse(text, head);
  ASSERT_EQ(parsed.outcome, Outcome::complete) << parsed.reason;
  EXPECT_EQ(parsed.consumed, text.size() - 5);
  EXPECT_EQ(head.method, "POST");
  EXPECT_EQ(head.target, "/a%20b?c=d?e");
  EXPECT_EQ(head.path, "/a%20b");
  EXPECT_EQ(head.query, "c=d?e");
  EXPECT_EQ(head.authority, "example.org:80");
  EXPECT_EQ(head.minor_version, 1);
  EXPECT_EQ(head.framing, Framing::length);
  EXPECT_EQ(head.content_length, 5u);
  EXPECT_TRUE(head.keep_alive);
  ASSERT_EQ(head.headers().size(), 4u);
  EXPECT_EQ(head.headers()[0].name, "hOsT");
  EXPECT_EQ(head.headers()[1].value, "one  two");
  EXPECT_EQ(head.headers()[2].value, "");
}

TEST(RequestHead, TheHeadBeforeIsKnownAndOneThatDiffersIsParsed) {
  RequestHead head;
  EXPECT_EQ(head.version(), 0u);
  const std::string text = "POST /a?b HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n";
  ASSERT_EQ(parse(text + "hello", head).outcome, Outcome::complete);
  const uint64_t version = head.version();
  for (std::string_view behind : {"", "world", "GET"}) {
    std::string again = text;
    again += behind;
    const Parsed parsed = parse(again, head);
    again.assign(again.size(), '?');
    EXPECT_EQ(parsed.outcome, Outcome::complete);
    EXPECT_EQ(parsed.consumed, text.size());
    EXPECT_EQ(head.version(), version);
    EXPECT_EQ(head.path, "/a") << "the views point into no bytes of the caller";
    EXPECT_EQ(head.headers()[1].value, "5");
    EXPECT_EQ(head.content_length, 5u);
  }
  EXPECT_EQ(parse(text.substr(0, text.size() - 1), head).outcome, Outcome::incomplete);
  EXPECT_EQ(head.version(), version);
  std::string other = text;
  other[6] = 'c';
  EXPECT_EQ(parse(other, head).outcome, Outcome::complete);
  EXPECT_NE(head.version(), version);
  EXPECT_EQ(head.path, "/c");
}

TEST(RequestHead, NothingIsKnownAfterARefusalOrALargeHead) {
  RequestHead head;
  ASSERT_EQ(parse(line("GET /a HTTP/1.1"), head).outcome, Outcome::complete);
  EXPECT_EQ(parse(with("bad header"), head).outcome, Outcome::refused);
  EXPECT_EQ(head.version(), 0u);
  EXPECT_EQ(parse(with("bad header"), head).outcome, Outcome::refused);
  const std::string large = with("x: " + std::string(4000, 'x'));
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(parse(large, head).outcome, Outcome::complete);
    EXPECT_EQ(head.version(), 0u);
  }
}

TEST(RequestHead, AKnownHeadMeetsNewLimitsWhenItWasForgotten) {
  RequestHead head;
  const std::string text = line("GET /long HTTP/1.1");
  ASSERT_EQ(parse(text, head).outcome, Outcome::complete);
  head.forget();
  EXPECT_EQ(parse(text, head, {.line_bytes_max = 10}).status, 414);
}

TEST(RequestHead, IsTheSameInPiecesOfEverySize) {
  const std::string text = "\r\nGET /x?y HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n\r\nGET /next";
  for (size_t size = 1; size <= text.size(); ++size) {
    HeadParser parser((HeadLimits()));
    RequestHead head;
    Outcome outcome = Outcome::incomplete;
    for (size_t given = size; outcome == Outcome::incomplete; given += size) {
      ASSERT_LE(given, text.size() + size) << size;
      outcome = parser.parse(std::string_view(text).substr(0, given), head);
    }
    ASSERT_EQ(outcome, Outcome::complete) << size << parser.refusal().reason;
    EXPECT_EQ(parser.consumed(), text.size() - 9) << size;
    EXPECT_EQ(head.path, "/x") << size;
    EXPECT_EQ(head.upgrade, "websocket") << size;
  }
}

TEST(RequestHead, OfTheNextRequestIsParsedByTheSameParser) {
  HeadParser parser((HeadLimits()));
  RequestHead head;
  const std::string text = line("GET /1 HTTP/1.1") + line("GET /2 HTTP/1.1");
  ASSERT_EQ(parser.parse(text, head), Outcome::complete);
  const std::string_view rest = std::string_view(text).substr(parser.consumed());
  EXPECT_EQ(parser.parse(rest.substr(0, 3), head), Outcome::incomplete);
  ASSERT_EQ(parser.parse(rest, head), Outcome::complete);
  EXPECT_EQ(head.path, "/2");
  EXPECT_EQ(parser.consumed(), rest.size());
}

TEST(RequestHead, KeepsTheConnectionOrNot) {
  const auto keeps = [](std::string_view version, std::string_view connection) {
    RequestHead head;
    const std::string text = "GET / " + std::string(version) + "\r\nHost: a\r\n" + std::string(connection) + "\r\n";
    EXPECT_EQ(parse(text, head).outcome, Outcome::complete) << text;
    return head.keep_alive;
  };
  EXPECT_TRUE(keeps("HTTP/1.1", ""));
  EXPECT_FALSE(keeps("HTTP/1.0", ""));
  EXPECT_FALSE(keeps("HTTP/1.1", "Connection: x, CLOSE ,y\r\n"));
  EXPECT_FALSE(keeps("HTTP/1.1", "Connection: keep-alive\r\nConnection: close\r\n"));
  EXPECT_TRUE(keeps("HTTP/1.0", "Connection: Keep-Alive\r\n"));
  EXPECT_TRUE(keeps("HTTP/1.1", "Connection: closed\r\n"));
}

TEST(RequestHead, NamesItsAuthorityInEveryForm) {
  RequestHead head;
  const std::string form_1 = line("GET http://Example.org:81/p?q HTTP/1.1");
  ASSERT_EQ(parse(form_1, head).outcome, Outcome::complete);
  EXPECT_EQ(head.authority, "Example.org:81");
  ASSERT_EQ(head.headers().front().name, "Host");
  EXPECT_EQ(head.headers().front().value, "Example.org:81");
  EXPECT_TRUE(head.keep_alive);
  EXPECT_EQ(head.path, "/p");
  EXPECT_EQ(head.query, "q");
  const std::string form_2 = line("GET https://[::1]?q HTTP/1.1");
  ASSERT_EQ(parse(form_2, head).outcome, Outcome::complete);
  EXPECT_EQ(head.path, "/");
  EXPECT_EQ(head.query, "q");
  const std::string form_3 = line("OPTIONS * HTTP/1.1");
  ASSERT_EQ(parse(form_3, head).outcome, Outcome::complete);
  EXPECT_EQ(head.path, "*");
  const std::string form_4 = line("CONNECT example.org:443 HTTP/1.1");
  ASSERT_EQ(parse(form_4, head).outcome, Outcome::complete);
  EXPECT_EQ(head.authority, "example.org:443");
  EXPECT_EQ(head.path, "");
  EXPECT_FALSE(head.keep_alive);
}

TEST(RequestHead, ExpectsAContinueOnlyWithABody) {
  RequestHead head;
  ASSERT_EQ(parse(with("Expect: 100-Continue\r\nContent-Length: 1"), head).outcome, Outcome::complete);
  EXPECT_TRUE(head.expects_continue);
  ASSERT_EQ(parse(with("Expect: 100-continue"), head).outcome, Outcome::complete);
  EXPECT_FALSE(head.expects_continue);
  ASSERT_EQ(parse("POST / HTTP/1.0\r\nExpect: x\r\nContent-Length: 1\r\n\r\n", head).outcome, Outcome::complete);
  EXPECT_FALSE(head.expects_continue);
}

TEST(RequestHead, AsksForAnUpgradeOnlyIfConnectionNamesIt) {
  RequestHead head;
  ASSERT_EQ(parse(with("Upgrade: websocket"), head).outcome, Outcome::complete);
  EXPECT_EQ(head.upgrade, "");
  const std::string named = with("Connection: upgrade\r\nUpgrade: websocket");
  ASSERT_EQ(parse(named, head).outcome, Outcome::complete);
  EXPECT_EQ(head.upgrade, "websocket");
}

struct Refused {
  int status;
  std::string text;
};

class RefusedHead : public testing::TestWithParam<Refused> {};

// At once, and when it arrives byte by byte.
TEST_P(RefusedHead, IsRefusedWithItsStatus) {
  const auto& [status, text] = GetParam();
  RequestHead head;
  const Parsed parsed = parse(text, head);
  EXPECT_EQ(parsed.outcome, Outcome::refused) << testing::PrintToString(text);
  EXPECT_EQ(parsed.status, status) << testing::PrintToString(text) << parsed.reason;
  HeadParser parser((HeadLimits()));
  Outcome outcome = Outcome::incomplete;
  for (size_t given = 1; given <= text.size() && outcome == Outcome::incomplete; ++given) {
    outcome = parser.parse(std::string_view(text).substr(0, given), head);
  }
  EXPECT_EQ(outcome, Outcome::refused) << testing::PrintToString(text);
  EXPECT_EQ(parser.refusal().status, status) << testing::PrintToString(text);
}

using namespace std::string_literals;

INSTANTIATE_TEST_SUITE_P(Framing, RefusedHead, testing::Values(
    Refused{400, with("Content-Length: 5\r\nTransfer-Encoding: chunked")},
    Refused{400, with("Transfer-Encoding: chunked\r\nContent-Length: 5")},
    Refused{400, with("Content-Length: 5\r\nContent-Length: 5")}, Refused{400, with("Content-Length: 5, 5")},
    Refused{400, with("Content-Length: +5")}, Refused{400, with("Content-Length: -5")},
    Refused{400, with("Content-Length: 0x5")}, Refused{400, with("Content-Length: 5_0")},
    Refused{400, with("Content-Length:")}, Refused{400, with("Content-Length: 5 5")},
    Refused{400, with("Content-Length: \v5")}, Refused{400, with("Content-Length: 5;")},
    Refused{400, with("Content-Length: 9223372036854775808")}, Refused{400, with("Content-Length: 99999999999999999999999")},
    Refused{400, with("Transfer-Encoding: chunked, chunked")}, Refused{400, with("Transfer-Encoding: chunked, identity")},
    Refused{400, with("Transfer-Encoding: xchunked")}, Refused{400, with("Transfer-Encoding: chunked\v")},
    Refused{400, with("Transfer-Encoding: identity")}, Refused{400, with("Transfer-Encoding:")},
    Refused{400, with("Transfer-Encoding: \"chunked\"")}, Refused{400, with("Transfer-Encoding: chunked;q=1")},
    Refused{501, with("Transfer-Encoding: gzip, chunked")},
    Refused{400, with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked")},
    Refused{400, "GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"}));

INSTANTIATE_TEST_SUITE_P(Lines, RefusedHead, testing::Values(
    Refused{400, "GET / HTTP/1.1\nHost: a\r\n\r\n"}, Refused{400, "GET / HTTP/1.1\r\nHost: a\n\r\n"},
    Refused{400, "GET / HTTP/1.1\r\nHost: a\r\n\n"}, Refused{400, "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"},
    Refused{400, with("A: b\rc: d")}, Refused{400, with("A: b\r\r")}, Refused{400, with("A: b\r\n folded")},
    Refused{400, with("A: b\r\n\tfolded")}, Refused{400, "GET / HTTP/1.1\r\n Host: a\r\n\r\n"},
    Refused{400, with("A: b\0c"s)}, Refused{400, with("A: b\x7F""c")}, Refused{400, with("A: b\x01")},
    Refused{400, with("A : b")}, Refused{400, with("A\t: b")}, Refused{400, with(": b")}, Refused{400, with("A")},
    Refused{400, with("A(: b")}, Refused{400, with("\xC3\xA4: b")}, Refused{400, with("A\0: b"s)},
    Refused{400, "\r\n\r\n\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"}));

INSTANTIATE_TEST_SUITE_P(Hosts, RefusedHead, testing::Values(
    Refused{400, "GET / HTTP/1.1\r\n\r\n"}, Refused{400, "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"},
    Refused{400, "GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n"}, Refused{400, "GET / HTTP/1.1\r\nHost: a b\r\n\r\n"},
    Refused{400, "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"}, Refused{400, "GET / HTTP/1.1\r\nHost: a:80x\r\n\r\n"},
    Refused{400, "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n"}, Refused{400, "GET / HTTP/1.1\r\nHost: [::1\r\n\r\n"},
    Refused{400, "GET / HTTP/1.1\r\nHost: []\r\n\r\n"}, Refused{400, "GET / HTTP/1.1\r\nHost: a:80:80\r\n\r\n"},
    Refused{400, "GET / HTTP/1.1\r\nHost: a,b?c\r\n\r\n"}, Refused{400, line("GET http:///p HTTP/1.1")},
    Refused{400, line("GET http://u@a/p HTTP/1.1")}));

INSTANTIATE_TEST_SUITE_P(RequestLines, RefusedHead, testing::Values(
    Refused{400, line("G(T / HTTP/1.1")}, Refused{400, line(" / HTTP/1.1")}, Refused{400, line("GET  / HTTP/1.1")},
    Refused{400, line("GET /  HTTP/1.1")}, Refused{400, line("GET / HTTP/1.1 ")}, Refused{400, line("GET\t/\tHTTP/1.1")},
    Refused{400, line("GET /")}, Refused{400, line("GET / http/1.1")}, Refused{400, line("GET / HTTP/1.10")},
    Refused{400, line("GET / HTTP/11")}, Refused{400, line("GET / HTTP/1.")}, Refused{505, line("GET / HTTP/2.0")},
    Refused{505, line("GET / HTTP/0.9")}, Refused{505, line("GET / HTTP/1.2")}, Refused{400, line("GET p HTTP/1.1")},
    Refused{400, line("GET * HTTP/1.1")}, Refused{400, line("GET ftp://a/ HTTP/1.1")}, Refused{400, line("GET /#f HTTP/1.1")},
    Refused{400, line("CONNECT / HTTP/1.1")}, Refused{400, line("CONNECT a HTTP/1.1")}, Refused{400, line("GET /\xC3\xA4 HTTP/1.1")},
    Refused{400, line("GET /\x01 HTTP/1.1")}, Refused{400, line("GET /\x7F HTTP/1.1")},
    Refused{501, line(std::string(33, 'A') + " / HTTP/1.1")}, Refused{414, line("GET /" + std::string(17000, 'a') + " HTTP/1.1")},
    Refused{417, with("Expect: 200-ok\r\nContent-Length: 1")}, Refused{400, with("Content-Type: a/b\r\nContent-Type: a/c")}));

TEST(RequestHead, HasBounds) {
  RequestHead head;
  std::string many;
  for (int i = 0; i < 128; ++i) many += "\r\nA: b";
  EXPECT_EQ(parse("GET / HTTP/1.1\r\nHost: a" + many + "\r\n\r\n", head).status, 431);
  EXPECT_EQ(parse("GET / HTTP/1.1\r\nHost: a" + many.substr(6) + "\r\n\r\n", head).outcome, Outcome::complete);
  const std::string large = "GET / HTTP/1.1\r\nHost: a\r\nA: " + std::string(70'000, 'x');
  EXPECT_EQ(parse(large + "\r\n\r\n", head).status, 431);
  EXPECT_EQ(parse(large, head).status, 431) << "before its end has come";
  EXPECT_EQ(parse(std::string(17'000, 'A'), head).status, 414) << "before its end has come";
}

}  // namespace
}  // namespace cxxloop::web
