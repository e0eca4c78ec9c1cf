// SPDX-License-Identifier: MIT
#include "io/socket.h"

#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/epoll.h>
#endif

#include <algorithm>
#include <array>
#include <cstring>

namespace cxxloop::io {
namespace {

#ifdef MSG_NOSIGNAL
constexpr int send_flags = MSG_NOSIGNAL | MSG_DONTWAIT;
#else
constexpr int send_flags = MSG_DONTWAIT;  // The socket has SO_NOSIGPIPE, or the process ignores SIGPIPE as Python's does.
#endif

// Repeats `call` until it was not interrupted.
template <class Call>
auto without_eintr(Call&& call) noexcept {
  for (;;) {
    const auto result = call();
    if (result >= 0 || last_errno() != Errno::interrupted) return result;
  }
}

Result<size_t> size_or_error(ssize_t result) noexcept {
  if (result < 0) return last_errno();
  return static_cast<size_t>(result);
}

#ifdef __linux__
// Asks epoll itself: fstat() cannot tell, a pidfd looks like a regular file since Linux 6.9.
Errno probe_with_epoll(int fd) noexcept {
  const UniqueFd scratch(epoll_create1(EPOLL_CLOEXEC));
  if (!scratch.valid()) return last_errno();
  epoll_event event{};
  return epoll_ctl(scratch.get(), EPOLL_CTL_ADD, fd, &event) == 0 ? Errno::ok : last_errno();
}
#endif

}  // namespace

Result<size_t> receive(int fd, std::span<std::byte> into) noexcept {
  return size_or_error(without_eintr([&] { return ::recv(fd, into.data(), into.size(), MSG_DONTWAIT); }));
}

Result<size_t> send_file(int socket, int file, uint64_t offset, size_t size) noexcept {
  off_t at = static_cast<off_t>(offset);
  return size_or_error(without_eintr([&] { return ::sendfile(socket, file, &at, size); }));
}

Result<size_t> read_file(int file, std::span<std::byte> into, uint64_t offset) noexcept {
  return size_or_error(without_eintr([&] { return ::pread(file, into.data(), into.size(), static_cast<off_t>(offset)); }));
}

Result<size_t> send(int fd, std::span<const std::byte> bytes) noexcept {
  return size_or_error(without_eintr([&] { return ::send(fd, bytes.data(), bytes.size(), send_flags); }));
}

namespace {

// The head and body of a small response: copying them costs less than the kernel's walk over a vector.
constexpr size_t joined_bytes_max = 4096;

// The bytes of all entries, or 0 if they are too many to copy.
size_t small_total(std::span<const iovec> iov) noexcept {
  size_t size = 0;
  for (const iovec& entry : iov) {
    size += entry.iov_len;
    if (size > joined_bytes_max) return 0;
  }
  return size;
}

Result<size_t> send_joined(std::span<const iovec> iov, int fd, size_t size) noexcept {
  std::array<std::byte, joined_bytes_max> joined;
  std::byte* end = joined.data();
  for (const iovec& entry : iov) {
    std::memcpy(end, entry.iov_base, entry.iov_len);
    end += entry.iov_len;
  }
  return send(fd, {joined.data(), size});
}

FileIdentity identity_in(const struct stat& status) noexcept {
  if (!S_ISSOCK(status.st_mode) && !S_ISFIFO(status.st_mode)) return {};
  return {static_cast<uint64_t>(status.st_dev), static_cast<uint64_t>(status.st_ino)};
}

}  // namespace

Result<size_t> send_vector(int fd, std::span<const iovec> iov) noexcept {
  if (iov.size() == 1) return send(fd, {static_cast<const std::byte*>(iov[0].iov_base), iov[0].iov_len});
  if (const size_t size = small_total(iov); size > 0) return send_joined(iov, fd, size);
  msghdr message{};
  message.msg_iov = const_cast<iovec*>(iov.data());  // sendmsg() only reads it; POSIX left the const out.
  message.msg_iovlen = static_cast<decltype(message.msg_iovlen)>(std::min<size_t>(iov.size(), IOV_MAX));
  return size_or_error(without_eintr([&] { return ::sendmsg(fd, &message, send_flags); }));
}

Result<size_t> receive_from(int fd, std::span<std::byte> into, Address* peer) noexcept {
  return size_or_error(without_eintr([&] {
    peer->size = sizeof(peer->storage);
    return ::recvfrom(fd, into.data(), into.size(), MSG_DONTWAIT, peer->get(), &peer->size);
  }));
}

Result<size_t> send_to(int fd, std::span<const std::byte> datagram, const Address* address) noexcept {
  if (address == nullptr) return send(fd, datagram);
  return size_or_error(without_eintr([&] {
    return ::sendto(fd, datagram.data(), datagram.size(), send_flags, address->get(), address->size);
  }));
}

Result<int> accept_connection(int listener, Address* peer) noexcept {
  const int fd = without_eintr([&] {
    peer->size = sizeof(peer->storage);
#ifdef SOCK_NONBLOCK
    return ::accept4(listener, peer->get(), &peer->size, SOCK_NONBLOCK | SOCK_CLOEXEC);
#else
    return ::accept(listener, peer->get(), &peer->size);
#endif
  });
  if (fd < 0) return last_errno();
#ifndef SOCK_NONBLOCK
  if (const Errno error = set_nonblocking_cloexec(fd); error != Errno::ok) {
    ::close(fd);
    return error;
  }
#endif
#ifdef SO_NOSIGPIPE
  const int on = 1;
  static_cast<void>(::setsockopt(fd, SOL_SOCKET, SO_NOSIGPIPE, &on, sizeof(on)));
#endif
  return fd;
}

Errno shutdown_write(int fd) noexcept {
  if (::shutdown(fd, SHUT_WR) == 0) return Errno::ok;
  return last_errno();
}

void send_without_delay(int fd) noexcept {
  const int on = 1;
  (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

void reset_when_closed(int fd) noexcept {
  const linger at_once = {1, 0};
  (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
}

FileIdentity identity_of(int fd) noexcept {
  struct stat status;
  return ::fstat(fd, &status) == 0 ? identity_in(status) : FileIdentity{};
}

Errno check_pollable(int fd, FileIdentity* identity) noexcept {
  struct stat status;
  if (::fstat(fd, &status) != 0) return last_errno();
  *identity = identity_in(status);
  if (identity->is_known()) return Errno::ok;
#ifdef __linux__
  return probe_with_epoll(fd);
#else
  return S_ISDIR(status.st_mode) ? Errno::not_permitted : Errno::ok;
#endif
}

bool is_open(int fd) noexcept { return ::fcntl(fd, F_GETFD) != -1; }

Errno set_nonblocking_cloexec(int fd) noexcept {
  const int flags = ::fcntl(fd, F_GETFL);
  if (flags == -1 || ::fcntl(fd, F_SETFL, flags | O_NONBLOCK) == -1 || ::fcntl(fd, F_SETFD, FD_CLOEXEC) == -1) {
    return last_errno();
  }
  return Errno::ok;
}

}  // namespace cxxloop::io
