// SPDX-License-Identifier: MIT
#include "web/core/websocket_frames.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "cpp/web/core/websocket_client.h"

namespace cxxloop::web {
namespace {

using namespace std::string_literals;

// What a decoder has read, in words: "text(hello) ping(x) 1002".
std::string read(const std::string& frames, size_t size, uint64_t message_bytes_max = 1 << 20, bool may_compress = false) {
  FrameDecoder decoder(message_bytes_max, may_compress);
  std::string words;
  std::string message;
  for (size_t begin = 0; begin < frames.size(); begin += size) {
    std::string piece = frames.substr(begin, size);
    for (std::span<char> left = piece;;) {
      const FrameDecoder::Step step = decoder.next(left);
      left = left.subspan(step.used);
      if (step.kind == FrameDecoder::Kind::more) {
        EXPECT_TRUE(left.empty());
        break;
      }
      if (step.kind == FrameDecoder::Kind::refused) return words + std::to_string(decoder.refusal().code);
      const std::string_view name = step.opcode == Opcode::text ? "text" : step.opcode == Opcode::binary ? "binary"
                                  : step.opcode == Opcode::ping ? "ping" : step.opcode == Opcode::pong ? "pong" : "close";
      if (step.kind == FrameDecoder::Kind::control) words.append(name).append("(").append(step.payload).append(") ");
      if (step.kind != FrameDecoder::Kind::data) continue;
      message += step.payload;
      if (!step.is_last) continue;
      words.append(step.is_compressed ? "compressed " : "").append(name).append("(").append(message).append(") ");
      message.clear();
    }
  }
  return words;
}

void expect_in_pieces_of_every_size(const std::string& frames, const std::string& words) {
  const size_t size_max = std::min<size_t>(frames.size(), 200);
  for (size_t size = 1; size <= size_max; ++size) ASSERT_EQ(read(frames, size), words) << testing::PrintToString(frames) << size;
  EXPECT_EQ(read(frames, frames.size()), words) << testing::PrintToString(frames.substr(0, 20));
}

TEST(FrameDecoder, ReadsTheMaskedExampleOfTheRfc) {
  expect_in_pieces_of_every_size("\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"s, "text(Hello) ");
}

// Autobahn 1.1, 1.2: payloads of all kinds of length.
TEST(FrameDecoder, ReadsPayloadsOfEveryLength) {
  for (const size_t size : {0, 1, 7, 8, 9, 125, 126, 127, 128, 65535, 65536, 100'000}) {
    const std::string payload(size, 'x');
    for (const size_t piece : {size_t{1}, size_t{3}, size_t{997}, size + 14}) {
      EXPECT_EQ(read(client_frame(Opcode::text, payload), piece), "text(" + payload + ") ") << size;
      EXPECT_EQ(read(client_frame(Opcode::binary, payload), piece), "binary(" + payload + ") ") << size;
    }
  }
}

struct Case {
  std::string frames;
  std::string words;
};
const std::string text_part = client_frame(Opcode::text, "fragment1", false);
const std::string last_part = client_frame(Opcode::continuation, "fragment2");

// Autobahn 2: pings and pongs.
TEST(FrameDecoder, ReadsControlFramesAnywhere) {
  const std::string all_bytes = "\x00\xff\xfe\xfd\xfc\xfb\x00\xff"s;
  const std::string longest(125, '*');
  const std::vector<Case> cases = {
      {client_frame(Opcode::ping, ""), "ping() "},
      {client_frame(Opcode::ping, all_bytes), "ping(" + all_bytes + ") "},
      {client_frame(Opcode::ping, longest), "ping(" + longest + ") "},
      {client_frame(Opcode::pong, "unsolicited") + client_frame(Opcode::ping, "x"), "pong(unsolicited) ping(x) "},
      {text_part + client_frame(Opcode::ping, "in between") + last_part, "ping(in between) text(fragment1fragment2) "},
      {text_part + client_frame(Opcode::ping, "") + client_frame(Opcode::pong, "") + last_part, "ping() pong() text(fragment1fragment2) "},
      {client_close(1000, "bye"), "close(\x03\xe8" "bye) "},
  };
  for (const Case& test : cases) expect_in_pieces_of_every_size(test.frames, test.words);
}

TEST(FrameDecoder, RefusesControlFramesThatAreTooLongOrInFragments) {
  for (const uint8_t opcode : {8, 9, 10}) {
    expect_in_pieces_of_every_size(client_frame({.first = static_cast<uint8_t>(0x80 | opcode), .payload = std::string(126, '*')}), "1002");
    expect_in_pieces_of_every_size(client_frame({.first = static_cast<uint8_t>(0x80 | opcode), .length_bytes = 8, .claimed_bytes = 126}), "1002");
    expect_in_pieces_of_every_size(client_frame({.first = opcode, .payload = "x"}), "1002");
  }
}

// Autobahn 3.
TEST(FrameDecoder, RefusesReservedBits) {
  for (const uint8_t opcode : {1, 2, 8, 9, 10}) {
    for (uint8_t bits = 1; bits < 8; ++bits) {
      const auto first = static_cast<uint8_t>(0x80 | bits << 4 | opcode);
      expect_in_pieces_of_every_size(client_frame(Opcode::text, "before") + client_frame({.first = first, .payload = "x"}), "text(before) 1002");
    }
  }
  expect_in_pieces_of_every_size(text_part + client_frame({.first = 0xC0, .payload = "x"}), "1002");
}

TEST(FrameDecoder, TakesTheBitOfCompressionOnTheFirstFrameOfAMessageOnly) {
  const std::string part = client_frame({.first = 0x41, .payload = "ab"});
  EXPECT_EQ(read(part + last_part, 3, 100, true), "compressed text(abfragment2) ");
  EXPECT_EQ(read(part + client_frame(Opcode::ping, "") + last_part + client_frame(Opcode::text, "c"), 1, 100, true),
            "ping() compressed text(abfragment2) text(c) ");
  EXPECT_EQ(read(part + client_frame({.first = 0xC0, .payload = "x"}), 1, 100, true), "1002");
  EXPECT_EQ(read(client_frame({.first = 0xC9, .payload = "x"}), 1, 100, true), "1002");
  EXPECT_EQ(read(client_frame({.first = 0xE1, .payload = "x"}), 1, 100, true), "1002");
}

// Autobahn 4.
TEST(FrameDecoder, RefusesReservedOpcodes) {
  for (const uint8_t opcode : {3, 4, 5, 6, 7, 11, 12, 13, 14, 15}) {
    for (const uint8_t final_bit : {0x00, 0x80}) {
      const std::string frame = client_frame({.first = static_cast<uint8_t>(final_bit | opcode), .payload = "x"});
      expect_in_pieces_of_every_size(client_frame(Opcode::text, "before") + frame, "text(before) 1002");
    }
  }
}

// Autobahn 5.
TEST(FrameDecoder, RefusesFragmentsOutOfOrder) {
  const std::vector<Case> cases = {
      {text_part + last_part, "text(fragment1fragment2) "},
      {client_frame(Opcode::text, "", false) + client_frame(Opcode::continuation, "", false) + client_frame(Opcode::continuation, ""), "text() "},
      {last_part, "1002"},
      {client_frame(Opcode::continuation, "x", false), "1002"},
      {text_part + last_part + last_part, "text(fragment1fragment2) 1002"},
      {text_part + client_frame(Opcode::text, "another"), "1002"},
      {text_part + client_frame(Opcode::binary, "another", false), "1002"},
      {text_part + client_frame(Opcode::continuation, "-", false) + last_part + client_frame(Opcode::binary, "b"), "text(fragment1-fragment2) binary(b) "},
  };
  for (const Case& test : cases) expect_in_pieces_of_every_size(test.frames, test.words);
}

TEST(FrameDecoder, RefusesFramesWithoutAMask) {
  for (const uint8_t first : {0x81, 0x82, 0x88, 0x89}) {
    expect_in_pieces_of_every_size(client_frame({.first = first, .payload = "x", .is_masked = false}), "1002");
  }
}

TEST(FrameDecoder, RefusesLengthsThatAreNotMinimalOrTooLarge) {
  for (const size_t size : {0, 1, 125}) {
    expect_in_pieces_of_every_size(client_frame({.payload = std::string(size, 'x'), .length_bytes = 2}), "1002");
    expect_in_pieces_of_every_size(client_frame({.payload = std::string(size, 'x'), .length_bytes = 8}), "1002");
  }
  expect_in_pieces_of_every_size(client_frame({.payload = std::string(126, 'x'), .length_bytes = 8}), "1002");
  expect_in_pieces_of_every_size(client_frame({.length_bytes = 8, .claimed_bytes = 0xFFFF}), "1002");
  expect_in_pieces_of_every_size(client_frame({.length_bytes = 8, .claimed_bytes = 0x8000000000000000U}), "1002");
  expect_in_pieces_of_every_size(client_frame({.length_bytes = 8, .claimed_bytes = 0x7FFFFFFFFFFFFFFFU}), "1009");
}

// Autobahn 9, 10: a limit counts what arrives, and the head of a frame is enough to pass it.
TEST(FrameDecoder, BoundsMessages) {
  const std::string ten = client_frame(Opcode::text, "0123456789");
  EXPECT_EQ(read(ten, 1, 10), "text(0123456789) ");
  EXPECT_EQ(read(ten, 1, 9), "1009");
  EXPECT_EQ(read(ten.substr(0, 6), 1, 9), "1009") << "before a byte of the payload";
  EXPECT_EQ(read(text_part + last_part, 1, 18), "text(fragment1fragment2) ");
  EXPECT_EQ(read(text_part + last_part + ten, 1, 18), "text(fragment1fragment2) text(0123456789) ") << "each message for itself";
  EXPECT_EQ(read(text_part + client_frame(Opcode::ping, "not counted") + last_part, 1, 17), "ping(not counted) 1009");
  EXPECT_EQ(read(text_part + client_frame({.first = 0x80, .length_bytes = 8, .claimed_bytes = 0x7FFFFFFFFFFFFFFFU}), 1, UINT64_MAX >> 1), "1009");
}

TEST(FrameDecoder, UnmasksWhereThePayloadLies) {
  std::string frames = client_frame(Opcode::binary, "0123456789abcdef");
  FrameDecoder decoder(100, false);
  const FrameDecoder::Step step = decoder.next(frames);
  EXPECT_EQ(step.payload, "0123456789abcdef");
  EXPECT_EQ(step.payload.data(), frames.data() + 6);
}

TEST(FrameHead, IsTheOneOfTheRfcsExamples) {
  EXPECT_EQ(FrameHead(Opcode::text, 5, false).view(), "\x81\x05");
  EXPECT_EQ(FrameHead(Opcode::text, 7, true).view(), "\xc1\x07");
  EXPECT_EQ(FrameHead(Opcode::ping, 5, false).view(), "\x89\x05");
  EXPECT_EQ(FrameHead(Opcode::binary, 125, false).view(), "\x82\x7D");
  EXPECT_EQ(FrameHead(Opcode::binary, 126, false).view(), "\x82\x7E\x00\x7E"s);
  EXPECT_EQ(FrameHead(Opcode::binary, 256, false).view(), "\x82\x7E\x01\x00"s);
  EXPECT_EQ(FrameHead(Opcode::binary, 65535, false).view(), "\x82\x7E\xFF\xFF"s);
  EXPECT_EQ(FrameHead(Opcode::binary, 65536, false).view(), "\x82\x7F\x00\x00\x00\x00\x00\x01\x00\x00"s);
}

// Autobahn 7.7, 7.9, 7.13.
TEST(CloseCode, IsOneThatMayBeSent) {
  for (const uint16_t code : {1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999}) {
    EXPECT_TRUE(is_close_code(code)) << code;
  }
  for (const uint16_t code : {0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535}) EXPECT_FALSE(is_close_code(code)) << code;
}

TEST(ReadClose, TellsCodeAndReason) {
  EXPECT_EQ(read_close("").close.code, 1005);
  EXPECT_EQ(read_close("").refusal.code, 0);
  const ReceivedClose bye = read_close("\x03\xe9" "bye");
  EXPECT_EQ(bye.close.code, 1001);
  EXPECT_EQ(bye.close.reason, "bye");
  EXPECT_EQ(bye.refusal.code, 0);
  EXPECT_EQ(read_close("\x03").refusal.code, 1002);
  EXPECT_EQ(read_close("\x03\xed").refusal.code, 1002) << "1005";
  EXPECT_EQ(read_close("\x00\x00"s).refusal.code, 1002);
  EXPECT_EQ(read_close("\x03\xe8\xff").refusal.code, 1007);
  EXPECT_EQ(read_close("\x03\xe8\xe2\x82").refusal.code, 1007) << "half a character";
}

TEST(ClosePayload, IsMadeOfWhatMayBeSent) {
  EXPECT_EQ(ClosePayload::make({1000, "bye"})->view(), "\x03\xe8" "bye");
  EXPECT_EQ(ClosePayload::make({1005})->view(), "");
  EXPECT_EQ(ClosePayload::make({1000, std::string(123, 'x')})->view().size(), 125U);
  EXPECT_FALSE(ClosePayload::make({1000, std::string(124, 'x')}));
  EXPECT_FALSE(ClosePayload::make({1000, "\xff"}));
  EXPECT_FALSE(ClosePayload::make({1005, "a reason without a code"}));
  EXPECT_FALSE(ClosePayload::make({1006}));
  EXPECT_FALSE(ClosePayload::make({1015}));
}

}  // namespace
}  // namespace cxxloop::web
