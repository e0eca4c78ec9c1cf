// SPDX-License-Identifier: MIT
//
// The promises of a WebSocket, whatever its application, its clients and the kernel do.
#include "cpp/web/core/websocket_program.h"
#include "sim/seeds.h"

namespace cxxloop::web {
namespace {

constexpr size_t decisions_max = 1500;

std::string broken_promise(uint64_t seed, bool gentle) {
  sim::SeededChoices choices(seed * 2 + 1, decisions_max);
  return WebSocketProgram(seed, choices, gentle).run();
}

TEST(WebSocketSim, EveryMessageComesBackWhenNothingBreaks) {
  sim::for_each_seed([](uint64_t seed) { return broken_promise(seed, true); });
}

TEST(WebSocketSim, EveryPromiseHoldsWhenEverythingBreaks) {
  sim::for_each_seed([](uint64_t seed) { return broken_promise(seed, false); });
}

}  // namespace
}  // namespace cxxloop::web
