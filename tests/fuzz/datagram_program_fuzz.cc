// SPDX-License-Identifier: MIT
#include "fuzz/program_fuzz.h"

#include "cpp/net/datagram_program.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  cxxloop::fuzz::run_program<cxxloop::net::DatagramProgram>({data, size});
  return 0;
}
