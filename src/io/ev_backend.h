// SPDX-License-Identifier: MIT
//
// io/ev_backend.h: the backend on libev: epoll on Linux, kqueue on BSD and macOS.
#pragma once

#include <memory>

#include "base/errno.h"
#include "io/backend.h"

namespace cxxloop::io {

// nullptr: `why` tells the reason.
[[nodiscard]] std::unique_ptr<Backend> make_ev_backend(Errno* why) noexcept;

[[nodiscard]] BackendBase ev_base() noexcept;

}  // namespace cxxloop::io
