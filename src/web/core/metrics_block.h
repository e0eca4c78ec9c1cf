// SPDX-License-Identifier: MIT
//
// web/core/metrics_block.h: a server's numbers in memory that other processes read.
//
// Decision: shared memory, not messages: what a worker has counted is there after kill -9, and is read from one that is stuck.
// Thread: loop thread.  Python: none.  Owns: the mapping, not the descriptor.  Dies: after its server.
#pragma once

#include <utility>

#include "base/result.h"
#include "web/core/latency_histogram.h"
#include "web/core/server_counters.h"

namespace cxxloop::web {

// Words of 64 bits without a gap.
struct ServerMetrics {
  ServerCounters counters;
  uint64_t tasks = 0;  // now; whoever has made the block writes it, and loop_lag
  LatencyHistogram latency;
  LatencyHistogram loop_lag;
};

class MetricsBlock {
 public:
  MetricsBlock() noexcept = default;
  MetricsBlock(MetricsBlock&& other) noexcept : metrics_(std::exchange(other.metrics_, nullptr)) {}
  MetricsBlock& operator=(MetricsBlock&& other) noexcept {
    std::swap(metrics_, other.metrics_);
    return *this;
  }
  ~MetricsBlock();

  // A file of zeros that is large enough (memfd_create(2)). An Errno: it cannot be mapped, or is too small.
  [[nodiscard]] static Result<MetricsBlock> map(int fd) noexcept;

  [[nodiscard]] ServerMetrics* get() const noexcept { return metrics_; }  // null: none

 private:
  explicit MetricsBlock(ServerMetrics* metrics) noexcept : metrics_(metrics) {}

  ServerMetrics* metrics_ = nullptr;
};

}  // namespace cxxloop::web
