// SPDX-License-Identifier: MIT
//
// sim/random.h: a seeded source of randomness that gives the same numbers on every machine and library.
#pragma once

#include <cstddef>
#include <cstdint>

namespace cxxloop::sim {

// splitmix64.
class Random {
 public:
  explicit Random(uint64_t seed) noexcept : state_(seed) {}

  uint64_t next() noexcept {
    uint64_t z = (state_ += 0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }
  // In [0, bound). REQUIRES: bound > 0.
  size_t below(size_t bound) noexcept { return static_cast<size_t>(next() % bound); }
  // In [low, high].
  size_t between(size_t low, size_t high) noexcept { return low + below(high - low + 1); }
  // True `per_mille` times of a thousand.
  bool chance(uint32_t per_mille) noexcept { return per_mille != 0 && below(1000) < per_mille; }

 private:
  uint64_t state_;
};

}  // namespace cxxloop::sim
