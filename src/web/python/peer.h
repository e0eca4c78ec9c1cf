// SPDX-License-Identifier: MIT
//
// web/python/peer.h: what a scope says of a connection, made once when it is accepted.
#pragma once

#include "io/address.h"
#include "python/interp/ref.h"
#include "web/python/trusted_peers.h"

namespace cxxloop::python {

// Owned by the core's connection, as the opaque value that Application::on_connect() returns.
struct Peer {
  Ref client;  // (host, port), or None: a UNIX socket
  Ref server;  // (host, port), or (path, None)
  Ref tls;     // the dictionary of ASGI's extension "tls"; null: no request has come, or there is no TLS
  bool is_trusted = false;  // True exactly when its X-Forwarded headers are believed
};

// Null: the indicator is set.
[[nodiscard]] Peer* make_peer(Gil gil, int fd, const io::Address& address, const TrustedPeers& trusted) noexcept;

}  // namespace cxxloop::python
