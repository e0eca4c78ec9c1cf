// SPDX-License-Identifier: MIT
//
// benchmarks/net/load_socket.h: connected sockets of the load clients.
//
// Decision: loopback only. A load generator that can be pointed at a stranger is a weapon.
#pragma once

#include <sys/socket.h>

#include <optional>

#include "load_options.h"

namespace cxxloop::benchmarks {

struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t size = 0;
};

// Nothing when the options name anything but a loopback or a unix address.
std::optional<SocketAddress> loopback_address(const LoadOptions& options);

// A connected blocking socket, whose calls give up after 10 seconds, or -1.
int open_connection(const SocketAddress& address, bool datagrams);

}  // namespace cxxloop::benchmarks
