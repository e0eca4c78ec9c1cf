// SPDX-License-Identifier: MIT
#include "cpp/io/worlds.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <utility>

#include "io/backends.h"

namespace cxxloop::io {

EvWorld::EvWorld() : EvWorld("libev") {}
LateWorld::LateWorld() : EvWorld("late") {}

EvWorld::EvWorld(const char* backend_name) {
  Errno why = Errno::ok;
  backend_ = find_backend(backend_name)->make(&why);
  EXPECT_NE(backend_, nullptr);
  EXPECT_EQ(why, Errno::ok);
}

FdPair EvWorld::make_pair() {
  int fds[2];
  EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
  return {fds[0], fds[1]};
}

int EvWorld::make_listener() {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  EXPECT_EQ(::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
  EXPECT_EQ(::listen(fd, 128), 0);
  return fd;
}

FdPair EvWorld::make_datagram_pair() {
  FdPair fds{};
  for (int* const fd : {&fds.near, &fds.far}) {
    *fd = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    sockaddr address{};
    address.sa_family = AF_UNIX;
    EXPECT_EQ(::bind(*fd, &address, sizeof(sa_family_t)), 0);  // the kernel chooses an abstract name
  }
  for (const auto& [from, to] : {std::pair(fds.near, fds.far), std::pair(fds.far, fds.near)}) {
    const Address address = address_of(to);
    EXPECT_EQ(::connect(from, address.get(), address.size), 0);
  }
  return fds;
}

Address EvWorld::address_of(int fd) {
  Address address;
  address.size = sizeof(address.storage);
  EXPECT_EQ(::getsockname(fd, address.get(), &address.size), 0);
  return address;
}

std::vector<std::string> EvWorld::read_datagrams(int fd) {
  std::vector<std::string> all;
  std::array<char, 65536> one;
  ssize_t size;
  while ((size = ::recv(fd, one.data(), one.size(), MSG_DONTWAIT)) >= 0) {
    all.emplace_back(one.data(), static_cast<size_t>(size));
  }
  return all;
}

int EvWorld::connect(int listener) {
  sockaddr_storage address;
  socklen_t size = sizeof(address);
  EXPECT_EQ(::getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size), 0);
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  EXPECT_EQ(::connect(fd, reinterpret_cast<const sockaddr*>(&address), size), 0);
  return fd;
}

size_t EvWorld::write(int fd, std::string_view bytes) {
  const ssize_t size = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  return size < 0 ? 0 : static_cast<size_t>(size);
}

std::string EvWorld::read(int fd) {
  std::string all;
  std::array<char, 65536> part;
  ssize_t size;
  while ((size = ::recv(fd, part.data(), part.size(), MSG_DONTWAIT)) > 0) {
    all.append(part.data(), static_cast<size_t>(size));
  }
  return all;
}

bool EvWorld::at_eof(int fd) {
  char byte;
  return ::recv(fd, &byte, 1, MSG_DONTWAIT | MSG_PEEK) == 0;
}

void EvWorld::close(int fd) { ::close(fd); }

size_t SimWorld::write(int fd, std::string_view bytes) {
  Result<size_t> written = backend_.write(fd, bytes);
  return written.ok() ? written.value() : 0;
}

std::string SimWorld::read(int fd) {
  std::string all;
  std::array<std::byte, 4096> part;
  for (;;) {
    Result<size_t> size = backend_.read(fd, part);
    if (!size.ok() || size.value() == 0) return all;
    all.append(reinterpret_cast<const char*>(part.data()), size.value());
  }
}

std::vector<std::string> SimWorld::read_datagrams(int fd) {
  std::vector<std::string> all;
  std::array<std::byte, 65536> one;
  for (;;) {
    Result<size_t> size = backend_.read(fd, one);
    if (!size.ok()) return all;
    all.emplace_back(reinterpret_cast<const char*>(one.data()), size.value());
  }
}

bool SimWorld::at_eof(int fd) {
  std::array<std::byte, 1> byte;
  Result<size_t> size = backend_.read(fd, byte);
  return size.ok() && size.value() == 0;
}

}  // namespace cxxloop::io
