// SPDX-License-Identifier: MIT
//
// base/flood_gauge.h: when to give memory back, by how many connections there are and how many there were.
#pragma once

#include <algorithm>
#include <cstddef>

namespace cxxloop {

class FloodGauge {
 public:
  void add() noexcept {
    peak_ = std::max(peak_, ++living_);
    if (is_tidied_ && living_ > flood_ / 8) {
      is_tidied_ = false;
      flood_ = 0;
    }
    flood_ = std::max(flood_, living_);
  }
  void remove() noexcept { --living_; }

  // Half of the connections are gone, or nearly all. So a flood that ends is looked through a dozen times and not a
  // thousand times.
  [[nodiscard]] bool should_trim() const noexcept {
    return peak_ - living_ >= std::max(living_, worthwhile) || is_flood_over();
  }
  // At first when few are left, which may be clients like any other; once more when the last is gone.
  [[nodiscard]] bool is_flood_over() const noexcept {
    return flood_ >= flood_min && living_ <= (is_tidied_ ? 0 : flood_ / 64);
  }
  // The most connections there were at a time in the flood that is over.
  [[nodiscard]] size_t flood() const noexcept { return flood_; }

  void mark_returned() noexcept { peak_ = living_; }
  void mark_trimmed() noexcept {
    is_tidied_ = living_ > 0;
    if (!is_tidied_) flood_ = 0;
  }

 private:
  // With fewer there is little to win, and the count of a small server goes up and down all the time.
  static constexpr size_t worthwhile = 64;
  static constexpr size_t flood_min = 1024;

  size_t living_ = 0;
  size_t peak_ = 0;         // since memory was returned
  size_t flood_ = 0;        // since the last flood was over
  bool is_tidied_ = false;  // True exactly when what the flood left was tidied up, and some of its last clients live.
};

}  // namespace cxxloop
