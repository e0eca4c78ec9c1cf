// SPDX-License-Identifier: MIT
//
// benchmarks/net/load_options.h: the command line of the load client.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace cxxloop::benchmarks {

struct LoadOptions {
  std::string host = "127.0.0.1";
  uint16_t port = 0;
  std::string unix_path;         // Used instead of host and port when not empty.
  size_t message_bytes = 1024;
  bool datagrams = false;        // A message is a UDP datagram instead of a part of a TCP stream.
  std::string path = "/";        // Of a WebSocket.
  size_t connections = 1;
  size_t depth = 1;              // Messages in flight per connection.
  int64_t warmup_ns = 300'000'000;
  int64_t duration_ns = 1'000'000'000;
  std::vector<int> server_pids;  // Their CPU time over the measured window is reported.
};

// Nothing, after a message on stderr, when the arguments make no sense.
std::optional<LoadOptions> parse_load_options(int argc, char** argv);

// One line on stderr, after the program's name.
void report_failure(const std::string& what);

}  // namespace cxxloop::benchmarks
