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

// The first eight bytes and the last eight, which may overlap; of a shorter text as many as there are.
uint64_t ends_of(std::string_view text) noexcept {
  uint64_t first = 0;
  uint64_t last = 0;
  if (text.size() < sizeof(first)) {
    for (const char letter : text) first = first << 8 | static_cast<unsigned char>(letter);
    return first;
  }
  std::memcpy(&first, text.data(), sizeof(first));
  std::memcpy(&last, text.data() + text.size() - sizeof(last), sizeof(last));
  return first ^ (last << 1 | last >> 63);
}

// Headers differ in their ends or in their sizes; two that share a row cost speed only.
size_t hash_of(std::string_view name, std::string_view value) noexcept {
  constexpr uint64_t factor = 0x9E3779B97F4A7C15;
  const uint64_t mixed = (ends_of(name) + name.size()) * factor ^ ends_of(value) ^ value.size();
  return (mixed * factor) >> 32;
}

bool is_secret(std::string_view name) noexcept {
  return web::equals(name, "authorization") || web::equals(name, "cookie") || web::equals(name, "proxy-authorization");
}

Ref make_name(std::string_view name) noexcept {
  Ref bytes = Ref::steal(PyBytes_FromStringAndSize(nullptr, static_cast<Py_ssize_t>(name.size())));
  char* target = bytes ? PyBytes_AS_STRING(bytes.get()) : nullptr;
  for (size_t i = 0; bytes && i < name.size(); ++i) target[i] = web::lower(name[i]);
  return bytes;
}

Ref make_pair(std::string_view name, std::string_view value) noexcept {
  const Ref name_bytes = make_name(name);
  const Ref value_bytes =
      name_bytes ? Ref::steal(PyBytes_FromStringAndSize(value.data(), static_cast<Py_ssize_t>(value.size()))) : Ref();
  return value_bytes ? Ref::steal(PyTuple_Pack(2, name_bytes.get(), value_bytes.get())) : Ref();
}

}  // namespace

Ref HeaderCache::pair_of(Gil, std::string_view name, std::string_view value) noexcept {
  if (name.size() > name_bytes_max || value.size() > value_bytes_max) {
    ++unkept_count_;
    return make_pair(name, value);
  }
  Row& row = rows_[hash_of(name, value) % rows_max];
  if (row.pair && view_of(PyTuple_GET_ITEM(row.pair.get(), 1)) == value &&
      view_of(PyTuple_GET_ITEM(row.pair.get(), 0)).size() == name.size() &&
      std::memcmp(row.name.data(), name.data(), name.size()) == 0) {
    return Ref::borrow(row.pair.get());
  }
  Ref pair = make_pair(name, value);
  if (!pair || is_secret(name)) {
    ++unkept_count_;
    return pair;
  }
  row.pair = Ref::borrow(pair.get());
  std::memcpy(row.name.data(), name.data(), name.size());
  return pair;
}

}  // namespace cxxloop::python
