// SPDX-License-Identifier: MIT
#include "base/c_heap.h"

#include <cstdlib>
#include <utility>
#ifdef __GLIBC__
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#endif

namespace cxxloop {

#ifdef __GLIBC__

namespace {

struct Piece {
  Piece* next;
};

// All that the cache holds, and pieces made for it where it holds fewer.
Piece* take_from_cache() noexcept {
  constexpr size_t pieces_each = 16;
  constexpr size_t size_max = 1032;
  constexpr size_t alignment = 16;
  Piece* first = nullptr;
  for (size_t size = 24; size <= size_max; size += alignment) {
    for (size_t i = 0; i < pieces_each; ++i) {
      auto* const piece = static_cast<Piece*>(std::malloc(size));
      if (piece == nullptr) break;
      piece->next = std::exchange(first, piece);
    }
  }
  return first;
}

void* free_pieces(void* first) noexcept {
  for (auto* piece = static_cast<Piece*>(first); piece != nullptr;) std::free(std::exchange(piece, piece->next));
  return nullptr;
}

// False: no thread could be made. It takes no signals: they are for the program's threads.
bool run_in_thread_that_ends(void* (*function)(void*) noexcept, void* argument) noexcept {
  constexpr size_t stack_size = 64 * 1024;
  pthread_attr_t attributes;
  if (::pthread_attr_init(&attributes) != 0) return false;
  (void)::pthread_attr_setstacksize(&attributes, stack_size);
  sigset_t all;
  sigset_t before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  pthread_t thread;
  const bool is_made = ::pthread_create(&thread, &attributes, function, argument) == 0;
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  ::pthread_attr_destroy(&attributes);
  if (is_made) ::pthread_join(thread, nullptr);
  return is_made;
}

}  // namespace

void trim_heap() noexcept { (void)malloc_trim(0); }

void empty_thread_cache() noexcept {
  Piece* const pieces = take_from_cache();
  if (!run_in_thread_that_ends(free_pieces, pieces)) free_pieces(pieces);
}

#else

void trim_heap() noexcept {}
void empty_thread_cache() noexcept {}

#endif

}  // namespace cxxloop
