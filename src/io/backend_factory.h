// SPDX-License-Identifier: MIT
//
// io/backend_factory.h: which backends this build has, and how to get one.
#pragma once

#include <cstdint>
#include <memory>

#include "base/errno.h"
#include "io/backend.h"

namespace cxxloop::io {

enum class BackendKind : uint8_t { automatic, libev };

// What was compiled in, for build_info().
struct BackendProbe {
  int libev_version_major;
  int libev_version_minor;
  const char* libev_poller;  // the kernel interface that libev drives: "epoll", "kqueue"
};

[[nodiscard]] BackendProbe probe_backends() noexcept;

// nullptr: `why` tells the reason (out of descriptors or memory).
[[nodiscard]] std::unique_ptr<Backend> make_backend(BackendKind kind, Errno* why) noexcept;

}  // namespace cxxloop::io
