// SPDX-License-Identifier: MIT
#include "web/core/sha1.h"

#include <gtest/gtest.h>

#include <string>

namespace cxxloop::web {
namespace {

std::string hex(std::string_view text) {
  std::string digits;
  for (const uint8_t byte : sha1(text)) {
    for (const int digit : {byte >> 4, byte & 15}) digits.push_back("0123456789abcdef"[digit]);
  }
  return digits;
}

// The examples of FIPS 180 and RFC 3174.
TEST(Sha1, HashesTheExamplesOfTheStandard) {
  EXPECT_EQ(hex(""), "da39a3ee5e6b4b0d3255bfef95601890afd80709");
  EXPECT_EQ(hex("abc"), "a9993e364706816aba3e25717850c26c9cd0d89d");
  EXPECT_EQ(hex("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"), "84983e441c3bd26ebaae4aa1f95129e5e54670f1");
  EXPECT_EQ(hex(std::string(1'000'000, 'a')), "34aa973cd4c4daa4f61eeb2bdbad27316534016f");
}

// Where the padding moves into a block of its own.
TEST(Sha1, PadsTextsOfEveryLength) {
  EXPECT_EQ(hex(std::string(55, 'a')), "c1c8bbdc22796e28c0e15163d20899b65621d65a");
  EXPECT_EQ(hex(std::string(56, 'a')), "c2db330f6083854c99d4b5bfb6e8f29f201be699");
  EXPECT_EQ(hex(std::string(63, 'a')), "03f09f5b158a7a8cdad920bddc29b81c18a551f5");
  EXPECT_EQ(hex(std::string(64, 'a')), "0098ba824b5c16427bd7a1122a5a442a25ec644d");
  EXPECT_EQ(hex(std::string(119, 'a')), "ee971065aaa017e0632a8ca6c77bb3bf8b1dfc56");
  EXPECT_EQ(hex(std::string(120, 'a')), "f34c1488385346a55709ba056ddd08280dd4c6d6");
}

}  // namespace
}  // namespace cxxloop::web
