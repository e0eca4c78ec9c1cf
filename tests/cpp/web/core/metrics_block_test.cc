// SPDX-License-Identifier: MIT
#include "web/core/metrics_block.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/unique_fd.h"

namespace cxxloop::web {
namespace {

UniqueFd make_file(size_t size) {
  UniqueFd file(memfd_create("metrics", MFD_CLOEXEC));
  EXPECT_EQ(ftruncate(file.get(), static_cast<off_t>(size)), 0);
  return file;
}

TEST(MetricsBlockTest, IsSeenThroughEveryMappingOfItsFile) {
  UniqueFd file = make_file(sizeof(ServerMetrics));
  Result<MetricsBlock> one = MetricsBlock::map(file.get());
  Result<MetricsBlock> other = MetricsBlock::map(file.get());
  ASSERT_TRUE(one.ok() && other.ok());
  file.reset();
  one.value().get()->counters.requests = 7;
  one.value().get()->latency.record(5'000'000);
  EXPECT_EQ(other.value().get()->counters.requests, 7U);
  EXPECT_EQ(other.value().get()->latency.sum_ns, 5'000'000U);
  EXPECT_EQ(other.value().get()->tasks, 0U);
}

TEST(MetricsBlockTest, RefusesAFileThatIsTooSmall) {
  const UniqueFd file = make_file(sizeof(ServerMetrics) - 1);
  EXPECT_EQ(MetricsBlock::map(file.get()).error(), Errno::invalid);
  EXPECT_EQ(MetricsBlock::map(-1).error(), Errno::bad_fd);
}

TEST(MetricsBlockTest, CanBeGivenAway) {
  const UniqueFd file = make_file(sizeof(ServerMetrics));
  Result<MetricsBlock> made = MetricsBlock::map(file.get());
  ASSERT_TRUE(made.ok());
  ServerMetrics* const metrics = made.value().get();
  MetricsBlock block;
  block = std::move(made.value());
  EXPECT_EQ(block.get(), metrics);
  EXPECT_EQ(made.value().get(), nullptr);
}

}  // namespace
}  // namespace cxxloop::web
