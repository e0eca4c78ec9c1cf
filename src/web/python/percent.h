// SPDX-License-Identifier: MIT
//
// web/python/percent.h: decodes percent signs, as urllib.parse.unquote() does.
//
// Thread: any.  Python: none.
#pragma once

#include <cstddef>
#include <string_view>

#include "web/core/characters.h"

namespace cxxloop::python {

// The value of a hexadecimal digit; -1: it is none.
[[nodiscard]] inline int hex_digit_of(char c) noexcept {
  if (c >= '0' && c <= '9') return c - '0';
  c = web::lower(c);
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

// Writes the bytes that `text` stands for to `target`, where there is room for all of it, and returns how many they are. Percent
// signs that no two hexadecimal digits follow stay.
[[nodiscard]] inline size_t unquote(std::string_view text, char* target) noexcept {
  char* const begin = target;
  for (size_t i = 0; i < text.size(); ++i) {
    const bool is_escape =
        text[i] == '%' && i + 2 < text.size() && hex_digit_of(text[i + 1]) >= 0 && hex_digit_of(text[i + 2]) >= 0;
    *target++ = is_escape ? static_cast<char>(hex_digit_of(text[i + 1]) << 4 | hex_digit_of(text[i + 2])) : text[i];
    if (is_escape) i += 2;
  }
  return static_cast<size_t>(target - begin);
}

}  // namespace cxxloop::python
