// SPDX-License-Identifier: MIT
//
// io/socket.h: the system calls on descriptors, as functions that return their errors.
//
// EINTR never leaves this file, and no call waits, whatever mode the descriptor is in.
#pragma once

#include <sys/socket.h>
#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/errno.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "io/address.h"

namespace cxxloop::io {

// Bytes received; 0 at end of file.
[[nodiscard]] Result<size_t> receive(int fd, std::span<std::byte> into) noexcept;
// Bytes sent. Never raises SIGPIPE.
[[nodiscard]] Result<size_t> send(int fd, std::span<const std::byte> bytes) noexcept;
[[nodiscard]] Result<size_t> send_vector(int fd, std::span<const iovec> iov) noexcept;

// From a file to a socket, by the kernel alone; fewer bytes than given when the socket is full, 0 at the end of the file.
// The one call here that raises SIGPIPE: its caller has seen to it that it is ignored.
[[nodiscard]] Result<size_t> send_file(int socket, int file, uint64_t offset, size_t size) noexcept;

// Bytes of a file from `offset` on, which may be fewer than there is room for; 0 at its end.
[[nodiscard]] Result<size_t> read_file(int file, std::span<std::byte> into, uint64_t offset) noexcept;

// One datagram and its sender. What does not fit is lost.
[[nodiscard]] Result<size_t> receive_from(int fd, std::span<std::byte> into, Address* peer) noexcept;
// One datagram to `address`; null: to the connected peer.
[[nodiscard]] Result<size_t> send_to(int fd, std::span<const std::byte> datagram, const Address* address) noexcept;

// The accepted connection, non-blocking and close-on-exec; the caller owns it.
[[nodiscard]] Result<int> accept_connection(int listener, Address* peer) noexcept;

// No more sends. ENOTCONN: the peer is gone already.
[[nodiscard]] Errno shutdown_write(int fd) noexcept;

// What is sent leaves at once, however small. No effect on what is not TCP.
void send_without_delay(int fd) noexcept;
// close() will reset the connection and drop what was not sent. No effect on what is not TCP.
void reset_when_closed(int fd) noexcept;

// Which socket or FIFO a descriptor is. All zero: none of the two, and not to be told from others of its kind.
struct FileIdentity {
  uint64_t device;
  uint64_t inode;

  [[nodiscard]] bool is_known() const noexcept { return inode != 0; }
  bool operator==(const FileIdentity&) const noexcept = default;
};
[[nodiscard]] FileIdentity identity_of(int fd) noexcept;

// ok, bad_fd, or not_permitted: a kind of file that has no readiness (regular file, directory, /dev/null).
[[nodiscard]] Errno check_pollable(int fd, FileIdentity* identity) noexcept;

// True exactly when the number is an open descriptor.
[[nodiscard]] bool is_open(int fd) noexcept;

[[nodiscard]] Errno set_nonblocking_cloexec(int fd) noexcept;

}  // namespace cxxloop::io
