// SPDX-License-Identifier: MIT
//
// The promises of net/datagram_socket.h, whatever the user does and whatever the kernel does.
#include "cpp/net/datagram_program.h"
#include "sim/seeds.h"

namespace cxxloop::net {
namespace {

constexpr size_t decisions_max = 250;

std::string broken_promise(uint64_t seed, bool gentle) {
  sim::SeededChoices choices(seed * 2 + 1, decisions_max);
  return DatagramProgram(seed, choices, gentle).run();
}

TEST(DatagramSim, EveryPromiseHoldsWhenNothingBreaks) {
  sim::for_each_seed([](uint64_t seed) { return broken_promise(seed, true); });
}

TEST(DatagramSim, EveryPromiseHoldsWhenEverythingBreaks) {
  sim::for_each_seed([](uint64_t seed) { return broken_promise(seed, false); });
}

}  // namespace
}  // namespace cxxloop::net
