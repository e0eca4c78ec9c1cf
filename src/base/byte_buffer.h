// SPDX-License-Identifier: MIT
//
// base/byte_buffer.h: bytes appended at the back and dropped at the front; says when memory is out.
//
// Thread: one at a time.  Owns: its memory, which moves when it grows: a view of the bytes dies with the next append().
#pragma once

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <span>
#include <string_view>
#include <utility>

#include "base/assert.h"

namespace cxxloop {

class ByteBuffer {
 public:
  ByteBuffer() noexcept = default;
  ByteBuffer(ByteBuffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)),
        begin_(std::exchange(other.begin_, 0)),
        end_(std::exchange(other.end_, 0)),
        capacity_(std::exchange(other.capacity_, 0)) {}
  ByteBuffer& operator=(ByteBuffer&&) = delete;
  ~ByteBuffer() { std::free(data_); }

  [[nodiscard]] std::string_view view() const noexcept { return {data_ + begin_, end_ - begin_}; }
  [[nodiscard]] size_t size() const noexcept { return end_ - begin_; }
  [[nodiscard]] bool empty() const noexcept { return begin_ == end_; }
  [[nodiscard]] size_t capacity() const noexcept { return capacity_; }

  // False: no memory, and nothing is appended.
  [[nodiscard]] bool append(std::string_view bytes) noexcept {
    if (bytes.empty()) return true;
    if (!reserve(bytes.size())) return false;
    std::memcpy(data_ + end_, bytes.data(), bytes.size());
    end_ += bytes.size();
    return true;
  }

  // Makes room for so many bytes more, which can then be appended without fail. False: no memory.
  [[nodiscard]] bool reserve(size_t bytes) noexcept {
    if (capacity_ - end_ >= bytes) return true;
    if (begin_ > 0 && capacity_ - size() >= bytes && begin_ >= size()) {  // moving costs less than what was dropped
      std::memcpy(data_, data_ + begin_, size());
      end_ -= std::exchange(begin_, 0);
      return true;
    }
    return grow(bytes);
  }

  // The memory behind the bytes, for somebody who writes there himself and then calls extend().
  [[nodiscard]] std::span<char> room() noexcept { return {data_ + end_, capacity_ - end_}; }
  // What was written at the front of room() is appended. REQUIRES: bytes <= room().size().
  void extend(size_t bytes) noexcept {
    CXL_ASSERT(bytes <= capacity_ - end_);
    end_ += bytes;
  }

  // REQUIRES: bytes <= size().
  void drop_front(size_t bytes) noexcept {
    CXL_ASSERT(bytes <= size());
    begin_ += bytes;
    if (begin_ == end_) begin_ = end_ = 0;
  }

  // Forgets what is behind the first `bytes`. REQUIRES: bytes <= size().
  void truncate(size_t bytes) noexcept {
    CXL_ASSERT(bytes <= size());
    end_ = begin_ + bytes;
  }

  void clear() noexcept { begin_ = end_ = 0; }

  // Gives the memory back, too.
  void release() noexcept {
    std::free(std::exchange(data_, nullptr));
    begin_ = end_ = capacity_ = 0;
  }

 private:
  static constexpr size_t capacity_min = 256;

  [[nodiscard]] bool grow(size_t bytes) noexcept {
    const size_t needed = size() + bytes;
    if (needed < bytes) return false;
    const size_t wanted = std::max({capacity_min, capacity_ * 2, needed});
    char* const grown = static_cast<char*>(std::malloc(wanted));
    if (grown == nullptr) return false;
    if (!empty()) std::memcpy(grown, data_ + begin_, size());
    end_ -= std::exchange(begin_, 0);
    std::free(std::exchange(data_, grown));
    capacity_ = wanted;
    return true;
  }

  char* data_ = nullptr;
  size_t begin_ = 0;
  size_t end_ = 0;
  size_t capacity_ = 0;
};

}  // namespace cxxloop
