// SPDX-License-Identifier: MIT
#include "net/write_queue.h"

#include <algorithm>

#include "base/assert.h"

namespace cxxloop::net {

WriteQueue::~WriteQueue() {
  clear();
  release_spent();
}

bool WriteQueue::append(const WriteChunk& chunk) noexcept {
  CXL_ASSERT(chunk.size > 0);
  if (!chunks_.push_back(chunk)) return false;
  bytes_ += chunk.size;
  return true;
}

std::span<const std::byte> WriteQueue::chunk(size_t index) const noexcept {
  const WriteChunk& chunk = chunks_[spent_ + index];
  const size_t skip = index == 0 ? front_offset_ : 0;
  return {chunk.data + skip, chunk.size - skip};
}

size_t WriteQueue::peek(std::span<iovec> iov) const noexcept {
  const size_t count = std::min(iov.size(), chunks());
  for (size_t i = 0; i < count; ++i) {
    const std::span<const std::byte> bytes = chunk(i);
    iov[i].iov_base = const_cast<std::byte*>(bytes.data());  // iovec serves reads too; sends do not write
    iov[i].iov_len = bytes.size();
  }
  return count;
}

void WriteQueue::consume(size_t size) noexcept {
  CXL_ASSERT(size <= bytes_);
  bytes_ -= size;
  while (size > 0) {
    const WriteChunk front = chunks_[spent_];
    const size_t left = front.size - front_offset_;
    if (size < left) {
      front_offset_ += size;
      return;
    }
    size -= left;
    front_offset_ = 0;
    if (front.release_calling_back != nullptr || spent_ > 0) {
      ++spent_;
      continue;
    }
    chunks_.pop_front();
    release_(front.owner);
  }
}

void WriteQueue::clear() noexcept {
  consume(bytes_);
}

void WriteQueue::release_spent() noexcept {
  while (spent_ > 0) {
    --spent_;
    const WriteChunk chunk = chunks_.pop_front();
    (chunk.release_calling_back != nullptr ? chunk.release_calling_back : release_)(chunk.owner);
  }
}

}  // namespace cxxloop::net
