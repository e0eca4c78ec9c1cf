// SPDX-License-Identifier: MIT
//
// python/loop/memory_return.h: the memory of ended TLS connections, given back to the kernel.
//
// OpenSSL takes some 50 KiB for a handshake, in small pieces. glibc keeps what lies below a piece that lives on, so
// after a flood of handshakes hundreds of megabytes would stay with the process.
// Thread: any, with the GIL.
#pragma once

#include "python/interp/gil.h"

namespace cxxloop::python {

struct LoopCore;

// Takes about a millisecond for each 20 MB it returns, and gives the GIL away meanwhile. After a flood it runs Python:
// Loop._after_flood(). False: the indicator is set.
[[nodiscard]] bool return_memory(Gil gil, LoopCore& core) noexcept;

}  // namespace cxxloop::python
