// SPDX-License-Identifier: MIT
#include "python/interp/sockaddr.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/un.h>

#include <cstddef>
#include <cstring>
#include <limits>
#include <span>

namespace cxxloop::python {
namespace {

Ref inet_to_object(const sockaddr_in& address) noexcept {
  char host[INET_ADDRSTRLEN];
  if (inet_ntop(AF_INET, &address.sin_addr, host, sizeof(host)) == nullptr) return {};
  return Ref::steal(Py_BuildValue("si", host, static_cast<int>(ntohs(address.sin_port))));
}

Ref inet6_to_object(const sockaddr_in6& address) noexcept {
  char host[INET6_ADDRSTRLEN];
  if (inet_ntop(AF_INET6, &address.sin6_addr, host, sizeof(host)) == nullptr) return {};
  return Ref::steal(Py_BuildValue("siII", host, static_cast<int>(ntohs(address.sin6_port)),
                                  static_cast<unsigned>(ntohl(address.sin6_flowinfo)),
                                  static_cast<unsigned>(address.sin6_scope_id)));
}

Ref unix_to_object(const sockaddr_un& address, socklen_t size) noexcept {
  const size_t header = offsetof(sockaddr_un, sun_path);
  const size_t length = size > header ? size - header : 0;
  if (length > 0 && address.sun_path[0] == '\0') {
    return Ref::steal(PyBytes_FromStringAndSize(address.sun_path, static_cast<Py_ssize_t>(length)));
  }
  const size_t text_length = strnlen(address.sun_path, length);
  return Ref::steal(PyUnicode_DecodeFSDefaultAndSize(address.sun_path, static_cast<Py_ssize_t>(text_length)));
}

// The number at `index` of a tuple. False: it is none, or not between 0 and `number_max`.
bool number_at(PyObject* tuple, Py_ssize_t index, long number_max, long* number) noexcept {
  PyObject* const item = PyTuple_GET_ITEM(tuple, index);
  if (!PyLong_CheckExact(item)) return false;
  int overflow = 0;
  *number = PyLong_AsLongAndOverflow(item, &overflow);
  return overflow == 0 && *number >= 0 && *number <= number_max;
}

// The numeric host at the front of a tuple. False: anything else.
bool host_at_front(PyObject* tuple, int family, void* host) noexcept {
  PyObject* const item = PyTuple_GET_ITEM(tuple, 0);
  if (!PyUnicode_CheckExact(item) || !PyUnicode_IS_COMPACT_ASCII(item)) return false;
  const char* const text = static_cast<const char*>(PyUnicode_DATA(item));
  return strlen(text) == static_cast<size_t>(PyUnicode_GET_LENGTH(item)) && inet_pton(family, text, host) == 1;
}

constexpr long port_max = 65535;

bool object_to_inet(PyObject* object, io::Address* address) noexcept {
  if (!PyTuple_CheckExact(object) || PyTuple_GET_SIZE(object) != 2) return false;
  auto& inet = reinterpret_cast<sockaddr_in&>(address->storage);
  inet = {};
  long port = 0;
  if (!number_at(object, 1, port_max, &port) || !host_at_front(object, AF_INET, &inet.sin_addr)) return false;
  inet.sin_family = AF_INET;
  inet.sin_port = htons(static_cast<uint16_t>(port));
  address->size = sizeof(inet);
  return true;
}

bool object_to_inet6(PyObject* object, io::Address* address) noexcept {
  if (!PyTuple_CheckExact(object)) return false;
  const Py_ssize_t size = PyTuple_GET_SIZE(object);
  if (size < 2 || size > 4) return false;
  auto& inet6 = reinterpret_cast<sockaddr_in6&>(address->storage);
  inet6 = {};
  constexpr long flowinfo_max = 0xFFFFF;
  constexpr long scope_id_max = std::numeric_limits<uint32_t>::max();
  long port = 0;
  long flowinfo = 0;
  long scope_id = 0;
  if (!number_at(object, 1, port_max, &port)) return false;
  if (size > 2 && !number_at(object, 2, flowinfo_max, &flowinfo)) return false;
  if (size > 3 && !number_at(object, 3, scope_id_max, &scope_id)) return false;
  if (!host_at_front(object, AF_INET6, &inet6.sin6_addr)) return false;
  inet6.sin6_family = AF_INET6;
  inet6.sin6_port = htons(static_cast<uint16_t>(port));
  inet6.sin6_flowinfo = htonl(static_cast<uint32_t>(flowinfo));
  inet6.sin6_scope_id = static_cast<uint32_t>(scope_id);
  address->size = sizeof(inet6);
  return true;
}

// A path ends with a NUL that counts, a name in Linux' abstract namespace begins with one and has no end mark.
bool path_to_unix(std::span<const char> path, io::Address* address) noexcept {
  auto& unix_address = reinterpret_cast<sockaddr_un&>(address->storage);
  const bool is_abstract = path.empty() || path[0] == '\0';
  const size_t size = path.size() + (is_abstract ? 0 : 1);
  if (size > sizeof(unix_address.sun_path)) return false;
  unix_address = {};
  unix_address.sun_family = AF_UNIX;
  if (!path.empty()) std::memcpy(unix_address.sun_path, path.data(), path.size());
  address->size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + size);
  return true;
}

bool object_to_unix(PyObject* object, io::Address* address) noexcept {
  Ref bytes = PyBytes_CheckExact(object) ? Ref::borrow(object) : Ref();
  if (!bytes && PyUnicode_CheckExact(object)) bytes = Ref::steal(PyUnicode_EncodeFSDefault(object));
  if (!bytes) {
    PyErr_Clear();
    return false;
  }
  return path_to_unix({PyBytes_AS_STRING(bytes.get()), static_cast<size_t>(PyBytes_GET_SIZE(bytes.get()))}, address);
}

}  // namespace

Ref sockaddr_to_object(Gil, const sockaddr_storage& address, socklen_t size) noexcept {
  switch (address.ss_family) {
    case AF_INET:
      return inet_to_object(reinterpret_cast<const sockaddr_in&>(address));
    case AF_INET6:
      return inet6_to_object(reinterpret_cast<const sockaddr_in6&>(address));
    case AF_UNIX:
      return unix_to_object(reinterpret_cast<const sockaddr_un&>(address), size);
    default:
      return {};
  }
}

bool object_to_sockaddr(Gil, int family, PyObject* object, io::Address* address) noexcept {
  switch (family) {
    case AF_INET:
      return object_to_inet(object, address);
    case AF_INET6:
      return object_to_inet6(object, address);
    case AF_UNIX:
      return object_to_unix(object, address);
    default:
      return false;
  }
}

}  // namespace cxxloop::python
