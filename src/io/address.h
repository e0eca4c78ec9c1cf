// SPDX-License-Identifier: MIT
//
// io/address.h: a socket address as the kernel reads and writes it.
#pragma once

#include <sys/socket.h>

namespace cxxloop::io {

struct Address {
  sockaddr_storage storage;  // its first `size` bytes count; the others are not even initialised
  socklen_t size = 0;        // 0: no address, as of a UNIX socket that is not bound

  [[nodiscard]] sockaddr* get() noexcept { return reinterpret_cast<sockaddr*>(&storage); }
  [[nodiscard]] const sockaddr* get() const noexcept { return reinterpret_cast<const sockaddr*>(&storage); }
};

}  // namespace cxxloop::io
