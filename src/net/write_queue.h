// SPDX-License-Identifier: MIT
//
// net/write_queue.h: bytes that wait to be sent, each chunk kept alive by its owner until it is gone.
//
// Decision: an owner whose release may call back (to write, to close) waits for release_spent(), because consume() and
// clear() are called in the middle of a send. Other owners are released at once, and must not reach the queue.
// Thread: loop thread.  Python: none; the owner is opaque and given back through the release function.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <span>

#include "base/ring_queue.h"

namespace cxxloop::net {

struct WriteChunk {
  using ReleaseFn = void (*)(void* owner) noexcept;

  const std::byte* data;
  size_t size;
  void* owner;  // keeps data valid; given to the release function exactly once
  ReleaseFn release_calling_back = nullptr;  // of an owner whose release may run anything; null: the queue's releases it
};

class WriteQueue {
 public:
  using ReleaseFn = WriteChunk::ReleaseFn;

  explicit WriteQueue(ReleaseFn release) noexcept : release_(release) {}
  WriteQueue(const WriteQueue&) = delete;
  WriteQueue& operator=(const WriteQueue&) = delete;
  ~WriteQueue();  // releases every owner

  [[nodiscard]] bool empty() const noexcept { return bytes_ == 0; }
  [[nodiscard]] size_t bytes() const noexcept { return bytes_; }
  [[nodiscard]] size_t chunks() const noexcept { return chunks_.size() - spent_; }

  // Takes chunk.owner. False: no memory, the owner stays the caller's. An empty chunk could never be sent: REQUIRES size > 0.
  [[nodiscard]] bool append(const WriteChunk& chunk) noexcept;
  // `size` bytes more at `at`, which the newest chunk's owner keeps as well: if that chunk ends there, it is longer now.
  // False: nothing is queued that ends there.
  [[nodiscard]] bool grow_last(const std::byte* at, size_t size) noexcept {
    if (bytes_ == 0) return false;
    WriteChunk& last = chunks_[chunks_.size() - 1];
    if (last.data + last.size != at) return false;
    last.size += size;
    bytes_ += size;
    return true;
  }
  // Gives the memory for chunks back, if there is none.
  void release_memory() noexcept {
    if (chunks_.empty()) chunks_.release();
  }
  // Makes room for so many chunks more. False: no memory.
  [[nodiscard]] bool reserve(size_t chunks) noexcept { return chunks_.reserve(chunks_.size() + chunks); }
  // What is left of a chunk, counted from the oldest. REQUIRES: index < chunks().
  [[nodiscard]] std::span<const std::byte> chunk(size_t index) const noexcept;
  // Describe the oldest bytes; returns how many entries of `iov` were filled.
  [[nodiscard]] size_t peek(std::span<iovec> iov) const noexcept;
  // Drop the oldest `size` bytes: they were sent. REQUIRES: size <= bytes().
  void consume(size_t size) noexcept;
  void clear() noexcept;

  // True exactly when owners of chunks that are gone wait for release_spent().
  [[nodiscard]] bool has_spent() const noexcept { return spent_ > 0; }
  // Releases them. Each may call any method of the queue, but not destroy it.
  void release_spent() noexcept;
  // f(owner) for each owner that is not released yet and may call back.
  template <class F>
  void each_owner_that_may_call_back(F&& f) const noexcept {
    for (size_t i = 0; i < chunks_.size(); ++i) {
      if (chunks_[i].release_calling_back != nullptr) f(chunks_[i].owner);
    }
  }

 private:
  RingQueue<WriteChunk> chunks_;
  size_t spent_ = 0;         // chunks at the front that are gone but for their owners
  size_t front_offset_ = 0;  // bytes of the first chunk that is not spent that were sent already
  size_t bytes_ = 0;
  ReleaseFn release_;
};

}  // namespace cxxloop::net
