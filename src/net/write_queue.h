// SPDX-License-Identifier: MIT
//
// net/write_queue.h: bytes that wait to be sent, each chunk kept alive by its owner until it is gone.
//
// Thread: loop thread.  Python: none; the owner is opaque and given back through the release function.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <span>

#include "base/ring_queue.h"

namespace cxxloop::net {

struct WriteChunk {
  const std::byte* data;
  size_t size;
  void* owner;  // keeps data valid; given to the release function exactly once
};

class WriteQueue {
 public:
  using ReleaseFn = void (*)(void* owner) noexcept;

  explicit WriteQueue(ReleaseFn release) noexcept : release_(release) {}
  WriteQueue(const WriteQueue&) = delete;
  WriteQueue& operator=(const WriteQueue&) = delete;
  ~WriteQueue() { clear(); }

  [[nodiscard]] bool empty() const noexcept { return chunks_.empty(); }
  [[nodiscard]] size_t bytes() const noexcept { return bytes_; }
  [[nodiscard]] size_t chunks() const noexcept { return chunks_.size(); }

  // Takes chunk.owner. False: no memory, the owner stays the caller's. An empty chunk could never be sent: REQUIRES size > 0.
  [[nodiscard]] bool append(const WriteChunk& chunk) noexcept;
  // Makes room for so many chunks more. False: no memory.
  [[nodiscard]] bool reserve(size_t chunks) noexcept { return chunks_.reserve(chunks_.size() + chunks); }
  // What is left of a chunk, counted from the oldest. REQUIRES: index < chunks().
  [[nodiscard]] std::span<const std::byte> chunk(size_t index) const noexcept;
  // Describe the oldest bytes; returns how many entries of `iov` were filled.
  [[nodiscard]] size_t peek(std::span<iovec> iov) const noexcept;
  // Drop the oldest `size` bytes: they were sent. REQUIRES: size <= bytes().
  void consume(size_t size) noexcept;
  void clear() noexcept;

 private:
  RingQueue<WriteChunk> chunks_;
  size_t front_offset_ = 0;  // bytes of the first chunk that were sent already
  size_t bytes_ = 0;
  ReleaseFn release_;
};

}  // namespace cxxloop::net
