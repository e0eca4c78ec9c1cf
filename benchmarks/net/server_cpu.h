// SPDX-License-Identifier: MIT
//
// benchmarks/net/server_cpu.h: CPU time that the threads of the measured server have used.
#pragma once

#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <string>
#include <system_error>
#include <vector>

namespace cxxloop::benchmarks {

// Sum over /proc/PID/task/*/schedstat in ns; nothing when a process is gone or the kernel keeps no such account.
inline std::optional<uint64_t> server_cpu_ns(const std::vector<int>& pids) {
  uint64_t total_ns = 0;
  for (const int pid : pids) {
    std::error_code error;
    const std::filesystem::directory_iterator tasks("/proc/" + std::to_string(pid) + "/task", error);
    if (error) return std::nullopt;
    for (const auto& task : tasks) {
      std::FILE* file = std::fopen((task.path() / "schedstat").c_str(), "re");
      if (file == nullptr) return std::nullopt;
      unsigned long long on_cpu_ns = 0;
      const int fields = std::fscanf(file, "%llu", &on_cpu_ns);
      std::fclose(file);
      if (fields != 1) return std::nullopt;
      total_ns += on_cpu_ns;
    }
  }
  return total_ns;
}

}  // namespace cxxloop::benchmarks
