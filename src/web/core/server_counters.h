// SPDX-License-Identifier: MIT
//
// web/core/server_counters.h: what a server has done since it was made, and what it does now.
//
// Decision: every number is a word of 64 bits, in an order that `counter_names` repeats, so that another process reads them
// from shared memory without knowing this struct; what only grows stands before what goes up and down.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

namespace cxxloop::web {

// The limits of web/core/limits.h that a client has met.
enum class Limit : uint8_t { connections, connections_per_address, line, head, body, head_time, body_time, handler_time, write_time, handshake_time,
                             concurrency };
inline constexpr size_t limits_count = 11;

struct ServerCounters {
  uint64_t accepted = 0;
  uint64_t refused = 0;             // connections answered with 503
  uint64_t requests = 0;            // heads that were whole
  uint64_t bad_requests = 0;        // answered with 4xx by the server itself
  uint64_t timeouts = 0;
  uint64_t received_bytes = 0;
  uint64_t sent_bytes = 0;          // queued, or sent by the kernel from a file
  std::array<uint64_t, 5> responses = {};  // heads of final responses and 101, by the first digit of their status
  uint64_t websockets_accepted = 0;
  std::array<uint64_t, limits_count> limits = {};
  uint64_t handshakes = 0;         // of TLS that were done
  uint64_t handshakes_failed = 0;  // or not, but for those that took too long

  // Now.
  uint64_t connections = 0;
  uint64_t exchanges = 0;
  uint64_t websockets = 0;  // accepted, and their connections have not ended

  void count_limit(Limit limit) noexcept { ++limits[static_cast<size_t>(limit)]; }
  void count_timeout(Limit limit) noexcept {
    ++timeouts;
    count_limit(limit);
  }
  // REQUIRES: 100 or more. What is above 599 counts as a failure.
  void count_response(int status) noexcept { ++responses[std::min(static_cast<unsigned>(status) / 100, 5U) - 1]; }
  // Of a request that the server has refused by itself.
  void count_refusal(int status) noexcept {
    ++bad_requests;
    if (status == 413) count_limit(Limit::body);
    if (status == 414) count_limit(Limit::line);
    if (status == 431) count_limit(Limit::head);
  }
};

inline constexpr size_t gauges_count = 3;
inline constexpr std::array<const char*, 29> counter_names = {
    "accepted", "refused", "requests", "bad_requests", "timeouts", "received_bytes", "sent_bytes",
    "responses_1xx", "responses_2xx", "responses_3xx", "responses_4xx", "responses_5xx", "websockets_accepted",
    "limit_connections", "limit_connections_per_address", "limit_line", "limit_head", "limit_body",
    "limit_head_time", "limit_body_time", "limit_handler_time", "limit_write_time", "limit_handshake_time", "limit_concurrency",
    "handshakes", "handshakes_failed",
    "connections", "exchanges", "websockets"};
static_assert(sizeof(ServerCounters) == counter_names.size() * sizeof(uint64_t));

}  // namespace cxxloop::web
