// SPDX-License-Identifier: MIT
//
// web/core/limits.h: what one client may cost: sizes, times, rates and numbers, each with a value that holds unless told.
#pragma once

#include <cstddef>
#include <cstdint>

#include "web/core/request_head.h"
#include "web/core/websocket_limits.h"

namespace cxxloop::web {

inline constexpr int64_t second_ns = 1'000'000'000;

// Zero switches a limit off, unless its line says otherwise.
struct Limits {
  HeadLimits head = {};                           // 414, 431; none of them may be zero
  uint64_t body_bytes_max = uint64_t{1} << 30;    // of a request: 413
  // Of a body nobody has taken yet: reading stops. One read of the backend's buffer may come on top. Not zero.
  size_t body_buffer_bytes = 64 * 1024;
  size_t write_buffer_bytes = 64 * 1024;          // of a response the client does not read: the application waits; not zero

  // From a request's first byte: 408. From a connection's begin: closed, because a client that has opened one to have it
  // ready would take the 408 for the answer to its first request.
  int64_t head_ns = 30 * second_ns;
  int64_t body_ns = 30 * second_ns;               // from one piece of a body the application waits for to the next: 408
  uint32_t body_rate_min = 240;                   // bytes per second of a body, once it is slower than body_rate_grace_ns
  int64_t body_rate_grace_ns = 5 * second_ns;
  int64_t handler_ns = 600 * second_ns;           // from a request's head to the start of its response: 503
  int64_t idle_ns = 5 * second_ns;                // between a response and the next request: closed
  int64_t handshake_ns = 30 * second_ns;          // from a connection's begin to the end of TLS's handshake: closed
  int64_t write_ns = 30 * second_ns;              // a client takes nothing of what waits for it: reset

  uint64_t requests_per_connection_max = 100'000;  // then `connection: close`
  size_t connections_max = 60'000;                 // 503 with Retry-After
  size_t connections_per_address_max = 4'000;      // likewise; trusted peers and UNIX sockets excepted

  // Requests that find so many connections, or requests and WebSockets, under way: 503. Their own connection counts, as it does
  // for uvicorn's --limit-concurrency.
  size_t concurrency_max = 0;

  WebSocketLimits websocket = {};
};

}  // namespace cxxloop::web
