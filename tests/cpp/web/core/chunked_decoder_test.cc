// SPDX-License-Identifier: MIT
#include "web/core/chunked_decoder.h"

#include <gtest/gtest.h>

#include <string>

namespace cxxloop::web {
namespace {

using Kind = ChunkedDecoder::Kind;

struct Decoded {
  Kind kind = Kind::more;
  std::string data;
  std::string trailers;
  size_t used = 0;
  int status = 0;
  std::string reason;
};

// `text` comes in pieces of `size` bytes; what the decoder leaves is given again.
Decoded decode(std::string_view text, size_t size) {
  ChunkedDecoder decoder;
  Trailers trailers;
  Decoded decoded;
  for (size_t given = std::min(size, text.size());;) {
    const ChunkedDecoder::Step step = decoder.next(text.substr(decoded.used, given - decoded.used), trailers);
    decoded.used += step.used;
    decoded.data += step.data;
    decoded.kind = step.kind;
    if (step.kind == Kind::data) continue;
    if (step.kind != Kind::more || given == text.size()) break;
    given = std::min(given + size, text.size());
  }
  for (const Header& trailer : trailers.all()) decoded.trailers += std::string(trailer.name) + "=" + std::string(trailer.value) + ";";
  decoded.status = decoder.refusal().status;
  decoded.reason = decoder.refusal().reason;
  return decoded;
}

TEST(ChunkedDecoder, GivesTheSameInPiecesOfEverySize) {
  const std::string text = "5\r\nhello\r\n00a;name=\"v;\"\r\n, worlds!!\r\nF ;x\r\n" + std::string(15, 'f') + "\r\n0\r\nA: b\r\nC:d \r\n\r\nGET /";
  // A space in front of an extension is no extension.
  EXPECT_EQ(decode(text, text.size()).status, 400);
  const std::string right = text.substr(0, text.find("F ;x")) + "F;x" + text.substr(text.find("F ;x") + 4);
  for (size_t size = 1; size <= right.size(); ++size) {
    const Decoded decoded = decode(right, size);
    ASSERT_EQ(decoded.kind, Kind::end) << size << decoded.reason;
    EXPECT_EQ(decoded.data, "hello, worlds!!" + std::string(15, 'f')) << size;
    EXPECT_EQ(decoded.trailers, "A=b;C=d;") << size;
    EXPECT_EQ(decoded.used, right.size() - 5) << size;
  }
}

TEST(ChunkedDecoder, KnowsALargeChunkFromOneThatIsTooLarge) {
  EXPECT_EQ(decode("7fffffffffffffff\r\nx", 100).data, "x");
  EXPECT_EQ(decode("8000000000000000\r\nx", 100).status, 400);
  EXPECT_EQ(decode("00000000000000005\r\nhello", 100).status, 400) << "17 digits";
}

TEST(ChunkedDecoder, IsNotAtTheEndBeforeTheEmptyLine) {
  EXPECT_EQ(decode("0\r\n", 100).kind, Kind::more);
  EXPECT_EQ(decode("0\r\nA: b\r\n", 100).kind, Kind::more);
  EXPECT_EQ(decode("0\r\n\r", 100).kind, Kind::more);
  EXPECT_EQ(decode("0\r\n\r\n", 100).kind, Kind::end);
}

class RefusedChunks : public testing::TestWithParam<std::string> {};

TEST_P(RefusedChunks, AreRefusedInPiecesOfEverySize) {
  for (size_t size = 1; size <= GetParam().size(); ++size) {
    const Decoded decoded = decode(GetParam(), size);
    EXPECT_EQ(decoded.kind, Kind::refused) << testing::PrintToString(GetParam()) << size;
    EXPECT_EQ(decoded.status, 400) << testing::PrintToString(GetParam());
  }
}

using namespace std::string_literals;

INSTANTIATE_TEST_SUITE_P(Sizes, RefusedChunks, testing::Values(
    "+5\r\nhello"s, "-5\r\nhello"s, "0x5\r\nhello"s, " 5\r\nhello"s, "5 \r\nhello"s, "5\t\r\nhello"s, "\r\nhello"s, ";x\r\nhello"s, "g\r\nhello"s,
    "10000000000000000\r\nx"s, "ffffffffffffffffff\r\nx"s, "5\nhello"s, "5\r\r\nhello"s, "5;a\nb\r\nhello"s, "5;a\rb\r\nhello"s,
    "5;\x01\r\nhello"s, "5;a\0b\r\nhello"s, "5_0\r\nhello"s, "5;" + std::string(300, 'x') + "\r\nhello"));

INSTANTIATE_TEST_SUITE_P(Ends, RefusedChunks, testing::Values(
    "5\r\nhelloX\r\n0\r\n\r\n"s, "5\r\nhello\n0\r\n\r\n"s, "5\r\nhello\rX"s, "5\r\nhello0\r\n\r\n"s, "0\r\n\n"s, "0\r\nA: b\n\r\n"s));

INSTANTIATE_TEST_SUITE_P(Trailers, RefusedChunks, testing::Values(
    "0\r\nContent-Length: 5\r\n\r\n"s, "0\r\nTransfer-Encoding: chunked\r\n\r\n"s, "0\r\nHOST: a\r\n\r\n"s, "0\r\nAuthorization: b\r\n\r\n"s,
    "0\r\nA : b\r\n\r\n"s, "0\r\nA\r\n\r\n"s, "0\r\n folded\r\n\r\n"s, "0\r\nA: b\r\n folded\r\n\r\n"s, "0\r\nA: \0\r\n\r\n"s));

TEST(ChunkedDecoder, BoundsTheTrailers) {
  std::string many = "0\r\n";
  for (int i = 0; i < 33; ++i) many += "A: b\r\n";
  EXPECT_EQ(decode(many + "\r\n", 10'000).status, 431);
  const std::string large = "0\r\nA: " + std::string(9000, 'x');
  EXPECT_EQ(decode(large + "\r\n\r\n", 20'000).status, 431);
  EXPECT_EQ(decode(large, 100).status, 431) << "before their end has come";
}

}  // namespace
}  // namespace cxxloop::web
