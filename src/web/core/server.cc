// SPDX-License-Identifier: MIT
#include "web/core/server.h"

#include <algorithm>
#include <memory>
#include <new>
#include <utility>

#include "base/assert.h"
#include "web/core/connection.h"

namespace cxxloop::web {
namespace {

// The smallest limit of time decides how often the deadlines are looked at.
int64_t smallest_limit_ns(const Limits& limits) noexcept {
  int64_t smallest_ns = Connection::linger_ns;
  for (const int64_t limit_ns : {limits.head_ns, limits.body_ns, limits.handler_ns, limits.idle_ns, limits.write_ns,
                                 limits.handshake_ns, limits.websocket.ping_ns, limits.websocket.pong_ns, limits.websocket.close_ns}) {
    if (limit_ns > 0) smallest_ns = std::min(smallest_ns, limit_ns);
  }
  return smallest_ns;
}

}  // namespace

// One listening socket. Dies when the kernel has let go of it after leave().
struct Server::Listening final : net::ListenerHandler, ListNode {
  Listening(Server& server_of_all, int fd_of_socket) noexcept
      : server(server_of_all), listener(server_of_all.backend, fd_of_socket, *this), fd(fd_of_socket) {}

  void on_accept(UniqueFd accepted, const io::Address& peer) noexcept override { server.accept(std::move(accepted), peer); }
  void on_accept_error(Errno error) noexcept override {
    (void)listener.stop();  // the kernel would say so again at once
    is_paused = true;
    server.pause_accepting(error);
  }
  void on_stopped() noexcept override {
    if (is_leaving) destroy();
  }

  void resume() noexcept {
    if (is_paused && listener.stop()) is_paused = listener.start(accepts_per_turn_max) != Errno::ok;
  }
  void leave() noexcept {
    is_leaving = true;
    if (listener.stop()) destroy();
  }
  void destroy() noexcept {
    server.backend.forget(fd);
    delete this;
  }

  Server& server;
  net::Listener listener;
  const int fd;
  bool is_paused = false;   // True exactly when it waits for the retry timer
  bool is_leaving = false;  // True exactly after leave()
};

Server::Server(net::Engine& engine_of_all, io::Backend& backend_of_all, Application& application_of_all,
               const ServerOptions& options) noexcept
    : ConnectionHost(engine_of_all, backend_of_all, application_of_all, options.release, on_expired, options.metrics) {
  server_header = options.server_header;
  has_date_header = options.date_header;
  has_websockets = options.websockets;
  websocket_deflate = options.websocket_deflate;
  health_path = options.health_path;
  has_proxy_protocol_ = options.proxy_protocol;
  ready_timer_.run = on_ready;
  retry_timer_.run = on_retry;
  ready_timer_.server = retry_timer_.server = this;
  set_limits(options.limits);
  if (options.tls == nullptr) return;
  tls_buffers.reset(new (std::nothrow) TlsBuffers);
  tls = options.tls;
}

Server::~Server() {
  CXL_ASSERT(connections_.empty() && listening_.empty());
  for (Timer* const timer : {&ready_timer_, &retry_timer_}) {
    if (timer->node.queued()) engine.cancel_timer(*timer);
  }
}

void Server::set_limits(const Limits& limits_of_all) noexcept {
  limits = limits_of_all;
  head.forget();
  deadlines.set_smallest_limit(smallest_limit_ns(limits));
}

Errno Server::listen(int fd) noexcept {
  std::unique_ptr<Listening> listening(new (std::nothrow) Listening(*this, fd));
  if (listening == nullptr) return Errno::no_memory;
  const Errno error = listening->listener.start(accepts_per_turn_max);
  if (error == Errno::ok) listening_.push_back(*listening.release());
  return error;
}

void Server::stop_listening() noexcept {
  while (Listening* const listening = listening_.pop_front()) {
    leaving_.push_back(*listening);
    listening->leave();
  }
  if (retry_timer_.node.queued()) engine.cancel_timer(retry_timer_);
}

void Server::pause_accepting(Errno error) noexcept {
  if (!retry_timer_.node.queued()) {
    look_at_clock();
    retry_timer_.node.deadline_ns = now_ns + accept_retry_ns;
    (void)engine.add_timer(retry_timer_);  // No memory: the next error tries again, if a listener is left.
  }
  application.on_accept_error(error);
}

void Server::on_retry(TimerTask& timer) noexcept {
  Server& self = *static_cast<Timer&>(timer).server;
  bool is_any_paused = false;
  IntrusiveList<Listening> all;
  while (Listening* const listening = self.listening_.pop_front()) all.push_back(*listening);
  while (Listening* const listening = all.pop_front()) {
    self.listening_.push_back(*listening);
    listening->resume();
    is_any_paused |= listening->is_paused;
  }
  if (!is_any_paused) return;
  timer.node.deadline_ns = self.backend.now_ns() + accept_retry_ns;
  (void)self.engine.add_timer(timer);
}

void Server::accept(UniqueFd fd, const io::Address& peer) noexcept {
  ++counts.accepted;
  look_at_clock();
  const bool is_proxy = application.is_proxy(fd.get(), peer);
  const bool is_full = limits.connections_max > 0 && counts.connections - refusing_ >= limits.connections_max;
  if (is_full) {
    ++counts.refused;
    counts.count_limit(Limit::connections);
  }
  AddressCounts::Entry* address = nullptr;
  const bool is_refused = is_full || (!is_proxy && !admit(peer, &address));
  Connection* connection = nullptr;
  if (!is_refused || refusing_ < refusing_max) {
    connection = new (std::nothrow) Connection(*this, std::move(fd), addresses_, address);
  }
  if (connection == nullptr) {
    addresses_.drop(address);
    backend.forget(fd.get());
    return;
  }
  connections_.push_back(*connection);
  if (!is_refused) return is_proxy && has_proxy_protocol_ ? connection->begin_proxied() : connection->begin(peer);
  ++refusing_;
  connection->begin_refused();
}

bool Server::admit(const io::Address& client, AddressCounts::Entry** address) noexcept {
  *address = addresses_.add(client);
  const size_t connections_max = limits.connections_per_address_max;
  if (*address == nullptr || connections_max == 0 || (*address)->count <= connections_max) return true;
  addresses_.drop(std::exchange(*address, nullptr));
  ++counts.refused;
  counts.count_limit(Limit::connections_per_address);
  return false;
}

void Server::make_ready(Ready& connection) noexcept {
  if (connection.is_linked()) return;
  ready_.push_back(connection);
  if (ready_timer_.node.queued()) return;
  ready_timer_.node.deadline_ns = now_ns;
  (void)engine.add_due_timer(ready_timer_);  // No memory: the next one tries again.
}

void Server::on_ready(TimerTask& timer) noexcept {
  Server& self = *static_cast<Timer&>(timer).server;
  IntrusiveList<Ready> ready;  // what becomes ready meanwhile waits for the next turn
  while (Ready* const connection = self.ready_.pop_front()) ready.push_back(*connection);
  while (Ready* const connection = ready.pop_front()) {
    static_cast<Connection*>(connection)->on_ready();
    self.engine.pull_cork();
  }
}

void Server::on_expired(Deadlines::Node& node, int64_t now_ns) noexcept {
  static_cast<Connection&>(node).on_deadline(now_ns);
}

void Server::on_gone(bool was_refused) noexcept {
  if (was_refused) --refusing_;
  tell_idle();
}

void Server::tell_idle() noexcept {
  if (state_ != State::draining || !connections_.empty()) return;
  state_ = State::idle;
  application.on_idle();
}

template <class F>
void Server::each_connection(F&& f) noexcept {
  for (size_t left = counts.connections; left > 0 && !connections_.empty(); --left) {
    Member* const member = connections_.pop_front();
    connections_.push_back(*member);
    f(static_cast<Connection&>(*member));
  }
}

void Server::drain() noexcept {
  if (state_ != State::open) return;
  state_ = State::draining;
  stop_listening();
  look_at_clock();
  drain_ns = now_ns;
  each_connection([](Connection& connection) noexcept { connection.drain(); });
  tell_idle();
}

bool Server::close() noexcept {
  state_ = State::closed;
  stop_listening();
  each_connection([](Connection& connection) noexcept { connection.end(Ending::Why::closed); });
  return connections_.empty() && leaving_.empty();
}

void Server::finish_close() noexcept {
  each_connection([](Connection& connection) noexcept { connection.finish_release(); });
  while (Listening* const listening = leaving_.pop_front()) {
    listening->listener.mark_stopped();
    listening->destroy();
  }
}

}  // namespace cxxloop::web
