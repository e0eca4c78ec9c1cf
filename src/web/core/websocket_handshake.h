// SPDX-License-Identifier: MIT
//
// web/core/websocket_handshake.h: the opening of a WebSocket over HTTP/1.1 (RFC 6455 4.2): what a client asks, and the 101.
//
// Thread: any.  Python: none.  Owns: what the response needs; nothing of the request's bytes.
#pragma once

#include <array>
#include <optional>
#include <span>
#include <string_view>

#include "base/byte_buffer.h"
#include "web/core/request_head.h"
#include "web/core/websocket_deflate.h"

namespace cxxloop::web {

class WebSocketHandshake {
 public:
  enum class Outcome : uint8_t {
    other,    // the request asks for no WebSocket
    valid,
    refused,  // refusal() says why; the connection must end with that response
  };

  // Without options no compression is agreed upon.
  explicit WebSocketHandshake(const std::optional<DeflateOptions>& deflate) noexcept
      : negotiation_(deflate.value_or(DeflateOptions{})), may_compress_(deflate.has_value()) {}

  [[nodiscard]] Outcome check(const RequestHead& head) noexcept;
  [[nodiscard]] Refusal refusal() const noexcept { return refusal_; }
  // To be sent with the refusal: a 426 names the version that we speak.
  [[nodiscard]] std::span<const Header> refusal_headers() const noexcept;

  struct Response {
    std::string_view subprotocol = {};      // one of those that the client has named; empty: none
    std::span<const Header> headers = {};   // the application's
    std::string_view date = {};
    std::string_view server = {};
  };
  // Appends the head of the 101, or nothing and says why: the application's part must not go out, or memory is out.
  // REQUIRES: check() was valid.
  [[nodiscard]] const char* append_response(ByteBuffer& out, const Response& response) const noexcept;
  [[nodiscard]] const std::optional<DeflateParameters>& deflate() const noexcept { return negotiation_.agreed(); }

 private:
  // The headers that may stand there once.
  struct Facts {
    std::string_view key;
    std::string_view version;
    bool has_key = false;
    bool has_version = false;
  };

  [[nodiscard]] bool note(const Header& header, Facts& facts) noexcept;
  bool refuse(int status, const char* reason) noexcept {
    refusal_ = {status, reason};
    return false;
  }

  DeflateNegotiation negotiation_;
  std::array<char, 28> accept_{};
  Refusal refusal_;
  const bool may_compress_;
};

// f(name) for each subprotocol that the client offers, in its order. REQUIRES: WebSocketHandshake::check() was valid.
template <class F>
void each_subprotocol(const RequestHead& head, F&& f) noexcept {
  for (const Header& header : head.headers()) {
    if (equals(header.name, "sec-websocket-protocol")) each_element(header.value, f);
  }
}

}  // namespace cxxloop::web
