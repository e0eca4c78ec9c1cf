// SPDX-License-Identifier: MIT
#include "base/c_heap.h"

#ifdef __GLIBC__
#include <malloc.h>
#endif

namespace cxxloop {

void trim_heap() noexcept {
#ifdef __GLIBC__
  (void)malloc_trim(0);
#endif
}

}  // namespace cxxloop
