// SPDX-License-Identifier: MIT
//
// python/interp/sockaddr.h: kernel addresses as the socket module writes them.
#pragma once

#include <sys/socket.h>

#include "io/address.h"
#include "python/interp/ref.h"

namespace cxxloop::python {

// (host, port), (host, port, flowinfo, scope_id), a path, or an abstract name as bytes. Null without the indicator set:
// an address family only the socket module knows. Null with it: out of memory.
Ref sockaddr_to_object(Gil gil, const sockaddr_storage& address, socklen_t size) noexcept;
// The way back for what needs no look-up: numeric hosts in exact tuples, paths and abstract names. False: only the
// socket module can tell what `object` means, or that it means nothing. The indicator is never set.
[[nodiscard]] bool object_to_sockaddr(Gil gil, int family, PyObject* object, io::Address* address) noexcept;

}  // namespace cxxloop::python
