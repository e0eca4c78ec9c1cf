// SPDX-License-Identifier: MIT
//
// web/core/websocket_limits.h: what one WebSocket may cost; the values are uvicorn's.
#pragma once

#include <cstddef>
#include <cstdint>

namespace cxxloop::web {

// Zero switches a limit off, unless its line says otherwise.
struct WebSocketLimits {
  uint64_t message_bytes_max = 16 * 1024 * 1024;  // expanded, and as it was sent: close code 1009
  size_t queue_messages_max = 32;                 // that the application has not asked for: reading stops; not zero
  int64_t ping_ns = 20'000'000'000;               // from one ping of ours to the next
  int64_t pong_ns = 20'000'000'000;               // from a ping to the client's next byte: close code 1011
  int64_t close_ns = 10'000'000'000;              // from our close frame to the client's: the connection ends
};

}  // namespace cxxloop::web
