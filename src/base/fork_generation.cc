// SPDX-License-Identifier: MIT
#include "base/fork_generation.h"

#include <pthread.h>

#include <atomic>

#include "base/assert.h"

namespace cxxloop {
namespace {

// Per process by nature. pthread_atfork() instead of getpid(), which is a system call and repeats after a wrap-around.
std::atomic<uint64_t> generation{1};

void on_fork_in_child() noexcept { generation.fetch_add(1, std::memory_order_relaxed); }

bool register_child_hook() noexcept {
  CXL_CHECK(pthread_atfork(nullptr, nullptr, on_fork_in_child) == 0);
  return true;
}

// When the library is loaded: fork_generation() is asked at each write and must not look whether this is the first time.
[[maybe_unused]] const bool is_registered = register_child_hook();

}  // namespace

uint64_t fork_generation() noexcept { return generation.load(std::memory_order_relaxed); }

void adopt_fork_generation(uint64_t of_first_copy) noexcept { generation.store(of_first_copy, std::memory_order_relaxed); }

}  // namespace cxxloop
