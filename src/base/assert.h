// SPDX-License-Identifier: MIT
//
// base/assert.h: CXL_ASSERT states what the code relies on; it costs nothing unless CXXLOOP_ASSERTS is defined.
#pragma once

namespace cxxloop {

// Prints the failed condition with its place, then aborts.
[[noreturn]] void assertion_failed(const char* condition, const char* file, int line) noexcept;

}  // namespace cxxloop

// CXL_CHECK stays in release builds: for states after which going on would corrupt a user's data.
#define CXL_CHECK(condition) \
  (static_cast<bool>(condition) ? void(0) : ::cxxloop::assertion_failed(#condition, __FILE__, __LINE__))
#ifdef CXXLOOP_ASSERTS
#define CXL_ASSERT(condition) CXL_CHECK(condition)
#else
#define CXL_ASSERT(condition) void(sizeof(static_cast<bool>(condition)))
#endif
