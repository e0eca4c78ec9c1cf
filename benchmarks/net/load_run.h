// SPDX-License-Identifier: MIT
//
// benchmarks/net/load_run.h: the turns of a load client: warm-up, window of counted messages, drain; reports one JSON line.
//
// Connection is a LoadConnection or what offers the same: greet() before the socket stops blocking, start_message(), flush(),
// receive(), give_up(), lost(), fd(), wants_write(), idle().
// Decision: the client reads the server's CPU account itself, at the very turn that opens and closes the window of counted
// messages. On a shared core the server cannot run at that moment, so the account is exact.
#pragma once

#include <fcntl.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "byte_pattern.h"
#include "latency_histogram.h"
#include "load_connection.h"
#include "load_options.h"
#include "load_socket.h"
#include "server_cpu.h"

namespace cxxloop::benchmarks {

inline constexpr int64_t stall_ns = 10 * ns_per_second;  // No message for so long is a hang of the server, not slowness.
inline constexpr int64_t drain_ns = 10 * ns_per_second;

template <class Connection>
class LoadRun {
 public:
  explicit LoadRun(const LoadOptions& options) : options_(options), epoll_fd_(epoll_create1(EPOLL_CLOEXEC)) {}
  ~LoadRun() { close(epoll_fd_); }
  LoadRun(const LoadRun&) = delete;
  LoadRun& operator=(const LoadRun&) = delete;

  [[nodiscard]] bool connect_all(const SocketAddress& address);
  // Runs warm-up, window and drain. False when a byte was wrong or a connection failed.
  [[nodiscard]] bool run();
  void print_result() const;

 private:
  enum class Phase : uint8_t { warmup, window, drain };  // warmup -> window -> drain

  void advance_phase(int64_t now_ns);
  void open_window(int64_t now_ns);
  void close_window(int64_t now_ns);
  [[nodiscard]] bool finished() const;
  void serve(const epoll_event& event);
  void serve_writable(const Connection& connection);
  void replace_lost(int64_t now_ns);
  void on_message(Connection& connection, int64_t latency_ns);
  void watch(const Connection& connection, bool for_writing, int operation) const;
  void fail(const Connection& connection, const char* what);

  const LoadOptions& options_;
  int epoll_fd_;
  BytePattern pattern_;
  std::vector<Connection> connections_;
  std::vector<bool> watched_for_writing_;
  std::vector<char> receive_buffer_ = std::vector<char>(BytePattern::run_max);
  Phase phase_ = Phase::warmup;
  int64_t phase_end_ns_ = 0;
  int64_t last_message_ns_ = 0;
  int64_t next_loss_check_ns_ = 0;
  int64_t window_start_ns_ = 0;
  int64_t window_ns_ = 0;
  std::optional<uint64_t> cpu_at_start_ns_;
  std::optional<uint64_t> cpu_at_end_ns_;
  LatencyHistogram latencies_;
  uint64_t errors_ = 0;
};

template <class Connection>
void LoadRun<Connection>::watch(const Connection& connection, bool for_writing, int operation) const {
  epoll_event event{};
  event.events = EPOLLIN | (for_writing ? uint32_t{EPOLLOUT} : 0);
  event.data.u64 = static_cast<uint64_t>(&connection - connections_.data());
  epoll_ctl(epoll_fd_, operation, connection.fd(), &event);
}

template <class Connection>
bool LoadRun<Connection>::connect_all(const SocketAddress& address) {
  connections_.reserve(options_.connections);
  watched_for_writing_.resize(options_.connections);
  for (size_t number = 0; number < options_.connections; ++number) {
    const int fd = open_connection(address, options_.datagrams);
    if (fd < 0) {
      report_failure(std::string("cannot connect: ") + std::strerror(errno));
      return false;
    }
    connections_.emplace_back(fd, number, options_, pattern_);
    if (!connections_.back().greet() || fcntl(fd, F_SETFL, O_NONBLOCK) != 0) return false;
    watch(connections_.back(), false, EPOLL_CTL_ADD);
  }
  return true;
}

template <class Connection>
void LoadRun<Connection>::fail(const Connection& connection, const char* what) {
  report_failure("connection " + std::to_string(&connection - connections_.data()) + ": " + what);
  ++errors_;
}

template <class Connection>
void LoadRun<Connection>::on_message(Connection& connection, int64_t latency_ns) {
  if (phase_ == Phase::window) latencies_.add(latency_ns);
  if (phase_ != Phase::drain) connection.start_message();
}

template <class Connection>
void LoadRun<Connection>::serve(const epoll_event& event) {
  Connection& connection = connections_[event.data.u64];
  IoResult result = IoResult::ok;
  if ((event.events & ~uint32_t{EPOLLOUT}) != 0) {
    result = connection.receive(receive_buffer_, [&](int64_t latency_ns) { on_message(connection, latency_ns); });
  }
  if (result == IoResult::ok) result = connection.flush();
  switch (result) {
    case IoResult::ok: break;
    case IoResult::peer_closed: return fail(connection, "the server closed it");
    case IoResult::system_error: return fail(connection, std::strerror(errno));
    case IoResult::wrong_byte: return fail(connection, "the echo differs");
  }
  if (connection.wants_write() != watched_for_writing_[event.data.u64]) {
    watched_for_writing_[event.data.u64] = connection.wants_write();
    watch(connection, connection.wants_write(), EPOLL_CTL_MOD);
  }
}

template <class Connection>
void LoadRun<Connection>::serve_writable(const Connection& connection) {
  epoll_event writable{};
  writable.events = EPOLLOUT;
  writable.data.u64 = static_cast<uint64_t>(&connection - connections_.data());
  serve(writable);
}

// Nothing comes back that would start the next message.
template <class Connection>
void LoadRun<Connection>::replace_lost(int64_t now_ns) {
  next_loss_check_ns_ = now_ns + ns_per_second / 10;
  for (Connection& connection : connections_) {
    if (!connection.give_up(now_ns) || phase_ == Phase::drain) continue;
    for (size_t i = 0; i < options_.depth; ++i) connection.start_message();
    serve_writable(connection);
  }
}

template <class Connection>
void LoadRun<Connection>::open_window(int64_t now_ns) {
  phase_ = Phase::window;
  cpu_at_start_ns_ = server_cpu_ns(options_.server_pids);
  window_start_ns_ = now_ns;
  phase_end_ns_ = now_ns + options_.duration_ns;
}

template <class Connection>
void LoadRun<Connection>::close_window(int64_t now_ns) {
  phase_ = Phase::drain;
  cpu_at_end_ns_ = server_cpu_ns(options_.server_pids);
  window_ns_ = now_ns - window_start_ns_;
  phase_end_ns_ = now_ns + drain_ns;
}

template <class Connection>
void LoadRun<Connection>::advance_phase(int64_t now_ns) {
  if (now_ns < phase_end_ns_) return;
  switch (phase_) {
    case Phase::warmup: return open_window(now_ns);
    case Phase::window: return close_window(now_ns);
    case Phase::drain:
      report_failure("the server left messages unanswered");
      ++errors_;
  }
}

template <class Connection>
bool LoadRun<Connection>::finished() const {
  if (phase_ != Phase::drain) return false;
  for (const Connection& connection : connections_) {
    if (!connection.idle()) return false;
  }
  return true;
}

template <class Connection>
bool LoadRun<Connection>::run() {
  phase_end_ns_ = monotonic_ns() + options_.warmup_ns;
  for (Connection& connection : connections_) {
    for (size_t i = 0; i < options_.depth; ++i) connection.start_message();
    serve_writable(connection);
  }
  last_message_ns_ = monotonic_ns();
  std::array<epoll_event, 1024> events;
  while (errors_ == 0 && !finished()) {
    const int count = epoll_wait(epoll_fd_, events.data(), static_cast<int>(events.size()), 100);
    const int64_t now_ns = monotonic_ns();
    advance_phase(now_ns);
    for (int i = 0; i < count && errors_ == 0; ++i) serve(events[static_cast<size_t>(i)]);
    if (count > 0) last_message_ns_ = now_ns;
    if (options_.datagrams && now_ns >= next_loss_check_ns_) replace_lost(now_ns);
    if (now_ns - last_message_ns_ > stall_ns) {
      report_failure("the server has stalled");
      ++errors_;
    }
  }
  if (!options_.server_pids.empty() && errors_ == 0 && !(cpu_at_start_ns_ && cpu_at_end_ns_)) {
    report_failure("cannot read the server's schedstat");
    ++errors_;
  }
  return errors_ == 0;
}

template <class Connection>
void LoadRun<Connection>::print_result() const {
  const auto us = [](uint64_t ns) { return static_cast<double>(ns) / 1e3; };
  const auto as_ull = [](uint64_t value) { return static_cast<unsigned long long>(value); };
  std::printf("{\"messages\": %llu, \"seconds\": %.9f, \"bytes\": %llu, ", as_ull(latencies_.total()),
              static_cast<double>(window_ns_) / 1e9, as_ull(latencies_.total() * options_.message_bytes));
  std::printf("\"latency_us\": {\"p50\": %.3f, \"p95\": %.3f, \"p99\": %.3f, \"p99.9\": %.3f, \"max\": %.3f}, ",
              us(latencies_.quantile_ns(0.5)), us(latencies_.quantile_ns(0.95)), us(latencies_.quantile_ns(0.99)),
              us(latencies_.quantile_ns(0.999)), us(latencies_.max_ns()));
  if (!options_.server_pids.empty() && cpu_at_start_ns_ && cpu_at_end_ns_) {
    std::printf("\"server_cpu_ns\": %llu, ", as_ull(*cpu_at_end_ns_ - *cpu_at_start_ns_));
  }
  uint64_t lost = 0;
  for (const Connection& connection : connections_) lost += connection.lost();
  std::printf("\"lost\": %llu, \"errors\": %llu}\n", as_ull(lost), as_ull(errors_));
}

// Exit code: 0 all bytes right; 1 a wrong byte, a lost connection or a stall; 2 bad arguments or no connection.
template <class Connection>
int run_load(int argc, char** argv) {
  const auto options = parse_load_options(argc, argv);
  if (!options) return 2;
  const auto address = loopback_address(*options);
  if (!address) {
    report_failure("only loopback and unix addresses are served");
    return 2;
  }
  LoadRun<Connection> load(*options);
  if (!load.connect_all(*address)) return 2;
  const bool all_right = load.run();
  load.print_result();
  return all_right ? 0 : 1;
}

}  // namespace cxxloop::benchmarks
