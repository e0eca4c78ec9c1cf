// SPDX-License-Identifier: MIT
//
// web/core/characters.h: which bytes HTTP allows where (RFC 9110 5.6), and comparing names without regard to case.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace cxxloop::web {

namespace characters {
// Bits of a table of the 256 bytes.
inline constexpr uint8_t token = 1;   // methods, names of headers
inline constexpr uint8_t target = 2;  // what a request target is made of: visible ASCII
inline constexpr uint8_t value = 4;   // a header's value: visible, space, tab, and bytes above ASCII
inline constexpr uint8_t host = 8;    // RFC 3986: a registered name, percent signs included

consteval std::array<uint8_t, 256> make_table() {
  std::array<uint8_t, 256> table{};
  for (unsigned c = 0; c < 256; ++c) {
    const bool letter_or_digit = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    const auto is_one_of = [c](std::string_view set) { return c < 0x80 && set.find(static_cast<char>(c)) != set.npos; };
    if (letter_or_digit || is_one_of("!#$%&'*+-.^_`|~")) table[c] |= token;
    if (c > 0x20 && c < 0x7F) table[c] |= target;
    if (c == '\t' || (c >= 0x20 && c != 0x7F)) table[c] |= value;
    if (letter_or_digit || is_one_of("-._~%!$&'()*+,;=")) table[c] |= host;
  }
  return table;
}
inline constexpr std::array<uint8_t, 256> table = make_table();
}  // namespace characters

[[nodiscard]] inline bool is_in(uint8_t kind, char c) noexcept {
  return (characters::table[static_cast<unsigned char>(c)] & kind) != 0;
}

// The first byte from `at` on that is not of `kind`; `end` if there is none.
[[nodiscard]] inline const char* skip(uint8_t kind, const char* at, const char* end) noexcept {
  while (at != end && is_in(kind, *at)) ++at;
  return at;
}

// The first byte from `at` on that no value of a header may have; eight at a time.
[[nodiscard]] inline const char* skip_value(const char* at, const char* end) noexcept {
  constexpr uint64_t ones = 0x0101010101010101U;
  constexpr uint64_t tops = ones * 0x80;
  while (end - at >= 8) {
    uint64_t eight;
    std::memcpy(&eight, at, 8);
    const uint64_t below_space = (eight - ones * 0x20) & ~eight;
    const uint64_t deletes = eight ^ ones * 0x7F;
    if (((below_space | ((deletes - ones) & ~deletes)) & tops) != 0) {
      const char* const stop = skip(characters::value, at, at + 8);
      if (stop != at + 8) return stop;  // else it was a tab
    }
    at += 8;
  }
  return skip(characters::value, at, end);
}

[[nodiscard]] constexpr char lower(char c) noexcept { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; }

// `lower_case` has no capital.
[[nodiscard]] inline bool equals(std::string_view text, std::string_view lower_case) noexcept {
  if (text.size() != lower_case.size()) return false;
  for (size_t i = 0; i < text.size(); ++i) {
    if (lower(text[i]) != lower_case[i]) return false;
  }
  return true;
}

// Without spaces and tabs at both ends.
[[nodiscard]] inline std::string_view trim(std::string_view text) noexcept {
  const auto is_blank = [](char c) { return c == ' ' || c == '\t'; };
  while (!text.empty() && is_blank(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_blank(text.back())) text.remove_suffix(1);
  return text;
}

// f(element) for each element of a list of a header's value; empty ones are left out.
template <class F>
void each_element(std::string_view list, F&& f) noexcept {
  while (!list.empty()) {
    const size_t comma = list.find(',');
    const std::string_view element = trim(list.substr(0, comma));
    if (!element.empty()) f(element);
    list.remove_prefix(comma == list.npos ? list.size() : comma + 1);
  }
}

}  // namespace cxxloop::web
