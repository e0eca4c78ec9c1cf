// SPDX-License-Identifier: MIT
//
// benchmarks/net/byte_pattern.h: what byte must stand at which position of which connection.
//
// Decision: one table of a prime period, read at position + connection * stride. A lost, doubled or swapped message and a byte of
// another connection all shift the phase, and both sending and checking stay one copy or one memcmp of a table that fits in L1.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

namespace cxxloop::benchmarks {

class BytePattern {
 public:
  static constexpr size_t period = 4093;
  // Longest run that bytes_at() and matches() can serve.
  static constexpr size_t run_max = size_t{256} * 1024;

  BytePattern() : table_(period + run_max) {
    uint64_t state = 0x9e3779b97f4a7c15;
    for (size_t i = 0; i < period; ++i) {
      state ^= state << 13;
      state ^= state >> 7;
      state ^= state << 17;
      table_[i] = static_cast<char>(state >> 32);
    }
    for (size_t i = period; i < table_.size(); ++i) table_[i] = table_[i - period];
  }

  // At least run_max bytes of the connection's stream from `position` on.
  [[nodiscard]] const char* bytes_at(size_t connection, uint64_t position) const noexcept {
    return table_.data() + (position + connection * connection_stride) % period;
  }

  // REQUIRES: size <= run_max.
  [[nodiscard]] bool matches(size_t connection, uint64_t position, const char* data, size_t size) const noexcept {
    return std::memcmp(bytes_at(connection, position), data, size) == 0;
  }

 private:
  static constexpr size_t connection_stride = 1571;  // Coprime to the period: connections below it never share a phase.

  std::vector<char> table_;
};

}  // namespace cxxloop::benchmarks
