// SPDX-License-Identifier: MIT
//
// net/watch_program.h: watchers of both directions of two connections, who come, go and replace each other at random, in
// callbacks too. Whoever watches is called while the descriptor is ready, nobody else is, and nobody is called for what
// is not ready.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "cpp/net/watches.h"
#include "sim/choices.h"
#include "sim/sim_backend.h"

namespace cxxloop::net {

class WatchProgram {
 public:
  WatchProgram(uint64_t world_seed, sim::Choices& choices);

  // The promise that was broken, or an empty string.
  [[nodiscard]] std::string run();

 private:
  void check(bool kept, const char* promise) noexcept;
  void turn(Deadline deadline) noexcept;
  [[nodiscard]] Direction any_direction() noexcept;
  [[nodiscard]] int any_fd() noexcept;
  void change_a_watch() noexcept;
  void move_a_byte() noexcept;
  void on_ready(size_t by, int fd, Direction direction) noexcept;
  void check_everybody_is_served();

  sim::SimBackend backend_;
  sim::Choices& choices_;
  Watches watches_;
  std::vector<int> fds_;
  size_t last_watcher_ = 0;
  std::string broken_;
};

}  // namespace cxxloop::net
