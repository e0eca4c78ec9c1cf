// SPDX-License-Identifier: MIT
//
// fuzz/stream_program_fuzz.cc: the random user of net/stream_program.h, deciding by what libFuzzer thinks of.
//
// The first byte: whether the world is gentle. The next two: its seed. The rest: the user's decisions.
#include <cstdio>
#include <cstdlib>
#include <span>

#include "cpp/net/stream_program.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace cxxloop;
  if (size < 3) return 0;
  sim::RecordedChoices choices(std::span(data, size).subspan(3));
  const std::string broken =
      net::StreamProgram(data[1] + uint64_t{256} * data[2], choices, (data[0] & 1) != 0).run();
  if (broken.empty()) return 0;
  std::fprintf(stderr, "broken promise: %s\n", broken.c_str());
  std::abort();
}
