// SPDX-License-Identifier: MIT
#include "web/core/request_body.h"

#include <algorithm>

namespace cxxloop::web {

void RequestBody::begin(const RequestHead& head) noexcept {
  bytes_ = head.framing == Framing::length ? head.content_length : 0;
  is_chunked_ = head.framing == Framing::chunked;
  switch (head.framing) {
    case Framing::none: state_ = State::over; return;
    case Framing::length: state_ = State::length; return;
    case Framing::chunked:
      state_ = State::chunked;
      decoder_ = ChunkedDecoder();
      return;
  }
}

RequestBody::Step RequestBody::next(std::string_view bytes, uint64_t bytes_max, Trailers& trailers) noexcept {
  if (state_ == State::over) return {Kind::end};
  if (state_ == State::refused) return {Kind::refused};
  if (state_ == State::length) {
    if (bytes_ == 0) return state_ = State::over, Step{Kind::end};
    if (bytes.empty()) return {Kind::more};
    const size_t size = static_cast<size_t>(std::min<uint64_t>(bytes_, bytes.size()));
    bytes_ -= size;
    return {Kind::data, size, bytes.substr(0, size)};
  }
  const Step step = decoder_.next(bytes, trailers);
  bytes_ += step.data.size();
  if (step.kind == Kind::end) state_ = State::over;
  if (step.kind == Kind::refused) state_ = State::refused;
  if (bytes_max != 0 && bytes_ > bytes_max) return state_ = State::refused, Step{Kind::refused};
  return step;
}

Refusal RequestBody::refusal() const noexcept {
  const Refusal refusal = decoder_.refusal();
  return refusal.status != 0 ? refusal : Refusal{413, "the body is too large"};
}

}  // namespace cxxloop::web
