// SPDX-License-Identifier: MIT
//
// io/fd_table.h: what a backend knows of each descriptor, by its number.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <type_traits>
#include <utility>

namespace cxxloop::io {

// Entries begin as zero bytes and never move.
template <class Entry>
class FdTable {
  static_assert(std::is_trivially_copyable_v<Entry> && std::is_trivially_destructible_v<Entry>);

 public:
  static constexpr size_t chunk_size = 256;  // entries that are made and freed together

  FdTable() noexcept = default;
  FdTable(const FdTable&) = delete;
  FdTable& operator=(const FdTable&) = delete;
  ~FdTable() {
    for (size_t i = 0; i < chunk_count_; ++i) std::free(chunks_[i]);
    std::free(chunks_);
  }

  // nullptr: never used.
  [[nodiscard]] Entry* find(int fd) const noexcept {
    const size_t index = static_cast<size_t>(fd) / chunk_size;
    if (fd < 0 || index >= chunk_count_ || chunks_[index] == nullptr) return nullptr;
    return &chunks_[index][static_cast<size_t>(fd) % chunk_size];
  }

  // nullptr: out of memory.
  [[nodiscard]] Entry* find_or_make(int fd) noexcept {
    if (Entry* const entry = find(fd); entry != nullptr) [[likely]] return entry;
    const size_t index = static_cast<size_t>(fd) / chunk_size;
    if (index >= chunk_count_ && !grow(std::max(index + 1, chunk_count_ * 2))) return nullptr;
    chunks_[index] = static_cast<Entry*>(std::calloc(chunk_size, sizeof(Entry)));
    return find(fd);
  }

  // Frees the chunks in which is_unused(entry) holds for every entry; they begin anew as zero bytes.
  template <class F>
  void free_unused(F&& is_unused) noexcept {
    for (size_t i = 0; i < chunk_count_; ++i) {
      if (chunks_[i] == nullptr || !std::all_of(chunks_[i], chunks_[i] + chunk_size, is_unused)) continue;
      std::free(std::exchange(chunks_[i], nullptr));
    }
  }

  // visit(entry) for every entry, those that were never used included; it may change the table.
  template <class F>
  void for_each(F&& visit) const noexcept {
    for (size_t i = 0; i < chunk_count_; ++i) {
      for (size_t k = 0; chunks_[i] != nullptr && k < chunk_size; ++k) visit(chunks_[i][k]);
    }
  }

 private:
  bool grow(size_t count) noexcept {
    auto* const chunks = static_cast<Entry**>(std::realloc(chunks_, count * sizeof(Entry*)));
    if (chunks == nullptr) return false;
    std::fill(chunks + chunk_count_, chunks + count, nullptr);
    chunks_ = chunks;
    chunk_count_ = count;
    return true;
  }

  Entry** chunks_ = nullptr;
  size_t chunk_count_ = 0;
};

}  // namespace cxxloop::io
