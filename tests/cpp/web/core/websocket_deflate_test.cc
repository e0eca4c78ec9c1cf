// SPDX-License-Identifier: MIT
#include "web/core/websocket_deflate.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

namespace cxxloop::web {
namespace {

using namespace std::string_literals;
using Outcome = MessageInflater::Outcome;

// The response's header; "-": declined; "!": no list of extensions.
std::string answer(const std::vector<std::string>& offers, const DeflateOptions& options = {}) {
  DeflateNegotiation negotiation(options);
  for (const std::string& offer : offers) {
    if (!negotiation.take(offer)) return "!";
  }
  if (!negotiation.agreed()) return "-";
  ByteBuffer out;
  EXPECT_TRUE(negotiation.append_response(out));
  return std::string(out.view());
}

struct Negotiated {
  std::string offer;
  std::string response;
};

// Autobahn 13: the offers of its seven cases, and what else clients send.
TEST(DeflateNegotiation, AnswersWhatItCanKeep) {
  const std::string plain = "permessage-deflate; server_max_window_bits=12";
  const std::vector<Negotiated> cases = {
      {"permessage-deflate", plain},
      {"permessage-deflate; client_max_window_bits", plain + "; client_max_window_bits=12"},  // browsers
      {"permessage-deflate; client_max_window_bits=10", plain + "; client_max_window_bits=10"},
      {"permessage-deflate; client_max_window_bits=8", plain + "; client_max_window_bits=8"},
      {"permessage-deflate; client_max_window_bits=15", plain + "; client_max_window_bits=12"},
      {"permessage-deflate; server_no_context_takeover", "permessage-deflate; server_no_context_takeover; server_max_window_bits=12"},
      {"permessage-deflate; client_no_context_takeover", "permessage-deflate; client_no_context_takeover; server_max_window_bits=12"},
      {"permessage-deflate; server_max_window_bits=9", "permessage-deflate; server_max_window_bits=9"},
      {"permessage-deflate; server_max_window_bits=15", plain},
      {"permessage-deflate; server_max_window_bits=\"10\"", "permessage-deflate; server_max_window_bits=10"},
      {"permessage-deflate;server_no_context_takeover ;\tclient_max_window_bits = 9 ",
       "permessage-deflate; server_no_context_takeover; server_max_window_bits=12; client_max_window_bits=9"},
      {" , x-webkit-deflate-frame,, permessage-deflate ,", plain},
      {"permessage-deflate; server_max_window_bits=8, permessage-deflate", plain},
      {"permessage-deflate; unknown, permessage-deflate; server_max_window_bits=11, permessage-deflate",
       "permessage-deflate; server_max_window_bits=11"},
  };
  for (const Negotiated& test : cases) EXPECT_EQ(answer({test.offer}), test.response) << test.offer;
  EXPECT_EQ(answer({"x-other; a=b", "permessage-deflate; server_max_window_bits=10", "permessage-deflate"}), "permessage-deflate; server_max_window_bits=10");
}

TEST(DeflateNegotiation, DeclinesOffersThatItCannotKeep) {
  for (const char* const offer :
       {"", "x-webkit-deflate-frame", "Permessage-deflate", "permessage-deflate; unknown", "permessage-deflate; unknown=1",
        "permessage-deflate; server_no_context_takeover=true", "permessage-deflate; client_no_context_takeover=1",
        "permessage-deflate; server_no_context_takeover; server_no_context_takeover", "permessage-deflate; server_max_window_bits",
        "permessage-deflate; server_max_window_bits=7", "permessage-deflate; server_max_window_bits=16", "permessage-deflate; server_max_window_bits=09",
        "permessage-deflate; server_max_window_bits=+9", "permessage-deflate; server_max_window_bits=9x", "permessage-deflate; server_max_window_bits=265",
        "permessage-deflate; server_max_window_bits=9; server_max_window_bits=9", "permessage-deflate; client_max_window_bits=7",
        "permessage-deflate; client_max_window_bits=16", "permessage-deflate; client_max_window_bits; client_max_window_bits",
        // zlib writes no raw stream with a window of 256 bytes.
        "permessage-deflate; server_max_window_bits=8"}) {
    EXPECT_EQ(answer({offer}), "-") << offer;
  }
}

TEST(DeflateNegotiation, RefusesWhatIsNoList) {
  for (const char* const offer : {"permessage-deflate;", "permessage-deflate; =1", ";", "permessage-deflate client", "permessage-deflate; a=", "a; b=\"c",
                                  "a; b=\"\"", "a; b=\"c d\"", "a, b, (", "permessage-deflate; server_max_window_bits=10=11", "a/b"}) {
    EXPECT_EQ(answer({offer}), "!") << offer;
  }
}

TEST(DeflateNegotiation, AsksForWhatTheServerWants) {
  const DeflateOptions small = {.server_window_bits = 9, .client_window_bits = 8, .server_no_context_takeover = true, .client_no_context_takeover = true};
  EXPECT_EQ(answer({"permessage-deflate; client_max_window_bits"}, small),
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=9; client_max_window_bits=8");
  const DeflateOptions large = {.server_window_bits = 15, .client_window_bits = 15};
  EXPECT_EQ(answer({"permessage-deflate; client_max_window_bits"}, large), "permessage-deflate");
  EXPECT_EQ(answer({"permessage-deflate; server_max_window_bits=15"}, large), "permessage-deflate; server_max_window_bits=15");
}

// A message whose payload comes in pieces of `size` bytes.
Outcome inflate(MessageInflater& inflater, std::string_view payload, size_t size, std::string& message, uint64_t bytes_max = UINT64_MAX) {
  ByteBuffer out;
  Outcome outcome = Outcome::ok;
  for (size_t begin = 0; outcome == Outcome::ok; begin += size) {
    const bool is_last = begin + size >= payload.size();
    outcome = inflater.inflate(payload.substr(begin, size), is_last, out, bytes_max);
    if (is_last) break;
  }
  message = out.view();
  return outcome;
}

// RFC 7692 7.2.3.1 to 7.2.3.6.
TEST(MessageInflater, ReadsTheExamplesOfTheRfc) {
  const std::string hello = "\xf2\x48\xcd\xc9\xc9\x07\x00"s;
  const std::vector<std::vector<std::string>> connections = {
      {hello},
      {hello, "\xf2\x00\x11\x00\x00"s},                              // context taken over
      {"\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00"s},              // not compressed
      {"\xf3\x48\xcd\xc9\xc9\x07\x00\x00"s, "\xf2\x00\x11\x00\x00"s},  // a last block
      {"\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00"s},      // two blocks
  };
  for (const std::vector<std::string>& payloads : connections) {
    for (size_t size = 1; size <= 16; ++size) {
      MessageInflater inflater({});
      for (const std::string& payload : payloads) {
        std::string message;
        EXPECT_EQ(inflate(inflater, payload, size, message), Outcome::ok) << testing::PrintToString(payload) << size;
        EXPECT_EQ(message, "Hello") << testing::PrintToString(payload) << size;
      }
    }
  }
}

TEST(MessageInflater, ReadsEmptyMessagesWithAndWithoutABlock) {
  MessageInflater inflater({});
  for (const std::string& payload : {"\0"s, ""s, "\xf2\x48\xcd\xc9\xc9\x07\x00"s, ""s, "\0"s}) {
    std::string message;
    EXPECT_EQ(inflate(inflater, payload, 100, message), Outcome::ok);
    EXPECT_EQ(message, payload.size() > 1 ? "Hello" : "");
  }
}

TEST(MessageInflater, RefusesWhatIsNoCompressedMessage) {
  const std::vector<std::string> payloads = {
      "\xff\xff\xff"s,               // a type of block that there is not
      "\xf2\x48\xcd\xc9"s,           // ends inside a block
      "\x00\x05\x00\xfa\xfe"s,       // a length that its complement denies
      "\xf2\x00\x11\x00\x00"s,       // refers to what never came
      "\xf3\x48\xcd\xc9\xc9\x07\x00"s,  // ends behind a last block, without the next block's first bits
  };
  for (const std::string& payload : payloads) {
    for (size_t size = 1; size <= payload.size(); ++size) {
      MessageInflater inflater({});
      std::string message;
      EXPECT_EQ(inflate(inflater, payload, size, message), Outcome::corrupt) << testing::PrintToString(payload) << size;
    }
  }
}

std::string deflated(MessageDeflater& deflater, std::string_view message) {
  ByteBuffer out;
  EXPECT_TRUE(deflater.deflate(message, out));
  return std::string(out.view());
}

// Autobahn 12, 13: messages of all sizes through every agreement.
TEST(MessageDeflater, IsReadByTheInflaterWhateverWasAgreedUpon) {
  std::mt19937 random(5);
  std::string noise(70'000, '\0');
  std::generate(noise.begin(), noise.end(), [&random] { return static_cast<char>(random()); });
  std::string text;
  while (text.size() < 140'000) text += "line " + std::to_string(random() % 1000) + "\n";
  for (uint8_t bits = 9; bits <= 15; ++bits) {
    for (const bool forgets : {false, true}) {
      const DeflateParameters parameters = {bits, bits, forgets, forgets};
      MessageDeflater deflater(parameters);
      MessageInflater inflater(parameters);
      for (const size_t size : {0, 0, 1, 16, 64, 256, 1024, 4096, 8192, 16384, 32768, 65536, 0, 5}) {
        for (const std::string& whole : {noise.substr(0, size), text.substr(0, size)}) {
          std::string message;
          EXPECT_EQ(inflate(inflater, deflated(deflater, whole), 1000, message), Outcome::ok);
          EXPECT_EQ(message, whole);
        }
      }
      std::string message;
      EXPECT_EQ(inflate(inflater, deflated(deflater, text), 4096, message), Outcome::ok);
      EXPECT_EQ(message, text);
    }
  }
}

// However much room zlib finds: the end of its output may meet the end of the buffer.
TEST(MessageDeflater, WritesTheSameIntoBuffersOfEveryFill) {
  const std::string text(300, 'a');
  MessageDeflater first({});
  const std::string expected = deflated(first, text + "bcd");
  for (size_t fill = 0; fill < 600; ++fill) {
    ByteBuffer out;
    ASSERT_TRUE(out.append(std::string(fill, '-')));
    MessageDeflater deflater({});
    ASSERT_TRUE(deflater.deflate(text + "bcd", out));
    ASSERT_EQ(out.view().substr(fill), expected) << fill;
  }
}

TEST(MessageDeflater, RemembersTheMessageBeforeUnlessItMustNot) {
  const std::string message = "a message without much repetition 0123456789";
  MessageDeflater remembers({});
  MessageDeflater forgets({.server_no_context_takeover = true});
  const std::string first = deflated(remembers, message);
  EXPECT_LT(deflated(remembers, message).size(), first.size() / 2);
  EXPECT_EQ(deflated(forgets, message), first);
  EXPECT_EQ(deflated(forgets, message), first);
}

TEST(MessageInflater, ForgetsTheMessageBeforeIfTheClientDoes) {
  MessageDeflater remembers({});
  const std::string message = "a message without much repetition 0123456789";
  MessageInflater inflater({.client_no_context_takeover = true});
  std::string read;
  EXPECT_EQ(inflate(inflater, deflated(remembers, message), 100, read), Outcome::ok);
  EXPECT_EQ(inflate(inflater, deflated(remembers, message), 100, read), Outcome::corrupt) << "it refers to what was forgotten";
}

TEST(MessageInflater, StopsABombAtTheLimitAndNotBehindIt) {
  MessageDeflater deflater({});
  const std::string bomb = deflated(deflater, std::string(20'000'000, '\0'));
  EXPECT_LT(bomb.size(), 200'000U);
  for (const uint64_t bytes_max : {uint64_t{0}, uint64_t{1}, uint64_t{1000}, uint64_t{65536}, uint64_t{19'999'999}}) {
    MessageInflater inflater({});
    ByteBuffer out;
    EXPECT_EQ(inflater.inflate(bomb, true, out, bytes_max), Outcome::too_big);
    EXPECT_EQ(out.size(), bytes_max + 1);
    EXPECT_LE(out.capacity(), 4 * bytes_max + 100'000) << "what is not wanted takes no memory";
  }
  MessageInflater inflater({});
  ByteBuffer out;
  EXPECT_EQ(inflater.inflate(bomb, true, out, 20'000'000), Outcome::ok);
  EXPECT_EQ(out.size(), 20'000'000U);
}

}  // namespace
}  // namespace cxxloop::web
