// SPDX-License-Identifier: MIT
#include "web/core/metrics_block.h"

#include <sys/mman.h>
#include <sys/stat.h>

namespace cxxloop::web {

MetricsBlock::~MetricsBlock() {
  if (metrics_ != nullptr) munmap(metrics_, sizeof(ServerMetrics));
}

Result<MetricsBlock> MetricsBlock::map(int fd) noexcept {
  struct stat status;
  if (fstat(fd, &status) < 0) return last_errno();
  // Beyond the end of the file a store would be SIGBUS.
  if (status.st_size < static_cast<off_t>(sizeof(ServerMetrics))) return Errno::invalid;
  void* const memory = mmap(nullptr, sizeof(ServerMetrics), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (memory == MAP_FAILED) return last_errno();
  return MetricsBlock(static_cast<ServerMetrics*>(memory));
}

}  // namespace cxxloop::web
