// SPDX-License-Identifier: MIT
//
// python/sockaddr.h: kernel addresses as the socket module writes them.
#pragma once

#include <sys/socket.h>

#include "python/ref.h"

namespace cxxloop::python {

// (host, port), (host, port, flowinfo, scope_id), a path, or an abstract name as bytes. Null without the indicator set:
// an address family only the socket module knows. Null with it: out of memory.
Ref sockaddr_to_object(Gil gil, const sockaddr_storage& address, socklen_t size) noexcept;

}  // namespace cxxloop::python
