// SPDX-License-Identifier: MIT
//
// base/unique_fd.h: the owner of a file descriptor.
#pragma once

#include <unistd.h>

#include <utility>

namespace cxxloop {

class UniqueFd {
 public:
  UniqueFd() noexcept = default;
  explicit UniqueFd(int fd) noexcept : fd_(fd) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(other.take()) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    reset(other.take());
    return *this;
  }
  ~UniqueFd() { reset(); }

  [[nodiscard]] int get() const noexcept { return fd_; }
  [[nodiscard]] bool valid() const noexcept { return fd_ >= 0; }
  // The descriptor, which the caller owns from now on.
  [[nodiscard]] int take() noexcept { return std::exchange(fd_, -1); }

  // Closes the descriptor held so far. close() is never retried: on EINTR Linux has closed it already, and a second
  // close could hit a descriptor that another thread has just opened.
  void reset(int fd = -1) noexcept {
    const int old = std::exchange(fd_, fd);
    if (old >= 0 && old != fd) ::close(old);
  }

 private:
  int fd_ = -1;
};

}  // namespace cxxloop
