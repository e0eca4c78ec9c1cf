// SPDX-License-Identifier: MIT
#include "base/c_heap.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <thread>
#include <vector>

namespace cxxloop {
namespace {

std::vector<void*> pieces_of_all_sizes() {
  std::vector<void*> pieces;
  for (size_t size = 8; size < 4000; size += 8) pieces.push_back(std::malloc(size));
  return pieces;
}

void free_all(const std::vector<void*>& pieces) {
  for (void* const piece : pieces) std::free(piece);
}

// What is lost or freed twice is for the sanitizers to tell.
TEST(CHeap, WhatIsInUseStays) {
  std::vector<int> kept(10'000, 7);
  for (int i = 0; i < 3; ++i) {
    free_all(pieces_of_all_sizes());
    trim_heap();
  }
  EXPECT_EQ(kept, std::vector<int>(10'000, 7));
}

#if defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
size_t resident_bytes() {
  std::ifstream statm("/proc/self/statm");
  size_t size = 0, resident = 0;
  statm >> size >> resident;
  return resident * static_cast<size_t>(::sysconf(_SC_PAGESIZE));
}

TEST(CHeap, PagesBelowAPieceInUseAreReturned) {
  constexpr size_t piece_bytes = 2000, count = 16'000;
  std::vector<void*> pieces(count);
  for (void*& piece : pieces) piece = std::memset(std::malloc(piece_bytes), 1, piece_bytes);
  void* const in_use = std::malloc(piece_bytes);  // at the end of the heap, which free() cannot shrink while this lives
  const size_t full = resident_bytes();
  free_all(pieces);
  trim_heap();
  EXPECT_LT(resident_bytes(), full - piece_bytes * count / 2);
  std::free(in_use);
}
#endif

TEST(CHeap, OtherThreadsGoOnMeanwhile) {
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([] {
      for (int k = 0; k < 20; ++k) {
        free_all(pieces_of_all_sizes());
        trim_heap();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace cxxloop
