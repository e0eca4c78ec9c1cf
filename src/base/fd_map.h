// SPDX-License-Identifier: MIT
//
// base/fd_map.h: a row for each descriptor number. Tells when memory is out, and costs little for a large number.
//
// A number can be any that a program passes: before a map grows for one, the caller asks the kernel whether it is open.
// Thread: one.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <type_traits>
#include <utility>

namespace cxxloop {

// Rows begin as zero bytes and never move.
template <class Row>
class FdMap {
  static_assert(std::is_trivially_copyable_v<Row> && std::is_trivially_destructible_v<Row>);

 public:
  static constexpr size_t chunk_size = 256;  // rows that are made and freed together

  FdMap() noexcept = default;
  FdMap(const FdMap&) = delete;
  FdMap& operator=(const FdMap&) = delete;
  ~FdMap() {
    for (size_t i = 0; i < chunk_count_; ++i) std::free(chunks_[i]);
    std::free(chunks_);
  }

  // nullptr: never used.
  [[nodiscard]] Row* find(int fd) const noexcept {
    const size_t index = static_cast<size_t>(fd) / chunk_size;
    if (fd < 0 || index >= chunk_count_ || chunks_[index] == nullptr) return nullptr;
    return &chunks_[index][static_cast<size_t>(fd) % chunk_size];
  }

  // nullptr: out of memory.
  [[nodiscard]] Row* find_or_make(int fd) noexcept {
    if (Row* const row = find(fd); row != nullptr) [[likely]] return row;
    const size_t index = static_cast<size_t>(fd) / chunk_size;
    if (index >= chunk_count_ && !grow(std::max(index + 1, chunk_count_ * 2))) return nullptr;
    chunks_[index] = static_cast<Row*>(std::calloc(chunk_size, sizeof(Row)));
    return find(fd);
  }

  // Frees the chunks in which is_unused(row) holds for every row; they begin anew as zero bytes.
  template <class F>
  void free_unused(F&& is_unused) noexcept {
    for (size_t i = 0; i < chunk_count_; ++i) {
      if (chunks_[i] == nullptr || !std::all_of(chunks_[i], chunks_[i] + chunk_size, is_unused)) continue;
      std::free(std::exchange(chunks_[i], nullptr));
    }
  }

  // visit(row) for every row of every chunk, those that were never used included; it may change the map.
  template <class F>
  void for_each(F&& visit) const noexcept {
    for (size_t i = 0; i < chunk_count_; ++i) {
      for (size_t k = 0; chunks_[i] != nullptr && k < chunk_size; ++k) visit(chunks_[i][k]);
    }
  }

 private:
  bool grow(size_t count) noexcept {
    auto* const chunks = static_cast<Row**>(std::realloc(chunks_, count * sizeof(Row*)));
    if (chunks == nullptr) return false;
    std::fill(chunks + chunk_count_, chunks + count, nullptr);
    chunks_ = chunks;
    chunk_count_ = count;
    return true;
  }

  Row** chunks_ = nullptr;
  size_t chunk_count_ = 0;
};

}  // namespace cxxloop
