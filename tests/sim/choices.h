// SPDX-License-Identifier: MIT
//
// sim/choices.h: what a random user program decides by: a seed, or the bytes a fuzzer thought of.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "sim/random.h"

namespace cxxloop::sim {

class Choices {
 public:
  virtual ~Choices() = default;
  // In [0, bound). REQUIRES: bound > 0.
  virtual size_t below(size_t bound) noexcept = 0;
  // True exactly when there is nothing left to decide by.
  [[nodiscard]] virtual bool exhausted() const noexcept = 0;

  // In [low, high].
  size_t between(size_t low, size_t high) noexcept { return low + below(high - low + 1); }
  // True `per_mille` times of a thousand.
  bool chance(uint32_t per_mille) noexcept { return below(1000) < per_mille; }
};

class SeededChoices final : public Choices {
 public:
  SeededChoices(uint64_t seed, size_t decisions_max) noexcept : random_(seed), decisions_left_(decisions_max) {}
  size_t below(size_t bound) noexcept override {
    if (decisions_left_ > 0) --decisions_left_;
    return random_.below(bound);
  }
  [[nodiscard]] bool exhausted() const noexcept override { return decisions_left_ == 0; }

 private:
  Random random_;
  size_t decisions_left_;
};

// Two bytes a decision; zero when they are used up.
class RecordedChoices final : public Choices {
 public:
  explicit RecordedChoices(std::span<const uint8_t> bytes) noexcept : bytes_(bytes) {}
  size_t below(size_t bound) noexcept override {
    if (exhausted()) return 0;
    const size_t value = bytes_[0] + size_t{256} * bytes_[1];
    bytes_ = bytes_.subspan(2);
    return value % bound;
  }
  [[nodiscard]] bool exhausted() const noexcept override { return bytes_.size() < 2; }

 private:
  std::span<const uint8_t> bytes_;
};

}  // namespace cxxloop::sim
