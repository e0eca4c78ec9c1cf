// SPDX-License-Identifier: MIT
//
// web/core/server.h: listening sockets, the connections they accept, their time limits, and the orderly end of both.
//
// Thread: loop thread.  Python: none.  Owns: its connections; borrows the listening descriptors.
// Dies: after close() and on_released().
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "base/intrusive_list.h"
#include "base/task.h"
#include "net/engine.h"
#include "net/listener.h"
#include "net/write_queue.h"
#include "web/core/address_counts.h"
#include "web/core/application.h"
#include "web/core/connection_host.h"
#include "web/core/limits.h"
#include "web/core/metrics_block.h"

namespace cxxloop::web {

struct ServerOptions {
  Limits limits;
  std::string_view server_header = "cxxloop";      // empty: no Server line. Outlives the server.
  bool date_header = true;
  bool websockets = true;                          // false: who asks for one is answered as if he had not
  std::string_view health_path;                    // answered by the server: 200, or 503 once it drains; empty: none. Outlives it.
  bool proxy_protocol = false;                     // true: each connection of Application::is_proxy() begins with its header
  std::optional<DeflateOptions> websocket_deflate = DeflateOptions{};  // nothing: messages are not compressed
  TlsContext* tls = nullptr;                       // null: no TLS. Outlives the server.
  // Of the owners given to Exchange::write(). It must not call the server or an exchange.
  net::WriteQueue::ReleaseFn release = nullptr;
  // Where the server counts, and measures how long exchanges take; no other server's. Outlives the server. Null: it counts for
  // itself, and measures nothing.
  ServerMetrics* metrics = nullptr;
};

class Server final : private ConnectionHost {
 public:
  // The engine, its backend and the application outlive the server.
  Server(net::Engine& engine, io::Backend& backend, Application& application, const ServerOptions& options) noexcept;
  // REQUIRES: close() has returned true, or finish_close() was called; no method of the application or of a user of an
  // exchange is running.
  ~Server();

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
  // What holds from now on, but for sizes of a head that has begun.
  void set_limits(const Limits& limits) noexcept;
  [[nodiscard]] const ServerCounters& counters() const noexcept { return counts; }

 private:
  static constexpr uint32_t accepts_per_turn_max = 128;
  static constexpr size_t refusing_max = 64;  // connections that are kept until their 503 was read
  static constexpr int64_t accept_retry_ns = second_ns / 4;

  // open -> draining (drain()) -> idle (no connection is left) -> closed (close()); each -> closed.
  enum class State : uint8_t { open, draining, idle, closed };

  struct Listening;
  struct Timer : TimerTask {
    Server* server;
  };

  static void on_ready(TimerTask& timer) noexcept;
  static void on_retry(TimerTask& timer) noexcept;
  static void on_expired(Deadlines::Node& node, int64_t now_ns) noexcept;
  void accept(UniqueFd fd, const io::Address& peer) noexcept;
  void pause_accepting(Errno error) noexcept;
  void make_ready(Ready& connection) noexcept override;
  void on_gone(bool was_refused) noexcept override;
  [[nodiscard]] bool admit(const io::Address& client, AddressCounts::Entry** address) noexcept override;
  // f(Connection&) for each, which may end it.
  template <class F>
  void each_connection(F&& f) noexcept;
  void tell_idle() noexcept;

  IntrusiveList<Member> connections_;
  IntrusiveList<Ready> ready_;
  IntrusiveList<Listening> listening_;
  IntrusiveList<Listening> leaving_;  // not let go of by the kernel yet
  AddressCounts addresses_;
  Timer ready_timer_;
  Timer retry_timer_;
  size_t refusing_ = 0;
  bool has_proxy_protocol_ = false;
  State state_ = State::open;
};

}  // namespace cxxloop::web
