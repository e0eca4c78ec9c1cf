// SPDX-License-Identifier: MIT
#include "web/python/header_cache.h"

#include <cstdint>
#include <cstring>

#include "web/core/characters.h"

namespace cxxloop::python {
namespace {

std::string_view view_of(PyObject* bytes) noexcept {
  return {PyBytes_AS_STRING(bytes), static_cast<size_t>(PyBytes_GET_SIZE(bytes))};
}

void write_lower(char* target, std::string_view name) noexcept {
  for (const char letter : name) *target++ = web::lower(letter);
}

// Mixes eight bytes at a time: the values are longer than the names. A bad spread costs speed only.
uint64_t hash_of(std::string_view text, uint64_t hash) noexcept {
  constexpr uint64_t factor = 0x9E3779B97F4A7C15;
  const char* at = text.data();
  size_t left = text.size();
  for (uint64_t word = 0; left >= sizeof(word); left -= sizeof(word), at += sizeof(word)) {
    std::memcpy(&word, at, sizeof(word));
    hash = (hash ^ word) * factor;
    hash ^= hash >> 29;
  }
  uint64_t rest = left;
  for (; left > 0; --left) rest = rest << 8 | static_cast<unsigned char>(*at++);
  hash = (hash ^ rest) * factor;
  return hash ^ hash >> 32;
}

bool is_secret(std::string_view name) noexcept {
  return web::equals(name, "authorization") || web::equals(name, "cookie") || web::equals(name, "proxy-authorization");
}

Ref make_name(std::string_view name) noexcept {
  Ref bytes = Ref::steal(PyBytes_FromStringAndSize(nullptr, static_cast<Py_ssize_t>(name.size())));
  if (bytes) write_lower(PyBytes_AS_STRING(bytes.get()), name);
  return bytes;
}

Ref make_pair(std::string_view name, std::string_view value) noexcept {
  const Ref name_bytes = make_name(name);
  const Ref value_bytes =
      name_bytes ? Ref::steal(PyBytes_FromStringAndSize(value.data(), static_cast<Py_ssize_t>(value.size()))) : Ref();
  return value_bytes ? Ref::steal(PyTuple_Pack(2, name_bytes.get(), value_bytes.get())) : Ref();
}

bool is_pair_of(PyObject* pair, std::string_view lower_name, std::string_view value) noexcept {
  return view_of(PyTuple_GET_ITEM(pair, 0)) == lower_name && view_of(PyTuple_GET_ITEM(pair, 1)) == value;
}

}  // namespace

Ref HeaderCache::pair_of(Gil, std::string_view name, std::string_view value) noexcept {
  if (name.size() > name_bytes_max || value.size() > value_bytes_max || is_secret(name)) return make_pair(name, value);
  std::array<char, name_bytes_max> lower_name;
  write_lower(lower_name.data(), name);
  const std::string_view key(lower_name.data(), name.size());
  Ref& row = rows_[hash_of(value, hash_of(key, 0)) % rows_max];
  if (row && is_pair_of(row.get(), key, value)) return Ref::borrow(row.get());
  Ref pair = make_pair(key, value);
  if (pair) row = Ref::borrow(pair.get());
  return pair;
}

}  // namespace cxxloop::python
