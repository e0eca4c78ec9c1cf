// SPDX-License-Identifier: MIT
//
// web/core/websocket_deflate.h: the extension permessage-deflate (RFC 7692), by zlib.
//
// Decision: windows of 4 KiB and level 1. A connection then costs 38 KiB once it has sent a compressed message and 11 KiB once
// it has received one (zlib's own choice: 262 and 39), and nothing before; JSON of 9 KB shrinks to 18 % in 51 us where level 6
// reaches 14 % in 87.
// Thread: loop thread.  Python: none.  Owns: zlib's memory.
#pragma once

#include <zlib.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "base/byte_buffer.h"

namespace cxxloop::web {

inline constexpr uint8_t window_bits_max = 15;

// What a server would like.
struct DeflateOptions {
  uint8_t server_window_bits = 12;  // 9 to 15
  uint8_t client_window_bits = 12;  // 8 to 15; 15 for a client that cannot be told
  bool server_no_context_takeover = false;  // smaller between messages, larger on the wire
  bool client_no_context_takeover = false;
};

// What both sides have agreed upon.
struct DeflateParameters {
  uint8_t server_window_bits = window_bits_max;
  uint8_t client_window_bits = window_bits_max;
  bool server_no_context_takeover = false;
  bool client_no_context_takeover = false;
};

// Reads what a client offers in its Sec-WebSocket-Extensions headers, and takes the first offer that can be kept.
class DeflateNegotiation {
 public:
  explicit DeflateNegotiation(const DeflateOptions& options) noexcept : options_(options) {}

  // The value of one such header. False: it is no list of extensions, and the handshake is to be refused.
  [[nodiscard]] bool take(std::string_view value) noexcept;
  // Nothing: no offer of permessage-deflate was acceptable.
  [[nodiscard]] const std::optional<DeflateParameters>& agreed() const noexcept { return agreed_; }
  // The value of the response's header. REQUIRES: agreed(). False: no memory.
  [[nodiscard]] bool append_response(ByteBuffer& out) const noexcept;

 private:
  class Offer;

  void consider(const Offer& offer) noexcept;

  const DeflateOptions options_;
  std::optional<DeflateParameters> agreed_;
  bool names_server_bits_ = false;  // True exactly when the agreed offer bounds the server's window: the response must too
};

// Compresses a server's messages.
class MessageDeflater {
 public:
  explicit MessageDeflater(const DeflateParameters& parameters) noexcept
      : window_bits_(parameters.server_window_bits), forgets_(parameters.server_no_context_takeover) {}
  MessageDeflater(const MessageDeflater&) = delete;
  MessageDeflater& operator=(const MessageDeflater&) = delete;
  ~MessageDeflater() { release(); }

  static constexpr size_t message_bytes_max = UINT32_MAX;  // zlib's

  // Appends the payload of a whole message, at most so long. False: no memory; the connection cannot send anything compressed any more.
  [[nodiscard]] bool deflate(std::string_view message, ByteBuffer& out) noexcept;

 private:
  void release() noexcept;

  z_stream stream_{};
  const uint8_t window_bits_;
  const bool forgets_;     // True exactly when each message begins with an empty window
  bool is_made_ = false;   // True exactly when zlib holds memory
};

// Expands a client's messages.
class MessageInflater {
 public:
  enum class Outcome : uint8_t { ok, too_big, corrupt, no_memory };

  explicit MessageInflater(const DeflateParameters& parameters) noexcept
      : window_bits_(parameters.client_window_bits), forgets_(parameters.client_no_context_takeover) {}
  MessageInflater(const MessageInflater&) = delete;
  MessageInflater& operator=(const MessageInflater&) = delete;
  ~MessageInflater() { release(); }

  // Appends what the next piece of a message's payload stands for, but no more than makes `out` longer than `bytes_max`
  // by one: too_big then. After anything but ok nothing more may be given.
  [[nodiscard]] Outcome inflate(std::string_view piece, bool is_last, ByteBuffer& out, uint64_t bytes_max) noexcept;

 private:
  [[nodiscard]] Outcome expand(std::string_view piece, ByteBuffer& out, uint64_t bytes_max) noexcept;
  [[nodiscard]] Outcome end_message(ByteBuffer& out, uint64_t bytes_max) noexcept;
  void release() noexcept;

  z_stream stream_{};
  const uint8_t window_bits_;
  const bool forgets_;         // True exactly when each message begins with an empty window
  bool is_made_ = false;       // True exactly when zlib holds memory
  bool is_in_message_ = false;  // True exactly when a byte of a message was given, and its last piece not yet
};

}  // namespace cxxloop::web
