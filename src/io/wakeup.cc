// SPDX-License-Identifier: MIT
#include "io/wakeup.h"

#include <unistd.h>
#ifdef __linux__
#include <sys/eventfd.h>
#else
#include "io/socket.h"
#endif

namespace cxxloop::io {

Errno Wakeup::open() noexcept {
#ifdef __linux__
  reader_.reset(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
  if (!reader_.valid()) return last_errno();
#else
  int ends[2];
  if (::pipe(ends) != 0) return last_errno();
  reader_.reset(ends[0]);
  writer_.reset(ends[1]);
  for (const int end : ends) {
    if (const Errno error = set_nonblocking_cloexec(end); error != Errno::ok) return error;
  }
#endif
  pending_.store(false, std::memory_order_relaxed);
  return Errno::ok;
}

void Wakeup::notify() noexcept {
  if (pending_.exchange(true, std::memory_order_acq_rel)) return;
  const int errno_of_caller = errno;  // A signal handler must not change it.
  writes_.fetch_add(1, std::memory_order_relaxed);
  const uint64_t one = 1;
  const int fd = writer_.valid() ? writer_.get() : reader_.get();
  // No other error than EINTR is possible: one number never fills an eventfd or a pipe that drain() empties.
  while (::write(fd, &one, sizeof(one)) < 0 && errno == EINTR) {
  }
  errno = errno_of_caller;
}

void Wakeup::drain() noexcept {
  uint64_t count;
  while (::read(reader_.get(), &count, sizeof(count)) < 0 && errno == EINTR) {
  }
  // Strictly after the read: a notify() in between finds the flag set and writes nothing, and this exchange takes it.
  // The other way round its write would be eaten by the read while the flag stays set, and no wake-up came ever after.
  pending_.exchange(false, std::memory_order_acq_rel);
}

}  // namespace cxxloop::io
