// SPDX-License-Identifier: MIT
#include "web/core/address_counts.h"

#include <netinet/in.h>

#include <cstdlib>
#include <cstring>

#include "base/assert.h"

namespace cxxloop::web {
namespace {

constexpr size_t buckets_min = 64;

// Zero: not counted.
uint64_t key_of(const io::Address& address) noexcept {
  if (address.size == 0) return 0;
  if (address.storage.ss_family == AF_INET) {
    return uint64_t{1} << 63 | reinterpret_cast<const sockaddr_in&>(address.storage).sin_addr.s_addr;
  }
  if (address.storage.ss_family != AF_INET6) return 0;
  const in6_addr& six = reinterpret_cast<const sockaddr_in6&>(address.storage).sin6_addr;
  if (IN6_IS_ADDR_V4MAPPED(&six)) {
    uint32_t four;
    std::memcpy(&four, six.s6_addr + 12, sizeof(four));
    return uint64_t{1} << 63 | four;
  }
  uint64_t network;
  std::memcpy(&network, six.s6_addr, sizeof(network));
  return network | 1;  // the loopback's network is zero
}

// Clients choose their addresses, but not as many as would fill one bucket on purpose: a table is of one server's clients.
size_t hash(uint64_t key) noexcept {
  key *= 0x9e3779b97f4a7c15;
  return static_cast<size_t>(key ^ key >> 32);
}

}  // namespace

AddressCounts::~AddressCounts() {
  CXL_ASSERT(size_ == 0);
  std::free(buckets_);
}

AddressCounts::Entry** AddressCounts::find(uint64_t key) noexcept {
  Entry** at = &buckets_[hash(key) & (buckets_count_ - 1)];
  while (*at != nullptr && (*at)->key != key) at = &(*at)->next;
  return at;
}

AddressCounts::Entry* AddressCounts::add(const io::Address& address) noexcept {
  const uint64_t key = key_of(address);
  if (key == 0) return nullptr;
  if (size_ == buckets_count_) grow();
  if (buckets_count_ == 0) return nullptr;
  Entry** const at = find(key);
  if (*at == nullptr) {
    *at = static_cast<Entry*>(std::malloc(sizeof(Entry)));
    if (*at == nullptr) return nullptr;
    **at = {nullptr, key, 0};
    ++size_;
  }
  ++(*at)->count;
  return *at;
}

void AddressCounts::drop(Entry* entry) noexcept {
  if (entry == nullptr || --entry->count > 0) return;
  *find(entry->key) = entry->next;
  std::free(entry);
  --size_;
}

// Without memory the buckets become longer.
void AddressCounts::grow() noexcept {
  const size_t count = buckets_count_ == 0 ? buckets_min : buckets_count_ * 2;
  auto** const buckets = static_cast<Entry**>(std::calloc(count, sizeof(Entry*)));
  if (buckets == nullptr) return;
  for (size_t i = 0; i < buckets_count_; ++i) {
    for (Entry* entry = buckets_[i]; entry != nullptr;) {
      Entry* const next = entry->next;
      Entry** const at = &buckets[hash(entry->key) & (count - 1)];
      entry->next = *at;
      *at = entry;
      entry = next;
    }
  }
  std::free(buckets_);
  buckets_ = buckets;
  buckets_count_ = count;
}

}  // namespace cxxloop::web
