// SPDX-License-Identifier: MIT
//
// web/core/header_line.h: one line of a head or of trailers: name, colon, value (RFC 9112 5).
#pragma once

#include <string_view>

#include "web/core/characters.h"

namespace cxxloop::web {

struct Header {
  std::string_view name;   // as it was sent
  std::string_view value;  // without the white space around it
};

// Returns what is behind the line's CR LF; null: it is no header. REQUIRES: a LF in front of `end`.
[[nodiscard]] inline const char* parse_header_line(const char* at, const char* end, Header& header) noexcept {
  const char* stop = skip(characters::token, at, end);
  if (stop == at || stop == end || *stop != ':') return nullptr;
  header.name = {at, stop};
  at = stop + 1;
  stop = skip_value(at, end);
  // Whatever stops earlier than the line's end is no byte of a value.
  if (end - stop < 2 || stop[0] != '\r' || stop[1] != '\n') return nullptr;
  header.value = trim({at, stop});
  return stop + 2;
}

}  // namespace cxxloop::web
