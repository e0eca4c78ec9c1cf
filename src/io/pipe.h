// SPDX-License-Identifier: MIT
//
// io/pipe.h: reading and writing what is not always a socket: pipes, FIFOs, terminals.
//
// EINTR never leaves this file. The descriptors are non-blocking, which only their owner can see to: unlike recv() and
// send(), read() and write() have no flag for it.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <span>

#include "base/errno.h"
#include "base/result.h"

namespace cxxloop::io {

// Bytes read; 0 at end of file.
[[nodiscard]] Result<size_t> read(int fd, std::span<std::byte> into) noexcept;
// Bytes written; fewer than given when the kernel's buffer is full.
[[nodiscard]] Result<size_t> write(int fd, std::span<const std::byte> bytes) noexcept;
[[nodiscard]] Result<size_t> write_vector(int fd, std::span<const iovec> iov) noexcept;

}  // namespace cxxloop::io
