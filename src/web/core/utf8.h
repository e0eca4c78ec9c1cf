// SPDX-License-Identifier: MIT
//
// web/core/utf8.h: checks that text which arrives in pieces is UTF-8 (RFC 3629): no surrogate, no long form, no code point
// above U+10FFFF.
//
// Thread: any.  Python: none.  Owns: nothing; keeps no bytes.
#pragma once

#include <cstdint>
#include <string_view>

namespace cxxloop::web {

class Utf8Validator {
 public:
  // False at the first byte that no valid text can have there, though a character be cut short; the text is refused then,
  // and reset() comes before anything else.
  [[nodiscard]] bool accept(std::string_view bytes) noexcept;
  // True exactly when the text does not end inside a character.
  [[nodiscard]] bool is_complete() const noexcept { return next_.missing == 0; }
  void reset() noexcept { next_ = {}; }

 private:
  // What the next byte of a character that has begun must be.
  struct Next {
    uint8_t missing = 0;  // bytes of the character
    uint8_t low = 0x80;   // of the next one
    uint8_t high = 0xBF;
  };

  // What has to follow the first byte of a character above ASCII; nothing missing: the byte is no first byte.
  [[nodiscard]] static Next after(uint8_t first) noexcept;

  Next next_;
};

[[nodiscard]] inline bool is_utf8(std::string_view text) noexcept {
  Utf8Validator validator;
  return validator.accept(text) && validator.is_complete();
}

}  // namespace cxxloop::web
