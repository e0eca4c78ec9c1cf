// SPDX-License-Identifier: MIT

#include "load_options.h"

#include <getopt.h>

#include <cerrno>
#include <charconv>
#include <cstdio>
#include <string_view>

#include "byte_pattern.h"

namespace cxxloop::benchmarks {
namespace {

constexpr const char* usage =
    "usage: echo_client (--port N [--host ADDRESS] | --unix PATH) [--udp] [--size BYTES] [--connections N] [--depth N]\n"
    "                   [--warmup SECONDS] [--duration SECONDS] [--server-pid PID]...\n"
    "       websocket_client, likewise without --udp, with [--path PATH]\n";

enum class Flag { host, port, unix_path, path, udp, size, connections, depth, warmup, duration, server_pid };

constexpr option long_options[] = {
    {"host", required_argument, nullptr, static_cast<int>(Flag::host)},
    {"port", required_argument, nullptr, static_cast<int>(Flag::port)},
    {"unix", required_argument, nullptr, static_cast<int>(Flag::unix_path)},
    {"path", required_argument, nullptr, static_cast<int>(Flag::path)},
    {"udp", no_argument, nullptr, static_cast<int>(Flag::udp)},
    {"size", required_argument, nullptr, static_cast<int>(Flag::size)},
    {"connections", required_argument, nullptr, static_cast<int>(Flag::connections)},
    {"depth", required_argument, nullptr, static_cast<int>(Flag::depth)},
    {"warmup", required_argument, nullptr, static_cast<int>(Flag::warmup)},
    {"duration", required_argument, nullptr, static_cast<int>(Flag::duration)},
    {"server-pid", required_argument, nullptr, static_cast<int>(Flag::server_pid)},
    {nullptr, 0, nullptr, 0},
};

template <class Integer>
bool read_number(std::string_view text, Integer low, Integer high, Integer& out) {
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, out);
  return error == std::errc{} && stop == end && out >= low && out <= high;
}

bool read_seconds(std::string_view text, double high, int64_t& out_ns) {
  double seconds = 0;
  if (!read_number(text, 0.0, high, seconds)) return false;
  out_ns = static_cast<int64_t>(seconds * 1e9);
  return true;
}

bool apply(Flag flag, const char* text, LoadOptions& options) {
  switch (flag) {
    case Flag::host: options.host = text; return true;
    case Flag::port: return read_number<uint16_t>(text, 1, 65535, options.port);
    case Flag::unix_path: options.unix_path = text; return true;
    case Flag::path: options.path = text; return true;
    case Flag::udp: options.datagrams = true; return true;
    case Flag::size: return read_number<size_t>(text, 1, size_t{1} << 30, options.message_bytes);
    case Flag::connections: return read_number<size_t>(text, 1, BytePattern::period - 1, options.connections);
    case Flag::depth: return read_number<size_t>(text, 1, 4096, options.depth);
    case Flag::warmup: return read_seconds(text, 60, options.warmup_ns);
    case Flag::duration: return read_seconds(text, 600, options.duration_ns);
    case Flag::server_pid: return read_number(text, 1, 1 << 30, options.server_pids.emplace_back());
  }
  return false;
}

}  // namespace

void report_failure(const std::string& what) {
  std::fprintf(stderr, "%s: %s\n", program_invocation_short_name, what.c_str());
}

std::optional<LoadOptions> parse_load_options(int argc, char** argv) {
  LoadOptions options;
  int index = 0;
  for (int flag; (flag = getopt_long(argc, argv, "", long_options, &index)) != -1;) {
    if (flag == '?') {
      std::fputs(usage, stderr);
      return std::nullopt;
    }
    if (!apply(static_cast<Flag>(flag), optarg, options)) {
      report_failure(std::string("--") + long_options[index].name + " does not take '" + optarg + "'");
      std::fputs(usage, stderr);
      return std::nullopt;
    }
  }
  if (optind != argc || (options.port == 0) == options.unix_path.empty()) {
    std::fputs(usage, stderr);
    return std::nullopt;
  }
  constexpr size_t datagram_bytes_max = 65507;
  if (options.datagrams && (!options.unix_path.empty() || options.message_bytes > datagram_bytes_max)) {
    report_failure("--udp goes with --port and at most " + std::to_string(datagram_bytes_max) + " bytes");
    return std::nullopt;
  }
  // Otherwise a lost message would not shift the pattern, and the check would be blind to it.
  if (options.message_bytes % BytePattern::period == 0) {
    report_failure("--size must not be a multiple of " + std::to_string(BytePattern::period));
    return std::nullopt;
  }
  return options;
}

}  // namespace cxxloop::benchmarks
