// SPDX-License-Identifier: MIT
//
// python/loop/address_cache.h: the address objects of recent senders, so that a datagram costs no new tuple.
//
// Decision: a datagram is usually answered to the very tuple it came with; find() then saves the parsing too.
// One per loop: the objects are immutable, and only exact tuples of exact str and int, which form no cycles, get in.
#pragma once

#include <array>
#include <cstddef>
#include <memory>

#include "io/address.h"
#include "python/interp/ref.h"

namespace cxxloop::python {

class AddressCache {
 public:
  // As sockaddr_to_object(); None for no address.
  Ref object_of(Gil gil, const io::Address& address) noexcept;
  // The address behind the object that was handed out last; null for any other object.
  [[nodiscard]] const io::Address* find(PyObject* object) const noexcept;
  void clear() noexcept;

 private:
  struct Entry {
    Ref object;
    io::Address address;
  };
  using Entries = std::array<Entry, 64>;

  std::unique_ptr<Entries> entries_;  // by hash; a newcomer replaces who is there. Null until the first datagram.
  const Entry* last_ = nullptr;
};

}  // namespace cxxloop::python
