// SPDX-License-Identifier: MIT
//
// io/backends.h: the backends of this build. Nothing else knows their names.
//
// Thread: any.
#pragma once

#include <memory>
#include <span>
#include <string_view>

#include "base/errno.h"
#include "io/backend.h"

namespace cxxloop::io {

struct BackendEntry {
  const char* name;  // what CXXLOOP_BACKEND and Loop(backend=...) call it
  BackendBase (*base)() noexcept;
  // Null: the backend works on this system. Else the reason why it does not, in words.
  const char* (*why_not)() noexcept;
  // nullptr: `why` tells the reason (out of descriptors or memory).
  std::unique_ptr<Backend> (*make)(Errno* why) noexcept;
};

// The best one first.
[[nodiscard]] std::span<const BackendEntry> backends() noexcept;
// The backend of that name; of "auto": the first that works on this system. Null: there is none.
[[nodiscard]] const BackendEntry* find_backend(std::string_view name) noexcept;

}  // namespace cxxloop::io
