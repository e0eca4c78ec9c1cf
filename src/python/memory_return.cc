// SPDX-License-Identifier: MIT
//
// python/memory_return.cc: freelists and the C library's heap.
#include <cstdlib>
#ifdef __GLIBC__
#include <malloc.h>
#endif

#include "python/handle.h"
#include "python/module_state.h"

namespace cxxloop::python {

void return_memory([[maybe_unused]] Gil gil, ModuleState& state) noexcept {
  state.tls_count.peak = state.tls_count.living;
  // Each of them may be the only object that keeps one of Python's arenas (1 MiB) from being freed.
  free_handles(state.handle_freelist);
  free_handles(state.timer_freelist);
#ifdef __GLIBC__
  (void)gil.released([] { return malloc_trim(0); });
#endif
}

}  // namespace cxxloop::python
