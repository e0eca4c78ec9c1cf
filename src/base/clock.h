// SPDX-License-Identifier: MIT
//
// base/clock.h: the loop's clock, the one of Python's time.monotonic().
#pragma once

#include <cstdint>
#include <ctime>
#include <limits>

namespace cxxloop {

inline constexpr int64_t ns_per_second = 1'000'000'000;

// CLOCK_MONOTONIC in nanoseconds.
inline int64_t monotonic_ns() noexcept {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return int64_t{now.tv_sec} * ns_per_second + now.tv_nsec;
}

// A point on monotonic_ns() until which a wait may sleep.
struct Deadline {
  int64_t at_ns;

  static constexpr Deadline never() noexcept { return {std::numeric_limits<int64_t>::max()}; }
  // Do not sleep at all.
  static constexpr Deadline immediate() noexcept { return {std::numeric_limits<int64_t>::min()}; }
  friend constexpr bool operator==(Deadline, Deadline) noexcept = default;
};

}  // namespace cxxloop
