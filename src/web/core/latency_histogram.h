// SPDX-License-Identifier: MIT
//
// web/core/latency_histogram.h: how many times were how long: 90 buckets for each power of ten, from 1 us to 1000 s.
//
// Decision: a bucket ends at two decimal digits (1.0, 1.1 ... 9.9 times a power of ten), so that every bound by which people
// ask for latencies (5 ms, 0.25 s) is the end of a bucket, and a count up to it is exact; binary buckets would have to guess.
// A bound belongs to the bucket that it ends, as Prometheus counts.
// Thread: one writes, any process may read: no bucket ever goes down.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace cxxloop::web {

class LatencyHistogram {
 public:
  static constexpr size_t decades_count = 9;
  static constexpr size_t buckets_per_decade = 90;
  // One before the decades, for what takes no longer than 1 us, and one behind them.
  static constexpr size_t buckets_count = decades_count * buckets_per_decade + 2;
  static constexpr int64_t first_bound_ns = 1'000;

  [[nodiscard]] static size_t bucket_of(int64_t time_ns) noexcept;
  // The longest time of a bucket. REQUIRES: not the last one.
  [[nodiscard]] static int64_t bound_ns(size_t bucket) noexcept;

  void record(int64_t time_ns) noexcept {
    sum_ns += static_cast<uint64_t>(time_ns);
    ++buckets[bucket_of(time_ns)];
  }

  uint64_t sum_ns = 0;
  std::array<uint64_t, buckets_count> buckets = {};
};

}  // namespace cxxloop::web
