// SPDX-License-Identifier: MIT
#include "web/core/latency_histogram.h"

#include <bit>

namespace cxxloop::web {
namespace {

constexpr size_t powers_count = 13;
constexpr std::array<uint64_t, powers_count> powers_of_ten = [] {
  std::array<uint64_t, powers_count> powers = {};
  uint64_t power = 1;
  for (uint64_t& each : powers) {
    each = power;
    power *= 10;
  }
  return powers;
}();
constexpr size_t first_exponent = 3;
constexpr uint64_t end_ns = powers_of_ten[first_exponent + LatencyHistogram::decades_count];

// The number of the power of ten that is not larger. REQUIRES: not zero, less than end_ns.
size_t exponent_of(uint64_t value) noexcept {
  const size_t exponent = static_cast<size_t>(std::bit_width(value)) * 1233 >> 12;  // times log10(2): right, or one too many
  return exponent - (value < powers_of_ten[exponent] ? 1 : 0);
}

}  // namespace

size_t LatencyHistogram::bucket_of(int64_t time_ns) noexcept {
  if (time_ns <= first_bound_ns) return 0;
  const uint64_t value = static_cast<uint64_t>(time_ns) - 1;  // a bound belongs to the bucket before it
  if (value >= end_ns) return buckets_count - 1;
  const size_t exponent = exponent_of(value);
  return 1 + (exponent - first_exponent) * buckets_per_decade + value / powers_of_ten[exponent - 1] - 10;
}

int64_t LatencyHistogram::bound_ns(size_t bucket) noexcept {
  if (bucket == 0) return first_bound_ns;
  const size_t decade = (bucket - 1) / buckets_per_decade;
  const uint64_t step_ns = powers_of_ten[first_exponent + decade - 1];
  return static_cast<int64_t>(((bucket - 1) % buckets_per_decade + 11) * step_ns);
}

}  // namespace cxxloop::web
