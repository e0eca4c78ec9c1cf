// SPDX-License-Identifier: MIT
//
// benchmarks/net/latency_histogram.h: counts of durations in logarithmic buckets of 1.6 % width.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace cxxloop::benchmarks {

class LatencyHistogram {
 public:
  void add(int64_t duration_ns) noexcept {
    const auto value = static_cast<uint64_t>(std::max<int64_t>(duration_ns, 0));
    ++counts_[bucket_of(value)];
    ++total_;
    max_ns_ = std::max(max_ns_, value);
  }

  // Upper edge of the bucket below which `fraction` of the durations lie; 0 when nothing was counted.
  [[nodiscard]] uint64_t quantile_ns(double fraction) const noexcept {
    const auto rank = static_cast<uint64_t>(fraction * static_cast<double>(total_));
    uint64_t seen = 0;
    for (size_t bucket = 0; bucket < counts_.size(); ++bucket) {
      seen += counts_[bucket];
      if (seen > rank) return std::min(upper_edge_of(bucket), max_ns_);
    }
    return max_ns_;
  }

  [[nodiscard]] uint64_t total() const noexcept { return total_; }
  [[nodiscard]] uint64_t max_ns() const noexcept { return max_ns_; }

 private:
  // Values below 2^sub_bits have a bucket each; above, every power of two is cut into 2^sub_bits equal parts.
  static constexpr unsigned sub_bits = 6;
  static constexpr uint64_t sub_count = uint64_t{1} << sub_bits;

  static size_t bucket_of(uint64_t value) noexcept {
    if (value < sub_count) return value;
    const auto shift = static_cast<unsigned>(std::bit_width(value)) - 1 - sub_bits;
    return (size_t{shift} << sub_bits) + (value >> shift);
  }

  static uint64_t upper_edge_of(size_t bucket) noexcept {
    if (bucket < sub_count) return bucket;
    const size_t shift = (bucket >> sub_bits) - 1;
    return (((bucket & (sub_count - 1)) + sub_count + 1) << shift) - 1;
  }

  std::array<uint64_t, (64 - sub_bits + 1) << sub_bits> counts_{};
  uint64_t total_ = 0;
  uint64_t max_ns_ = 0;
};

}  // namespace cxxloop::benchmarks
