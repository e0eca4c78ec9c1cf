// SPDX-License-Identifier: MIT
#include "web/core/chunked_decoder.h"

#include <algorithm>

#include "web/core/characters.h"
#include "web/core/header_line.h"

namespace cxxloop::web {
namespace {

// Of 16 digits, as no chunk is larger than 2^63.
constexpr size_t size_digits_max = 16;

// RFC 9110 6.5.1: what frames, routes, authenticates or changes the meaning of what came before.
constexpr std::string_view forbidden_trailers[] = {
    "authorization",     "cache-control",    "connection",    "content-encoding",  "content-length", "content-range",
    "content-type",      "cookie",           "expect",        "host",              "keep-alive",     "max-forwards",
    "proxy-authenticate", "proxy-authorization", "proxy-connection", "range",       "set-cookie",     "te",
    "trailer",           "transfer-encoding", "upgrade",       "www-authenticate",
};

int hex_digit(char c) noexcept {
  if (c >= '0' && c <= '9') return c - '0';
  const char small = lower(c);
  return small >= 'a' && small <= 'f' ? small - 'a' + 10 : -1;
}

}  // namespace

ChunkedDecoder::Step ChunkedDecoder::next(std::string_view bytes, Trailers& trailers) noexcept {
  switch (state_) {
    case State::size: return read_size(bytes, trailers);
    case State::data_end: return read_data_end(bytes, trailers);
    case State::trailers: return read_trailers(bytes, trailers);
    case State::data: break;
  }
  if (bytes.empty()) return {Kind::more};
  const size_t size = static_cast<size_t>(std::min<uint64_t>(left_, bytes.size()));
  left_ -= size;
  if (left_ == 0) state_ = State::data_end;
  return {Kind::data, size, bytes.substr(0, size)};
}

ChunkedDecoder::Step ChunkedDecoder::read_size(std::string_view bytes, Trailers& trailers) noexcept {
  const size_t stop = bytes.substr(0, size_line_bytes_max).find('\n');
  if (stop == bytes.npos) {
    return bytes.size() >= size_line_bytes_max ? refuse(400, "the line of a chunk's size is too long") : Step{Kind::more};
  }
  if (stop == 0 || bytes[stop - 1] != '\r') return refuse(400, "the line of a chunk's size ends without CR");
  const std::string_view line = bytes.substr(0, stop - 1);
  uint64_t size = 0;
  size_t digits = 0;
  for (; digits < line.size() && hex_digit(line[digits]) >= 0; ++digits) {
    if (digits == size_digits_max || size >> 59 != 0) return refuse(400, "a chunk is too large");
    size = size << 4 | static_cast<uint64_t>(hex_digit(line[digits]));
  }
  if (digits == 0) return refuse(400, "the size of a chunk is no number");
  const std::string_view extension = line.substr(digits);
  const char* const end = extension.data() + extension.size();
  // Extensions are skipped, but what is none must not pass: another server may read on where we stop.
  if (!extension.empty() && (extension.front() != ';' || skip_value(extension.data(), end) != end)) {
    return refuse(400, "something other than an extension follows the size of a chunk");
  }
  left_ = size;
  state_ = size == 0 ? State::trailers : State::data;
  const Step rest = next(bytes.substr(stop + 1), trailers);
  return {rest.kind, stop + 1 + rest.used, rest.data};
}

ChunkedDecoder::Step ChunkedDecoder::read_data_end(std::string_view bytes, Trailers& trailers) noexcept {
  if (!bytes.empty() && bytes[0] != '\r') return refuse(400, "a chunk is longer than its size");
  if (bytes.size() < 2) return {Kind::more};
  if (bytes[1] != '\n') return refuse(400, "a chunk is longer than its size");
  state_ = State::size;
  const Step rest = read_size(bytes.substr(2), trailers);
  return {rest.kind, 2 + rest.used, rest.data};
}

// Each line ends with CR LF, the section with an empty one.
ChunkedDecoder::Step ChunkedDecoder::read_trailers(std::string_view bytes, Trailers& trailers) noexcept {
  trailers.count_ = 0;
  const char* at = bytes.data();
  const char* const end = at + bytes.size();
  while (at != end) {
    if (static_cast<size_t>(at - bytes.data()) > trailer_bytes_max) break;
    if (end - at >= 2 && at[0] == '\r' && at[1] == '\n') return {Kind::end, static_cast<size_t>(at + 2 - bytes.data())};
    const char* const stop = static_cast<const char*>(std::memchr(at, '\n', static_cast<size_t>(end - at)));
    if (stop == nullptr) break;
    if (trailers.count_ == Trailers::count_max) return refuse(431, "too many trailers");
    Header& trailer = trailers.trailers_[trailers.count_];
    at = parse_header_line(at, stop + 1, trailer);
    if (at == nullptr) return refuse(400, "a trailer is no header");
    for (const std::string_view name : forbidden_trailers) {
      if (equals(trailer.name, name)) return refuse(400, "a header that no trailer may be");
    }
    ++trailers.count_;
  }
  return bytes.size() > trailer_bytes_max ? refuse(431, "the trailers are too long") : Step{Kind::more};
}

}  // namespace cxxloop::web
