// SPDX-License-Identifier: MIT
//
// sim/seeds.h: runs a property for many seeds and says how to replay the one that breaks it, or the program.
//
// CXXLOOP_SIM_SEEDS: how many seeds. CXXLOOP_SIM_SEED: only this one.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <string>

namespace cxxloop::sim {

inline constexpr uint64_t seeds_by_default = 10'000;

// Tells which seed is running, should the process die of it.
class SeedWitness {
 public:
  SeedWitness();
  ~SeedWitness();
  SeedWitness(const SeedWitness&) = delete;
  SeedWitness& operator=(const SeedWitness&) = delete;
  void watch(uint64_t seed) noexcept;
};

[[nodiscard]] uint64_t first_seed();
[[nodiscard]] uint64_t last_seed();
// The command that runs the current test with this seed alone.
[[nodiscard]] std::string replay_command(uint64_t seed);

// `property(seed)` returns what was broken, or an empty string.
template <class Property>
void for_each_seed(Property&& property) {
  SeedWitness witness;
  for (uint64_t seed = first_seed(); seed <= last_seed(); ++seed) {
    witness.watch(seed);
    const std::string broken = property(seed);
    ASSERT_EQ(broken, "") << "replay: " << replay_command(seed);
  }
}

}  // namespace cxxloop::sim
