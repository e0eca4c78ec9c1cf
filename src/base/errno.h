// SPDX-License-Identifier: MIT
//
// base/errno.h: the kernel's error numbers as a type of their own, so that no int is mistaken for one.
#pragma once

#include <cerrno>

namespace cxxloop {

// Every value of errno is a valid Errno, named here or not.
enum class Errno : int {
  ok = 0,
  again = EAGAIN,
  bad_fd = EBADF,
  canceled = ECANCELED,
  conn_aborted = ECONNABORTED,
  conn_reset = ECONNRESET,
  exists = EEXIST,
  in_progress = EINPROGRESS,
  interrupted = EINTR,
  invalid = EINVAL,
  no_memory = ENOMEM,
  not_permitted = EPERM,
  pipe = EPIPE,
};

// What the last failed system call of this thread left.
inline Errno last_errno() noexcept { return static_cast<Errno>(errno); }

// A negative kernel result (-errno) as an Errno.
constexpr Errno errno_of(int result) noexcept { return static_cast<Errno>(-result); }

}  // namespace cxxloop
