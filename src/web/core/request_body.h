// SPDX-License-Identifier: MIT
//
// web/core/request_body.h: what is left of a request's body, however it is framed; decoded from the bytes at hand.
//
// Thread: any.  Python: none.  Owns: nothing; pieces point into the bytes that were given.
#pragma once

#include <cstdint>
#include <string_view>

#include "web/core/chunked_decoder.h"
#include "web/core/request_head.h"

namespace cxxloop::web {

class RequestBody {
 public:
  using Kind = ChunkedDecoder::Kind;
  using Step = ChunkedDecoder::Step;

  // Of the request with this head.
  void begin(const RequestHead& head) noexcept;
  // One step through `bytes`, as ChunkedDecoder::next(). A body of more than `bytes_max` is refused with 413; 0: none is.
  // After end: end again, without trailers. After refused: refused.
  [[nodiscard]] Step next(std::string_view bytes, uint64_t bytes_max, Trailers& trailers) noexcept;
  // True exactly when nothing of the body is left.
  [[nodiscard]] bool is_over() const noexcept { return state_ == State::over; }
  // True exactly when it could have trailers.
  [[nodiscard]] bool is_chunked() const noexcept { return is_chunked_; }
  // Why next() has refused; else of no meaning.
  [[nodiscard]] Refusal refusal() const noexcept;

 private:
  // length or chunked -> over or refused; over at once without a body.
  enum class State : uint8_t { length, chunked, over, refused };

  ChunkedDecoder decoder_;
  uint64_t bytes_ = 0;  // length: what is left; chunked: what has come
  State state_ = State::over;
  bool is_chunked_ = false;
};

}  // namespace cxxloop::web
