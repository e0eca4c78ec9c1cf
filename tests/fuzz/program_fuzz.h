// SPDX-License-Identifier: MIT
//
// fuzz/program_fuzz.h: a random user of the simulator, deciding by what libFuzzer thinks of.
//
// The first byte: whether the world is gentle. The next two: its seed. The rest: the user's decisions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <span>
#include <string>

#include "sim/choices.h"

namespace cxxloop::fuzz {

template <class Program>
void run_program(std::span<const uint8_t> input) {
  if (input.size() < 3) return;
  sim::RecordedChoices choices(input.subspan(3));
  const std::string broken = Program(input[1] + uint64_t{256} * input[2], choices, (input[0] & 1) != 0).run();
  if (broken.empty()) return;
  std::fprintf(stderr, "broken promise: %s\n", broken.c_str());
  std::abort();
}

}  // namespace cxxloop::fuzz
