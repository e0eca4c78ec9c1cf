// SPDX-License-Identifier: MIT
//
// web/core/address_counts.h: how many connections each client address has.
//
// An IPv6 address counts by its first 64 bits: one client has all that follow them. UNIX sockets are not counted.
// Thread: loop thread.  Python: none.  Owns: an entry for each address that has a connection.
#pragma once

#include <cstddef>
#include <cstdint>

#include "io/address.h"

namespace cxxloop::web {

class AddressCounts {
 public:
  struct Entry {
    Entry* next;
    uint64_t key;
    size_t count;
  };

  AddressCounts() noexcept = default;
  AddressCounts(const AddressCounts&) = delete;
  AddressCounts& operator=(const AddressCounts&) = delete;
  ~AddressCounts();

  // Counts one connection more; null: the address is not counted, or memory is out.
  [[nodiscard]] Entry* add(const io::Address& address) noexcept;
  void drop(Entry* entry) noexcept;
  [[nodiscard]] size_t size() const noexcept { return size_; }

 private:
  [[nodiscard]] Entry** find(uint64_t key) noexcept;
  void grow() noexcept;

  Entry** buckets_ = nullptr;
  size_t buckets_count_ = 0;  // zero or a power of two
  size_t size_ = 0;
};

}  // namespace cxxloop::web
