// SPDX-License-Identifier: MIT
//
// net/listener_program.h: a server that starts, stops and is stopped by its own callbacks, at random, while clients
// come. Whatever happens, every connection is handed up once, or refused.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "net/listener.h"
#include "sim/choices.h"
#include "sim/sim_backend.h"

namespace cxxloop::net {

class ListenerProgram final : public ListenerHandler {
 public:
  ListenerProgram(uint64_t world_seed, sim::Choices& choices);

  // The promise that was broken, or an empty string.
  [[nodiscard]] std::string run();

  // ListenerHandler
  void on_accept(UniqueFd fd, const io::Address& peer) noexcept override;
  void on_accept_error(Errno error) noexcept override;
  void on_stopped() noexcept override;

 private:
  enum class Expected { nothing, callbacks, on_stopped };

  void check(bool kept, const char* promise) noexcept;
  void start() noexcept;
  void stop() noexcept;
  void react() noexcept;
  void turn(Deadline deadline) noexcept;
  void play();
  void check_the_end();

  sim::SimBackend backend_;
  sim::Choices& choices_;
  const int fd_;
  Listener listener_;
  Expected expected_ = Expected::nothing;
  std::vector<int> accepted_;
  size_t clients_ = 0;
  std::string broken_;
};

}  // namespace cxxloop::net
