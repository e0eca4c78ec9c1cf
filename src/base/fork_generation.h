// SPDX-License-Identifier: MIT
//
// base/fork_generation.h: tells an object that it has become a copy in a forked child.
#pragma once

#include <cstdint>

namespace cxxloop {

// Constant within a process and larger in each child it forks. What a constructor stored and a later call returns differ
// exactly when a fork() lies between them. Any thread, async-signal-safe; not from constructors of static objects.
[[nodiscard]] uint64_t fork_generation() noexcept;

// For a second copy of this library in the process: count from where the first one is. To be called when the copy is
// loaded, before it keeps a generation.
void adopt_fork_generation(uint64_t of_first_copy) noexcept;

}  // namespace cxxloop
