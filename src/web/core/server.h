// SPDX-License-Identifier: MIT
//
// web/core/server.h: listening sockets, the connections they accept, their time limits, and the orderly end of both.
//
// Thread: loop thread.  Python: none.  Owns: its connections; borrows the listening descriptors.
// Dies: after close() and on_released().
#pragma once

#include <cstdint>
#include <string_view>

#include "net/engine.h"
#include "net/write_queue.h"
#include "web/core/application.h"
#include "web/core/limits.h"

namespace cxxloop::web {

struct ServerOptions {
  Limits limits;
  std::string_view server_header = "cxxloop";      // empty: no Server line. Outlives the server.
  bool date_header = true;
  net::WriteQueue::ReleaseFn release = nullptr;    // of the owners given to Exchange::write()
};

// Since the server was made.
struct ServerCounters {
  uint64_t accepted = 0;
  uint64_t refused = 0;      // connections answered with 503
  uint64_t requests = 0;     // heads that were whole
  uint64_t bad_requests = 0;  // answered with 4xx by the server itself
  uint64_t timeouts = 0;
  size_t connections = 0;    // now
  size_t exchanges = 0;      // now
};

class Server {
 public:
  // The engine, its backend and the application outlive the server.
  Server(net::Engine& engine, io::Backend& backend, Application& application, const ServerOptions& options) noexcept;
  ~Server();  // REQUIRES: close() has returned true, or finish_close() was called

  // Accepts connections of a listening, non-blocking socket; the descriptor is borrowed until stop_listening().
  [[nodiscard]] Errno listen(int fd) noexcept;
  void stop_listening() noexcept;
  // stop_listening(), and no connection takes another request: idle ones are closed, the others say `connection: close` in
  // their next response. Application::on_idle() is called, perhaps inside, when there is no connection any more.
  void drain() noexcept;
  // Ends every exchange (Ending::closed) and connection at once. True: the backend has let go of everything; else it must be
  // drained before finish_close().
  [[nodiscard]] bool close() noexcept;
  void finish_close() noexcept;
  // Limits of requests that begin from now on.
  void set_limits(const Limits& limits) noexcept;
  [[nodiscard]] const ServerCounters& counters() const noexcept;
};

}  // namespace cxxloop::web
