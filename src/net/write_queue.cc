// SPDX-License-Identifier: MIT
#include "net/write_queue.h"

#include <algorithm>

#include "base/assert.h"

namespace cxxloop::net {

bool WriteQueue::append(const WriteChunk& chunk) noexcept {
  CXL_ASSERT(chunk.size > 0);
  if (!chunks_.push_back(chunk)) return false;
  bytes_ += chunk.size;
  return true;
}

size_t WriteQueue::peek(std::span<iovec> iov) const noexcept {
  const size_t count = std::min(iov.size(), chunks_.size());
  for (size_t i = 0; i < count; ++i) {
    const WriteChunk& chunk = chunks_[i];
    const size_t skip = i == 0 ? front_offset_ : 0;
    iov[i].iov_base = const_cast<std::byte*>(chunk.data + skip);  // iovec serves reads too; sends do not write
    iov[i].iov_len = chunk.size - skip;
  }
  return count;
}

void WriteQueue::consume(size_t size) noexcept {
  CXL_ASSERT(size <= bytes_);
  bytes_ -= size;
  while (size > 0) {
    const WriteChunk chunk = chunks_[0];
    const size_t left = chunk.size - front_offset_;
    if (size < left) {
      front_offset_ += size;
      return;
    }
    size -= left;
    front_offset_ = 0;
    chunks_.pop_front();
    release_(chunk.owner);
  }
}

void WriteQueue::clear() noexcept {
  consume(bytes_);
}

}  // namespace cxxloop::net
