// SPDX-License-Identifier: MIT
//
// base/result.h: a value or the Errno that stood in its way (std::expected is C++23).
#pragma once

#include <utility>

#include "base/assert.h"
#include "base/errno.h"

namespace cxxloop {

// T is small and default-constructible: a size, a descriptor.
template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) noexcept : value_(std::move(value)) {}  // NOLINT: implicit, so that `return n;` reads as it should
  Result(Errno error) noexcept : error_(error) { CXL_ASSERT(error != Errno::ok); }

  [[nodiscard]] bool ok() const noexcept { return error_ == Errno::ok; }
  [[nodiscard]] Errno error() const noexcept { return error_; }
  [[nodiscard]] T& value() noexcept {
    CXL_ASSERT(ok());
    return value_;
  }

 private:
  T value_{};
  Errno error_ = Errno::ok;
};

}  // namespace cxxloop
