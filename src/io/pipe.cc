// SPDX-License-Identifier: MIT
#include "io/pipe.h"

#include <limits.h>
#include <unistd.h>

#include <algorithm>

namespace cxxloop::io {
namespace {

template <class Call>
Result<size_t> without_eintr(Call&& call) noexcept {
  for (;;) {
    const ssize_t result = call();
    if (result >= 0) return static_cast<size_t>(result);
    if (last_errno() != Errno::interrupted) return last_errno();
  }
}

}  // namespace

Result<size_t> read(int fd, std::span<std::byte> into) noexcept {
  return without_eintr([&] { return ::read(fd, into.data(), into.size()); });
}

Result<size_t> write(int fd, std::span<const std::byte> bytes) noexcept {
  return without_eintr([&] { return ::write(fd, bytes.data(), bytes.size()); });
}

Result<size_t> write_vector(int fd, std::span<const iovec> iov) noexcept {
  const int count = static_cast<int>(std::min<size_t>(iov.size(), IOV_MAX));
  return without_eintr([&] { return ::writev(fd, iov.data(), count); });
}

}  // namespace cxxloop::io
