// SPDX-License-Identifier: MIT
//
// python/memory_return.h: when to give the memory of ended TLS connections back to the kernel.
//
// OpenSSL takes some 50 KiB for a handshake, in small pieces. glibc keeps what lies below a piece that lives on, so
// after a flood of handshakes hundreds of megabytes would stay with the process.
// Thread: any, with the GIL.
#pragma once

#include <algorithm>
#include <cstddef>
#include <utility>

#include "python/gil.h"

namespace cxxloop::python {

struct LoopCore;

// How many TLS connections there are, and how many there were.
class TlsCount {
 public:
  void add() noexcept {
    peak_ = std::max(peak_, ++living_);
    flood_ = std::max(flood_, living_);
  }
  void remove() noexcept { --living_; }

  // Half of the connections are gone, or nearly all. So a flood that ends is looked through a dozen times and not a
  // thousand times.
  [[nodiscard]] bool has_fallen() const noexcept {
    return peak_ - living_ >= std::max(living_, worthwhile) || is_flood_over();
  }
  [[nodiscard]] bool is_flood_over() const noexcept {
    return flood_ >= flood_min && living_ <= flood_ / flood_min * worthwhile / 4;
  }

  void mark_returned() noexcept { peak_ = living_; }
  // The most connections there were.
  size_t take_flood() noexcept { return std::exchange(flood_, living_); }

 private:
  // With fewer there is little to win, and the count of a small server goes up and down all the time.
  static constexpr size_t worthwhile = 64;
  static constexpr size_t flood_min = 1024;

  size_t living_ = 0;
  size_t peak_ = 0;   // since memory was returned
  size_t flood_ = 0;  // since the last flood was over
};

// Takes about a millisecond for each 20 MB it returns, and gives the GIL away meanwhile. After a flood it runs Python:
// Loop._after_flood(). False: the indicator is set.
[[nodiscard]] bool return_memory(Gil gil, LoopCore& core) noexcept;

}  // namespace cxxloop::python
