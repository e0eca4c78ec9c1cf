// SPDX-License-Identifier: MIT
#include "base/c_heap.h"

#include <cstdlib>  // any header of the C library defines __GLIBC__
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
