// SPDX-License-Identifier: MIT
//
// web/core/chunked_decoder.h: a body in chunks (RFC 9112 7.1), strictly, and the trailers behind it.
//
// Keeps no bytes: a size line or a trailer section that is not whole yet is left to the caller, who calls again with more
// behind it. Both have a bound.
// Thread: any.  Python: none.  Owns: nothing; pieces and trailers point into the bytes that were given.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "web/core/request_head.h"

namespace cxxloop::web {

// Where the trailers of a body go: one serves all connections, because they are valid for a moment only.
class Trailers {
 public:
  static constexpr size_t count_max = 32;

  [[nodiscard]] std::span<const Header> all() const noexcept { return {trailers_.data(), count_}; }

 private:
  friend class ChunkedDecoder;

  std::array<Header, count_max> trailers_;
  size_t count_ = 0;
};

class ChunkedDecoder {
 public:
  static constexpr size_t size_line_bytes_max = 256;  // the size and its extensions
  static constexpr size_t trailer_bytes_max = 8 * 1024;

  enum class Kind : uint8_t { more, data, end, refused };
  struct Step {
    Kind kind;
    size_t used = 0;        // bytes at the front that are done with
    std::string_view data = {};  // of a Kind::data, never empty; points into what was given
  };

  // One step through `bytes`. more: all but the first `used` bytes are to be given again, with more behind them.
  // end: `trailers` has them until the bytes move. After end and refused nothing more may be given.
  [[nodiscard]] Step next(std::string_view bytes, Trailers& trailers) noexcept;
  [[nodiscard]] Refusal refusal() const noexcept { return refusal_; }

 private:
  enum class State : uint8_t { size, data, data_end, trailers };

  [[nodiscard]] Step read_size(std::string_view bytes, Trailers& trailers) noexcept;
  [[nodiscard]] Step read_data_end(std::string_view bytes, Trailers& trailers) noexcept;
  [[nodiscard]] Step read_trailers(std::string_view bytes, Trailers& trailers) noexcept;
  Step refuse(int status, const char* reason) noexcept {
    refusal_ = {status, reason};
    return {Kind::refused};
  }

  uint64_t left_ = 0;  // of the chunk
  Refusal refusal_;
  State state_ = State::size;
};

}  // namespace cxxloop::web
