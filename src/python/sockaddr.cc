// SPDX-License-Identifier: MIT
#include "python/sockaddr.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/un.h>

#include <cstddef>

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

}  // namespace cxxloop::python
