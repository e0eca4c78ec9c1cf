// SPDX-License-Identifier: MIT
//
// web/python/header_cache.h: the (name, value) tuples of request headers, made once for those that come again and again.
//
// Clients repeat themselves: all but one or two headers of a request are those of the request before. A row is replaced by
// whatever else falls on it, so the cache is bounded. Secrets and long values are not kept.
// Thread: any that holds the GIL.  Owns: its tuples, which are in no cycle.
#pragma once

#include <array>
#include <cstddef>
#include <string_view>

#include "python/interp/ref.h"

namespace cxxloop::python {

class HeaderCache {
 public:
  // The name in lower case and the value, both bytes. Null: the indicator is set.
  [[nodiscard]] Ref pair_of(Gil gil, std::string_view name, std::string_view value) noexcept;
  // How many were made so far that may not be kept: they are secret or long.
  [[nodiscard]] size_t unkept_count() const noexcept { return unkept_count_; }

 private:
  static constexpr size_t rows_max = 512;  // a power of two
  static constexpr size_t name_bytes_max = 32;
  static constexpr size_t value_bytes_max = 256;

  struct Row {
    Ref pair;                               // null: the row is empty
    std::array<char, name_bytes_max> name;  // as it was sent, which is compared faster than without regard to case
  };

  std::array<Row, rows_max> rows_;
  size_t unkept_count_ = 0;
};

}  // namespace cxxloop::python
