// SPDX-License-Identifier: MIT
#include "web/core/utf8.h"

#include <cstring>

namespace cxxloop::web {
namespace {

// Eight bytes at a time.
const char* skip_ascii(const char* at, const char* end) noexcept {
  constexpr uint64_t tops = 0x8080808080808080U;
  while (end - at >= 8) {
    uint64_t eight;
    std::memcpy(&eight, at, 8);
    if ((eight & tops) != 0) break;
    at += 8;
  }
  while (at != end && static_cast<unsigned char>(*at) < 0x80) ++at;
  return at;
}

}  // namespace

bool Utf8Validator::accept(std::string_view bytes) noexcept {
  const char* at = bytes.data();
  const char* const end = at + bytes.size();
  Next next = next_;  // a local: a store through a char pointer may change a member, for all the compiler can tell
  for (;;) {
    for (; next.missing > 0 && at != end; ++at) {
      const auto byte = static_cast<unsigned char>(*at);
      if (byte < next.low || byte > next.high) return false;
      next = {static_cast<uint8_t>(next.missing - 1)};
    }
    at = next.missing == 0 ? skip_ascii(at, end) : at;
    if (at == end) break;
    next = after(static_cast<unsigned char>(*at++));
    if (next.missing == 0) return false;
  }
  next_ = next;
  return true;
}

// RFC 3629 4.
Utf8Validator::Next Utf8Validator::after(uint8_t first) noexcept {
  if (first < 0xC2 || first > 0xF4) return {};  // a byte inside a character, a long form, or above U+10FFFF
  if (first < 0xE0) return {1};
  if (first == 0xE0) return {2, 0xA0};        // long forms
  if (first == 0xED) return {2, 0x80, 0x9F};  // surrogates
  if (first < 0xF0) return {2};
  if (first == 0xF0) return {3, 0x90};        // long forms
  if (first == 0xF4) return {3, 0x80, 0x8F};  // above U+10FFFF
  return {3};
}

}  // namespace cxxloop::web
