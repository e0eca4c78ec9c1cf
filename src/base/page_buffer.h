// SPDX-License-Identifier: MIT
//
// base/page_buffer.h: memory that the kernel copies received bytes into in bulk; it begins at a page.
//
// Decision: a page and not malloc()'s 16 bytes into one. The kernel's own bytes begin at a page; AMD's `rep movsb` takes a
// load for one of the stores 16 bytes before it when both have the same low 12 bits, and a read of 100 KiB then costs twice.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <memory>
#include <span>

namespace cxxloop {

class PageBuffer {
 public:
  static constexpr size_t alignment_bytes = 4096;

  // Memory of `size` bytes, the same at each call with the same size until reset(). Empty: out of memory.
  // REQUIRES: `size` is a multiple of alignment_bytes.
  [[nodiscard]] std::span<std::byte> get(size_t size) noexcept {
    if (memory_ == nullptr) memory_.reset(static_cast<std::byte*>(std::aligned_alloc(alignment_bytes, size)));
    return {memory_.get(), memory_ != nullptr ? size : 0};
  }
  void reset() noexcept { memory_.reset(); }

 private:
  struct Free {
    void operator()(std::byte* memory) const noexcept { std::free(memory); }
  };
  std::unique_ptr<std::byte, Free> memory_;
};

}  // namespace cxxloop
