// SPDX-License-Identifier: MIT
#include "web/core/utf8.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace cxxloop::web {
namespace {

// The position of the byte at which the text is refused when it comes byte by byte; npos: it is not refused.
size_t refused_at(std::string_view text) {
  Utf8Validator validator;
  for (size_t i = 0; i < text.size(); ++i) {
    if (!validator.accept(text.substr(i, 1))) return i;
  }
  return std::string_view::npos;
}

// The definition of RFC 3629, code point by code point.
std::string encoded(uint32_t point) {
  const auto byte = [](uint32_t value) { return static_cast<char>(value); };
  if (point < 0x80) return {byte(point)};
  if (point < 0x800) return {byte(0xC0 | point >> 6), byte(0x80 | (point & 0x3F))};
  if (point < 0x10000) return {byte(0xE0 | point >> 12), byte(0x80 | (point >> 6 & 0x3F)), byte(0x80 | (point & 0x3F))};
  return {byte(0xF0 | point >> 18), byte(0x80 | (point >> 12 & 0x3F)), byte(0x80 | (point >> 6 & 0x3F)), byte(0x80 | (point & 0x3F))};
}

TEST(Utf8Validator, TakesEveryCodePointButSurrogates) {
  for (uint32_t point = 0; point < 0x110000; ++point) {
    const bool is_surrogate = point >= 0xD800 && point <= 0xDFFF;
    ASSERT_EQ(is_utf8(encoded(point)), !is_surrogate) << std::hex << point;
  }
  for (const uint32_t point : {0x110000U, 0x13FFFFU, 0x1FFFFFU}) EXPECT_FALSE(is_utf8(encoded(point))) << std::hex << point;
}

TEST(Utf8Validator, TakesExactlyTheSequencesOfTwoBytesThatTheDefinitionHas) {
  for (unsigned first = 0; first < 256; ++first) {
    for (unsigned second = 0; second < 256; ++second) {
      const std::string text = {static_cast<char>(first), static_cast<char>(second)};
      const bool two = first >= 0xC2 && first <= 0xDF && second >= 0x80 && second <= 0xBF;
      ASSERT_EQ(is_utf8(text), two || (first < 0x80 && second < 0x80)) << std::hex << first << " " << second;
    }
  }
}

struct Refused {
  std::string text;
  size_t at;
};

TEST(Utf8Validator, RefusesAtTheFirstImpossibleByte) {
  const std::vector<Refused> cases = {
      {"\x80", 0}, {"a\xBF", 1}, {"\xC0\x80", 0}, {"\xC1\xBF", 0}, {"\xC2\x41", 1}, {"\xE0\x80\x80", 1}, {"\xE0\x9F\xBF", 1},
      {"\xED\xA0\x80", 1}, {"\xED\xBF\xBF", 1}, {"\xE2\x82\x41", 2}, {"\xF0\x80\x80\x80", 1}, {"\xF0\x8F\xBF\xBF", 1},
      {"\xF4\x90\x80\x80", 1}, {"\xF5\x80\x80\x80", 0}, {"\xF8\x88\x80\x80\x80", 0}, {"\xFC\x84\x80\x80\x80\x80", 0}, {"\xFE", 0}, {"\xFF", 0},
      {"\xCE\xBA\xE1\xBD\xB9\xCF\x83\xCE\xBC\xCE\xB5\xED\xA0\x80" "edited", 12},  // Autobahn 6.3, 6.4
      {"\xCE\xBA\xE1\xBD\xB9\xCF\x83\xCE\xBC\xCE\xB5\xF4\x90\x80\x80" "edited", 12},
      {"0123456789abcdef\xFF", 16},
  };
  for (const Refused& test : cases) {
    EXPECT_EQ(refused_at(test.text), test.at) << testing::PrintToString(test.text);
    Utf8Validator validator;
    EXPECT_FALSE(validator.accept(test.text)) << testing::PrintToString(test.text);
  }
}

TEST(Utf8Validator, IsIncompleteInsideACharacterOnly) {
  for (const std::string& text : {encoded(0xE9), encoded(0x20AC), encoded(0x1F600)}) {
    for (size_t size = 1; size < text.size(); ++size) {
      Utf8Validator validator;
      EXPECT_TRUE(validator.accept("plain " + text.substr(0, size)));
      EXPECT_FALSE(validator.is_complete());
      EXPECT_TRUE(validator.accept(""));
      EXPECT_FALSE(validator.is_complete());
      EXPECT_TRUE(validator.accept(text.substr(size)));
      EXPECT_TRUE(validator.is_complete());
    }
  }
}

TEST(Utf8Validator, SaysTheSameWhereverTheTextIsCut) {
  std::string text = "ASCII that is longer than eight bytes, ";
  for (const uint32_t point : {0x80U, 0x7FFU, 0x800U, 0xFFFFU, 0x10000U, 0x10FFFFU}) text += encoded(point) + "01234567";
  for (size_t first = 0; first <= text.size(); ++first) {
    for (size_t second = first; second <= text.size(); ++second) {
      Utf8Validator validator;
      const std::string_view view = text;
      EXPECT_TRUE(validator.accept(view.substr(0, first)) && validator.accept(view.substr(first, second - first)) &&
                  validator.accept(view.substr(second)) && validator.is_complete())
          << first << " " << second;
    }
  }
}

TEST(Utf8Validator, BeginsAnewAfterReset) {
  Utf8Validator validator;
  EXPECT_TRUE(validator.accept("\xE2\x82"));
  validator.reset();
  EXPECT_TRUE(validator.is_complete());
  EXPECT_TRUE(validator.accept("a"));
}

}  // namespace
}  // namespace cxxloop::web
