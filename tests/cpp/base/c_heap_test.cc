// SPDX-License-Identifier: MIT
#include "base/c_heap.h"

#include <gtest/gtest.h>

#include <cstdlib>
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
