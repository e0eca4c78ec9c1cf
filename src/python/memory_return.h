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

#include "python/gil.h"

namespace cxxloop::python {

struct ModuleState;

// How many TLS connections there are, and how many there were at most since memory was given back.
struct TlsCount {
  // With fewer there is little to win, and the count of a small server goes up and down all the time.
  static constexpr size_t worthwhile = 64;

  size_t living = 0;
  size_t peak = 0;

  void add() noexcept { peak = std::max(peak, ++living); }
  void remove() noexcept { --living; }
  // Half of them are gone. So a flood that ends is looked through a dozen times and not a thousand times.
  [[nodiscard]] bool has_fallen() const noexcept { return peak - living >= std::max(living, worthwhile); }
};

// Takes about a millisecond for each 20 MB it returns. Gives the GIL away meanwhile.
void return_memory(Gil gil, ModuleState& state) noexcept;

}  // namespace cxxloop::python
