// SPDX-License-Identifier: MIT

#include "load_socket.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>

namespace cxxloop::benchmarks {

std::optional<SocketAddress> loopback_address(const LoadOptions& options) {
  SocketAddress address;
  auto* any = &address.storage;
  if (!options.unix_path.empty()) {
    sockaddr_un local{.sun_family = AF_UNIX, .sun_path = {}};
    if (options.unix_path.size() >= sizeof local.sun_path) return std::nullopt;
    std::memcpy(local.sun_path, options.unix_path.data(), options.unix_path.size());
    std::memcpy(any, &local, address.size = sizeof local);
    return address;
  }
  sockaddr_in v4{};
  if (inet_pton(AF_INET, options.host.c_str(), &v4.sin_addr) == 1 && ntohl(v4.sin_addr.s_addr) >> 24 == IN_LOOPBACKNET) {
    v4.sin_family = AF_INET;
    v4.sin_port = htons(options.port);
    std::memcpy(any, &v4, address.size = sizeof v4);
    return address;
  }
  sockaddr_in6 v6{};
  if (inet_pton(AF_INET6, options.host.c_str(), &v6.sin6_addr) == 1 && IN6_IS_ADDR_LOOPBACK(&v6.sin6_addr)) {
    v6.sin6_family = AF_INET6;
    v6.sin6_port = htons(options.port);
    std::memcpy(any, &v6, address.size = sizeof v6);
    return address;
  }
  return std::nullopt;
}

int open_connection(const SocketAddress& address, bool datagrams) {
  const int fd = socket(address.storage.ss_family, (datagrams ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC, 0);
  if (fd < 0) return -1;
  const timeval patience{.tv_sec = 10, .tv_usec = 0};
  const int on = 1;
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  if (address.storage.ss_family != AF_UNIX && !datagrams) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  if (connect(fd, reinterpret_cast<const sockaddr*>(&address.storage), address.size) != 0) {
    close(fd);
    return -1;
  }
  return fd;
}

}  // namespace cxxloop::benchmarks
