// SPDX-License-Identifier: MIT
#include "base/assert.h"

#include <cstdio>
#include <cstdlib>

namespace cxxloop {

void assertion_failed(const char* condition, const char* file, int line) noexcept {
  std::fprintf(stderr, "cxxloop: assertion failed: %s (%s:%d); please report this\n", condition, file, line);
  std::abort();
}

}  // namespace cxxloop
