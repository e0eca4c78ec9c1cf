// SPDX-License-Identifier: MIT
//
// web/core/response_head.h: writes the head of a response and decides how its body is framed (RFC 9112 6.3).
//
// What an application gives is checked here, byte by byte: a CR or LF in it would end the head and begin another response.
// Thread: any.  Python: none.  Owns: nothing.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "base/byte_buffer.h"
#include "web/core/header_line.h"

namespace cxxloop::web {

// How the bytes of a response's body are told from what comes after them.
enum class BodyFraming : uint8_t {
  none,     // there is no body: HEAD, 204, 304
  length,   // as many as Content-Length says
  chunked,
  close,    // up to the end of the connection: HTTP/1.0
};

// The request that is answered.
struct AnsweredRequest {
  uint8_t minor_version = 1;
  bool is_head = false;
  bool keep_alive = true;  // the client would go on, and so would we
};

struct ResponseHead {
  int status = 200;
  std::span<const Header> headers = {};      // the application's
  std::optional<uint64_t> body_bytes = {};   // if the whole body is known already; Content-Length is added
  std::string_view date = {};                // "Sun, 06 Nov 1994 08:49:37 GMT"; empty: no Date line
  std::string_view server = {};              // empty: no Server line
};

struct WrittenHead {
  const char* fault = nullptr;  // why nothing was written: what the application gave must not go out, or memory is out
  BodyFraming framing = BodyFraming::none;
  uint64_t content_length = 0;  // for BodyFraming::length
  bool keep_alive = true;
};

// Appends the head to `out`, all of it or, with a fault, nothing.
[[nodiscard]] WrittenHead write_head(ByteBuffer& out, const AnsweredRequest& request, const ResponseHead& head) noexcept;

}  // namespace cxxloop::web
