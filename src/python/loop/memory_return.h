// SPDX-License-Identifier: MIT
//
// python/loop/memory_return.h: the memory of ended TLS connections, given back to the kernel.
//
// OpenSSL takes some 50 KiB for a handshake, in small pieces. glibc keeps every page below a piece that is in use, so
// after a flood of handshakes hundreds of megabytes would stay with the process.
// Thread: any, with the GIL.
#pragma once

#include "python/interp/gil.h"

namespace cxxloop::python {

struct LoopCore;

// Takes about a millisecond for each 20 MB it returns, and gives the GIL away meanwhile. After a flood it runs Python:
// Loop._after_flood(). False: the indicator is set.
[[nodiscard]] bool return_memory(Gil gil, LoopCore& core) noexcept;

// Make the frame object of run_forever(), whose callee this is. Otherwise Python makes the object when a traceback first
// outlives its callback, keeps it as long as the frame, and after a flood of connections it may be all that holds an arena.
// 1 MB of 25 after 15,000 connections.
void make_frame_object_early(Gil gil) noexcept;

}  // namespace cxxloop::python
