// SPDX-License-Identifier: MIT
#include "web/core/latency_histogram.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

namespace cxxloop::web {
namespace {

constexpr size_t last = LatencyHistogram::buckets_count - 1;

TEST(LatencyHistogramTest, EndsEachBucketWithItsBound) {
  for (size_t bucket = 0; bucket < last; ++bucket) {
    const int64_t bound_ns = LatencyHistogram::bound_ns(bucket);
    EXPECT_EQ(LatencyHistogram::bucket_of(bound_ns), bucket);
    EXPECT_EQ(LatencyHistogram::bucket_of(bound_ns + 1), bucket + 1);
  }
}

TEST(LatencyHistogramTest, HasABucketForEveryTime) {
  EXPECT_EQ(LatencyHistogram::bucket_of(0), 0U);
  EXPECT_EQ(LatencyHistogram::bucket_of(-1), 0U);
  EXPECT_EQ(LatencyHistogram::bucket_of(INT64_MAX), last);
  EXPECT_EQ(LatencyHistogram::bound_ns(last - 1), int64_t{1'000'000'000'000});
}

TEST(LatencyHistogramTest, FindsTheBucketThatASearchFinds) {
  std::array<int64_t, last> bounds_ns;
  for (size_t bucket = 0; bucket < last; ++bucket) bounds_ns[bucket] = LatencyHistogram::bound_ns(bucket);
  std::mt19937_64 random(1);
  for (int i = 0; i < 20'000; ++i) {
    const int64_t time_ns = static_cast<int64_t>(random() >> (22 + random() % 40));
    const auto found = std::lower_bound(bounds_ns.begin(), bounds_ns.end(), time_ns);
    EXPECT_EQ(LatencyHistogram::bucket_of(time_ns), static_cast<size_t>(found - bounds_ns.begin())) << time_ns;
  }
}

TEST(LatencyHistogramTest, EndsBucketsAtRoundTimes) {
  for (const int64_t time_ns : {2'500, 100'000, 250'000, 5'000'000, 75'000'000, 250'000'000, 1'000'000'000}) {
    EXPECT_EQ(LatencyHistogram::bound_ns(LatencyHistogram::bucket_of(time_ns)), time_ns);
  }
}

TEST(LatencyHistogramTest, CountsAndAdds) {
  LatencyHistogram histogram;
  for (const int64_t time_ns : {1'500, 1'500, 7'000'000}) histogram.record(time_ns);
  EXPECT_EQ(histogram.sum_ns, 7'003'000U);
  EXPECT_EQ(histogram.buckets[LatencyHistogram::bucket_of(1'500)], 2U);
  EXPECT_EQ(histogram.buckets[LatencyHistogram::bucket_of(7'000'000)], 1U);
}

}  // namespace
}  // namespace cxxloop::web
