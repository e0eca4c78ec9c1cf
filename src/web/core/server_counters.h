// SPDX-License-Identifier: MIT
//
// web/core/server_counters.h: what a server has done since it was made.
#pragma once

#include <cstddef>
#include <cstdint>

namespace cxxloop::web {

struct ServerCounters {
  uint64_t accepted = 0;
  uint64_t refused = 0;       // connections answered with 503
  uint64_t requests = 0;      // heads that were whole
  uint64_t bad_requests = 0;  // answered with 4xx by the server itself
  uint64_t timeouts = 0;
  size_t connections = 0;     // now
  size_t exchanges = 0;       // now
  size_t websockets = 0;      // now: accepted, and their connections have not ended
};

}  // namespace cxxloop::web
