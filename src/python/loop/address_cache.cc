// SPDX-License-Identifier: MIT
#include "python/loop/address_cache.h"

#include <netinet/in.h>

#include <cstring>
#include <new>

#include "python/interp/sockaddr.h"

namespace cxxloop::python {
namespace {

// All of a sockaddr_in or sockaddr_in6 that tells peers apart, in a few instructions.
size_t hash_of(const io::Address& address) noexcept {
  uint64_t hash = 0;
  if (address.storage.ss_family == AF_INET) {
    const auto& inet = reinterpret_cast<const sockaddr_in&>(address.storage);
    hash = (uint64_t{inet.sin_addr.s_addr} << 16) | inet.sin_port;
  } else {
    const auto& inet6 = reinterpret_cast<const sockaddr_in6&>(address.storage);
    uint64_t low_half = 0;
    std::memcpy(&low_half, inet6.sin6_addr.s6_addr + 8, sizeof(low_half));
    hash = low_half ^ inet6.sin6_port;
  }
  constexpr uint64_t golden_ratio = 0x9E3779B97F4A7C15;
  return static_cast<size_t>((hash * golden_ratio) >> 32);
}

bool is_cached_family(const io::Address& address) noexcept {
  return address.storage.ss_family == AF_INET || address.storage.ss_family == AF_INET6;
}

}  // namespace

Ref AddressCache::object_of(Gil gil, const io::Address& address) noexcept {
  if (address.size == 0) return Ref::borrow(Py_None);
  if (entries_ == nullptr) entries_.reset(new (std::nothrow) Entries);
  if (!is_cached_family(address) || entries_ == nullptr) return sockaddr_to_object(gil, address.storage, address.size);
  Entry& entry = (*entries_)[hash_of(address) % entries_->size()];
  last_ = &entry;
  if (entry.object && entry.address.size == address.size &&
      std::memcmp(&entry.address.storage, &address.storage, address.size) == 0) {
    return Ref::borrow(entry.object.get());
  }
  entry.object = sockaddr_to_object(gil, address.storage, address.size);
  std::memcpy(&entry.address.storage, &address.storage, address.size);
  entry.address.size = address.size;
  return Ref::borrow(entry.object.get());
}

const io::Address* AddressCache::find(PyObject* object) const noexcept {
  return last_ != nullptr && last_->object.get() == object ? &last_->address : nullptr;
}

void AddressCache::clear() noexcept {
  last_ = nullptr;
  entries_.reset();
}

}  // namespace cxxloop::python
