// SPDX-License-Identifier: MIT
#include "web/core/websocket_session.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "cpp/web/core/websocket_client.h"
#include "cpp/web/core/websocket_probe.h"

namespace cxxloop::web {
namespace {

using namespace std::string_literals;

// A close frame's payload, as stories have it.
std::string code(uint16_t code) { return {static_cast<char>(code >> 8), static_cast<char>(code & 0xFF)}; }

std::string text(std::string_view payload) { return client_frame(Opcode::text, payload); }
std::string part(std::string_view payload) { return client_frame(Opcode::text, payload, false); }
std::string more(std::string_view payload) { return client_frame(Opcode::continuation, payload, false); }
std::string last(std::string_view payload) { return client_frame(Opcode::continuation, payload); }
std::string ping(std::string_view payload) { return client_frame(Opcode::ping, payload); }

struct Case {
  std::string name;
  std::string frames;
  std::string story;
};

class Dialogues : public testing::TestWithParam<Case> {};

// However the bytes are cut.
TEST_P(Dialogues, AreTheSameInPiecesOfEverySize) {
  const std::string& frames = GetParam().frames;
  for (size_t size = 1; size <= frames.size(); ++size) {
    WebSocketProbe probe;
    ASSERT_EQ(probe.receive(frames, size).story, GetParam().story) << size;
    ASSERT_EQ(probe.left, "") << size;
  }
}

std::string name_of(const testing::TestParamInfo<Case>& info) { return info.param.name; }
const std::string failed = "finish end(1002 ";
std::string protocol_error(const std::string& reason) { return "<close(" + code(1002) + reason + ") finish end(1002 " + reason + ")"; }
const std::string not_utf8 = "<close(" + code(1007) + "the text is not UTF-8) finish end(1007 the text is not UTF-8)";
const std::string cut_short = "<close(" + code(1007) + "the text ends inside a character) finish end(1007 the text ends inside a character)";

// Autobahn 1, 2.
INSTANTIATE_TEST_SUITE_P(Messages, Dialogues, testing::Values(
    Case{"Text", text("Hello") + text(""), "text(Hello) text()"},
    Case{"Binary", client_frame(Opcode::binary, "\xff\x00"s), "binary(\xff\x00)"s},
    Case{"Ping", ping("") + ping("payload") + text("x"), "<pong() <pong(payload) text(x)"},
    Case{"PingOfAnyBytes", ping("\x00\xff\xfe\xfd"s), "<pong(\x00\xff\xfe\xfd)"s},
    Case{"PingThatIsTooLong", client_frame({.first = 0x89, .payload = std::string(126, 'x')}), protocol_error("a control frame is too long")},
    Case{"TenPings", ping("0") + ping("1") + ping("2") + ping("3"), "<pong(0) <pong(1) <pong(2) <pong(3)"},
    Case{"Pong", client_frame(Opcode::pong, "unsolicited") + ping("x"), "<pong(x)"}), name_of);

// Autobahn 3, 4, 5.
INSTANTIATE_TEST_SUITE_P(Frames, Dialogues, testing::Values(
    Case{"ReservedBit", text("a") + client_frame({.first = 0xA1}) + text("b"), "text(a) " + protocol_error("reserved bits are set")},
    Case{"CompressionNotAgreed", client_frame({.first = 0xC1}), protocol_error("reserved bits are set")},
    Case{"ReservedOpcode", text("a") + client_frame({.first = 0x83}) + ping(""), "text(a) " + protocol_error("a reserved opcode")},
    Case{"ReservedControl", client_frame({.first = 0x8B}), protocol_error("a reserved opcode")},
    Case{"PingInFragments", client_frame(Opcode::ping, "a", false), protocol_error("a control frame in fragments")},
    Case{"Fragments", part("frag") + more("men") + last("ts"), "text(fragments)"},
    Case{"FragmentsWithPing", part("frag") + ping("p") + last("ments"), "<pong(p) text(fragments)"},
    Case{"EmptyFragments", part("") + more("") + last(""), "text()"},
    Case{"LastFragmentHasAll", part("") + more("") + last("all"), "text(all)"},
    Case{"FirstFragmentHasAll", part("all") + last(""), "text(all)"},
    Case{"BinaryFragments", client_frame(Opcode::binary, "\xff", false) + last("\xfe"), "binary(\xff\xfe)"},
    Case{"ContinuationOfNothing", last("x"), protocol_error("a continuation of no message")},
    Case{"TextInsideText", part("a") + text("b"), protocol_error("a message inside another one")},
    Case{"WithoutMask", client_frame({.payload = "a", .is_masked = false}), protocol_error("a frame without a mask")}), name_of);

// Autobahn 6.
const std::string kosme = "\xCE\xBA\xE1\xBD\xB9\xCF\x83\xCE\xBC\xCE\xB5";
INSTANTIATE_TEST_SUITE_P(Utf8, Dialogues, testing::Values(
    Case{"Valid", text(kosme), "text(" + kosme + ")"},
    Case{"CutInsideACharacter", part(kosme.substr(0, 3)) + ping("") + last(kosme.substr(3)), "<pong() text(" + kosme + ")"},
    Case{"Invalid", text(kosme + "\xED\xA0\x80" "edited"), not_utf8},
    Case{"InvalidInALaterFragment", part(kosme) + more("\xF4\x90\x80\x80") + last("edited"), not_utf8},
    Case{"FailsBeforeTheFrameEnds", client_frame({.payload = "\xC0", .claimed_bytes = 100}), not_utf8},
    Case{"EndsInsideACharacter", text("a\xE2\x82"), cut_short},
    Case{"FragmentsEndInsideACharacter", part("a\xE2") + last("\x82"), cut_short},
    Case{"EmptyLastFragmentInsideACharacter", part("a\xE2\x82") + last(""), cut_short},
    Case{"BinaryIsNotChecked", client_frame(Opcode::binary, "\xC0\x80"), "binary(\xC0\x80)"},
    Case{"NextTextBeginsAnew", text("\xE2\x82\xAC") + text("a"), "text(\xE2\x82\xAC) text(a)"}), name_of);

// Autobahn 7.
INSTANTIATE_TEST_SUITE_P(Close, Dialogues, testing::Values(
    Case{"WithCode", client_close(1000), "<close(" + code(1000) + ") finish end(1000)"},
    Case{"WithReason", client_close(4000, "why"), "<close(" + code(4000) + ") finish end(4000 why)"},
    Case{"Empty", client_frame(Opcode::close, ""), "<close() finish end(1005)"},
    Case{"Twice", client_close(1000) + client_close(1000), "<close(" + code(1000) + ") finish end(1000)"},
    Case{"PingBehindIt", client_close(1001) + ping("x") + text("y"), "<close(" + code(1001) + ") finish end(1001)"},
    Case{"InsideAMessage", part("a") + client_close(1000) + last("b"), "<close(" + code(1000) + ") finish end(1000)"},
    Case{"OneByte", client_frame(Opcode::close, "a"), protocol_error("half a close code")},
    Case{"CodeThatNoneMaySend", client_close(1005), protocol_error("a close code that none may be")},
    Case{"ReasonOf123Bytes", client_close(1000, std::string(123, '*')), "<close(" + code(1000) + ") finish end(1000 " + std::string(123, '*') + ")"},
    Case{"ReasonOf124Bytes", client_frame({.first = 0x88, .payload = code(1000) + std::string(124, '*')}), protocol_error("a control frame is too long")},
    Case{"ReasonThatIsNotUtf8", client_close(1000, kosme + "\xED\xA0\x80"),
         "<close(" + code(1007) + "the reason of a close is not UTF-8) finish end(1007 the reason of a close is not UTF-8)"}), name_of);

TEST(WebSocketSession, TakesEveryCodeThatMayBeSentAndNoOther) {
  for (unsigned number = 0; number <= 0xFFFF; ++number) {
    WebSocketProbe probe;
    probe.receive(client_close(static_cast<uint16_t>(number)));
    const std::string expected = is_close_code(static_cast<uint16_t>(number)) ? "end(" + std::to_string(number) + ")" : "end(1002 a close code that none may be)";
    ASSERT_TRUE(probe.story.ends_with(expected)) << probe.story;
  }
}

TEST(WebSocketSession, BoundsMessages) {
  const WebSocketLimits limits = {.message_bytes_max = 10};
  const std::string too_big = "<close(" + code(1009) + "message too big) finish end(1009 message too big)";
  EXPECT_EQ(WebSocketProbe(limits).receive(text("0123456789"), 1).story, "text(0123456789)");
  EXPECT_EQ(WebSocketProbe(limits).receive(text("0123456789a"), 1).story, too_big);
  EXPECT_EQ(WebSocketProbe(limits).receive(part("01234567") + last("89a"), 1).story, too_big);
  EXPECT_EQ(WebSocketProbe({.message_bytes_max = 0}).receive(text("0123456789a"), 1).story, "text(0123456789a)") << "no bound";
}

// Autobahn 12, 13.
TEST(WebSocketSession, ExpandsAndCompressesMessages) {
  const DeflateParameters parameters;
  const std::string hello = client_frame({.first = 0xC1, .payload = "\xf2\x48\xcd\xc9\xc9\x07\x00"s});
  const std::string again = client_frame({.first = 0x41, .payload = "\xf2\x00\x11"s}) + ping("p") + last("\x00\x00"s);
  const std::string plain = text("plain");
  const std::string empty = client_frame({.first = 0xC2});
  const std::string frames = hello + again + plain + empty + hello;
  for (size_t size = 1; size <= frames.size(); ++size) {
    EXPECT_EQ(WebSocketProbe({}, parameters).receive(frames, size).story, "text(Hello) <pong(p) text(Hello) text(plain) binary() text(Hello)") << size;
  }
  WebSocketProbe probe({}, parameters);
  const std::string large(100'000, 'x');
  for (const std::string& message : {std::string(63, 'x'), std::string(64, 'x'), large}) {
    EXPECT_EQ(probe.session.send(MessageKind::text, message), nullptr);
    EXPECT_EQ(probe.take_story(), "<text(" + std::string(message.size() < 64 ? "" : "compressed ") + message + ")");
  }
  EXPECT_LT(probe.sent.size(), 1000U);
}

TEST(WebSocketSession, RefusesWhatCannotBeExpanded) {
  const DeflateParameters parameters;
  const std::string bad = client_frame({.first = 0xC1, .payload = "\xff\xff\xff"s});
  const std::string reason = "the message cannot be expanded";
  EXPECT_EQ(WebSocketProbe({}, parameters).receive(bad, 1).story, protocol_error(reason));
  MessageDeflater deflater(parameters);
  ByteBuffer bomb;
  ASSERT_TRUE(deflater.deflate(std::string(1'000'000, 'x'), bomb));
  const std::string frame = client_frame({.first = 0xC2, .payload = std::string(bomb.view())});
  EXPECT_TRUE(WebSocketProbe({.message_bytes_max = 999'999}, parameters).receive(frame, 100).story.ends_with("end(1009 message too big)"));
  ByteBuffer out;
  ASSERT_TRUE(MessageDeflater(parameters).deflate("a\xC0\x80", out));
  EXPECT_EQ(WebSocketProbe({}, parameters).receive(client_frame({.first = 0xC1, .payload = std::string(out.view())}), 1).story, not_utf8);
  EXPECT_EQ(WebSocketProbe({}, parameters).receive(client_frame({.first = 0xC2, .payload = std::string(out.view())}), 1).story, "binary(a\xC0\x80)");
}

TEST(WebSocketSession, SendsMessages) {
  WebSocketProbe probe;
  int owner = 0;
  EXPECT_EQ(probe.session.send(MessageKind::text, "Hello", &owner), nullptr);
  EXPECT_EQ(probe.session.send(MessageKind::binary, ""), nullptr);
  EXPECT_EQ(probe.story, "<text(Hello) <binary()");
  EXPECT_EQ(probe.sent, "\x81\x05Hello\x82\x00"s);
  EXPECT_EQ(probe.released, std::vector<void*>{&owner});
}

TEST(WebSocketSession, ReleasesTheOwnerOfWhatItCompresses) {
  WebSocketProbe probe({}, DeflateParameters{});
  int owner = 0;
  EXPECT_EQ(probe.session.send(MessageKind::binary, std::string(100, 'x'), &owner), nullptr);
  EXPECT_EQ(probe.released, std::vector<void*>{&owner});
  probe.is_out_of_memory = true;
  EXPECT_STREQ(probe.session.send(MessageKind::binary, std::string(100, 'x'), &owner), "out of memory");
  EXPECT_EQ(probe.released.size(), 1U) << "it stays the caller's";
  EXPECT_TRUE(probe.story.ends_with("finish end(1011 out of memory)")) << "the client could read no later message";
}

TEST(WebSocketSession, ClosesAndWaitsForTheClient) {
  WebSocketProbe probe;
  EXPECT_EQ(probe.session.close({1000, "done"}), nullptr);
  EXPECT_EQ(probe.take_story(), "<close(" + code(1000) + "done) end(1000 done)");
  EXPECT_STREQ(probe.session.send(MessageKind::text, "late"), "the WebSocket is closed");
  EXPECT_STREQ(probe.session.close({1000}), "the WebSocket is closed");
  EXPECT_EQ(probe.receive(text("on its way") + ping("no pong") + client_close(1000)).take_story(), "finish");
  EXPECT_EQ(probe.session.deadline_ns(), WebSocketSession::never_ns);
  probe.session.on_lost();
  EXPECT_EQ(probe.receive(text("x")).take_story(), "");
}

TEST(WebSocketSession, WaitsForTheClientsCloseNoLongerThanItsLimit) {
  WebSocketProbe probe({.close_ns = 7 * second_ns});
  EXPECT_EQ(probe.session.close({1000}), nullptr);
  probe.take_story();
  probe.pass(7 * second_ns - 1);
  EXPECT_EQ(probe.take_story(), "");
  probe.pass(1);
  EXPECT_EQ(probe.take_story(), "finish");
}

TEST(WebSocketSession, DoesNotCloseWithWhatNoneMaySend) {
  WebSocketProbe probe;
  for (const CloseReason& close : {CloseReason{1006}, CloseReason{999}, CloseReason{1000, "\xff"}}) EXPECT_NE(probe.session.close(close), nullptr);
  EXPECT_EQ(probe.story, "");
  EXPECT_EQ(probe.session.close({1005}), nullptr);
  EXPECT_EQ(probe.story, "<close() end(1005)");
}

TEST(WebSocketSession, EndsWith1006IfTheClientIsLost) {
  WebSocketProbe probe;
  probe.receive(part("half"));
  probe.session.on_lost();
  EXPECT_EQ(probe.take_story(), "end(1006)");
  probe.session.on_lost();
  EXPECT_EQ(probe.take_story(), "");
}

TEST(WebSocketSession, StopsBetweenMessagesIfTheApplicationWantsNoMore) {
  WebSocketProbe probe;
  probe.at_message = [&probe](MessageKind, std::string_view bytes) { if (bytes == "2") probe.session.set_reading(false); };
  const std::string rest = text("3") + ping("p");
  probe.receive(text("1") + text("2") + rest);
  EXPECT_EQ(probe.take_story(), "text(1) text(2) stops");
  EXPECT_EQ(probe.left, rest);
  probe.give_left();
  EXPECT_EQ(probe.left, rest);
  probe.session.set_reading(true);
  probe.give_left();
  EXPECT_EQ(probe.take_story(), "reads text(3) <pong(p)");
}

TEST(WebSocketSession, ReadsTheClientsCloseThoughTheApplicationHadStopped) {
  WebSocketProbe probe;
  probe.session.set_reading(false);
  EXPECT_EQ(probe.session.close({1000}), nullptr);
  EXPECT_EQ(probe.take_story(), "stops <close(" + code(1000) + ") reads end(1000)");
  EXPECT_EQ(probe.receive(client_close(1000)).take_story(), "finish");
}

// What the application does inside on_message() must not take the message from under it.
TEST(WebSocketSession, KeepsAMessageWhileTheApplicationClosesInsideIt) {
  WebSocketProbe probe;
  std::string seen;
  probe.at_message = [&](MessageKind, std::string_view bytes) {
    EXPECT_EQ(probe.session.close({1000}), nullptr);
    probe.session.on_lost();
    seen = bytes;
  };
  const std::string half(50'000, 'x');
  probe.receive(part(half) + last(half) + text("dropped"));
  EXPECT_EQ(seen, half + half);
  EXPECT_TRUE(probe.story.ends_with("end(1000)"));
}

TEST(WebSocketSession, AnswersAFloodOfPingsWithOnePongIfTheClientTakesNothing) {
  WebSocketProbe probe;
  probe.full = true;
  for (int i = 0; i < 100'000; ++i) probe.receive(ping(std::to_string(i)));
  EXPECT_EQ(probe.take_story(), "");
  probe.full = false;
  probe.session.on_room();
  EXPECT_EQ(probe.take_story(), "<pong(99999) drained");
  probe.session.on_room();
  EXPECT_EQ(probe.take_story(), "drained");
}

TEST(WebSocketSession, PingsAndIsContentWithAnySignOfLife) {
  WebSocketProbe probe;
  probe.pass(20 * second_ns - 1);
  EXPECT_EQ(probe.take_story(), "");
  probe.pass(1);
  EXPECT_EQ(probe.take_story(), "<ping()");
  probe.pass(second_ns);
  probe.receive(client_frame(Opcode::pong, "").substr(0, 1));
  probe.pass(19 * second_ns - 1);
  EXPECT_EQ(probe.take_story(), "");
  probe.pass(1);
  EXPECT_EQ(probe.take_story(), "<ping()") << "20 s after the first";
}

TEST(WebSocketSession, EndsAClientThatGivesNoSignOfLife) {
  WebSocketProbe probe({.ping_ns = 5 * second_ns, .pong_ns = 3 * second_ns});
  probe.pass(8 * second_ns - 1);
  EXPECT_EQ(probe.take_story(), "<ping()");
  probe.pass(1);
  EXPECT_EQ(probe.take_story(), "<close(" + code(1011) + "keepalive ping timeout) finish end(1011 keepalive ping timeout)");
}

TEST(WebSocketSession, BlamesNoClientThatItDoesNotReadFrom) {
  WebSocketProbe probe({.ping_ns = 5 * second_ns, .pong_ns = 3 * second_ns});
  probe.pass(6 * second_ns);
  probe.session.set_reading(false);
  probe.pass(60 * second_ns);
  EXPECT_EQ(probe.take_story(), "<ping() stops");
  probe.session.set_reading(true);
  probe.pass(3 * second_ns - 1);
  EXPECT_EQ(probe.take_story(), "reads");
  probe.pass(1);
  EXPECT_TRUE(probe.take_story().ends_with("end(1011 keepalive ping timeout)"));
}

TEST(WebSocketSession, DoesNotPingOrEndWithoutLimits) {
  WebSocketProbe probe({.ping_ns = 0, .pong_ns = 0, .close_ns = 0});
  EXPECT_EQ(probe.session.deadline_ns(), WebSocketSession::never_ns);
  EXPECT_EQ(probe.session.close({1000}), nullptr);
  EXPECT_EQ(probe.session.deadline_ns(), WebSocketSession::never_ns);
  WebSocketProbe pings({.ping_ns = second_ns, .pong_ns = 0});
  pings.pass(3 * second_ns);
  EXPECT_EQ(pings.story, "<ping() <ping() <ping()");
}

TEST(WebSocketSession, EchoesInsideTheCallThatBringsTheMessage) {
  WebSocketProbe probe;
  probe.at_message = [&probe](MessageKind kind, std::string_view bytes) { EXPECT_EQ(probe.session.send(kind, bytes), nullptr); };
  probe.receive(text("a") + client_frame(Opcode::binary, "b"));
  EXPECT_EQ(probe.story, "text(a) <text(a) binary(b) <binary(b)");
}

}  // namespace
}  // namespace cxxloop::web
