// SPDX-License-Identifier: MIT
//
// benchmarks/net/raw_echo.cc: the echo server that no event loop can beat: epoll, recv(2) and send(2) and nothing between them.
//
// Prints {"port": N} and serves until its stdin closes. Exit code: 0 stdin closed; 1 a system call failed.
// Decision: one page-aligned buffer for all connections, as large as a loop's. Bytes that the peer does not take are copied to their
// connection, and the connection is not read before they are sent.

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <memory>
#include <unordered_map>
#include <vector>

namespace cxxloop::benchmarks {
namespace {

constexpr int backlog = 1024;
alignas(4096) std::array<char, 256 * 1024> buffer;

// Owns the fd.
struct Connection {
  explicit Connection(int fd_of_peer) : fd(fd_of_peer) {}
  ~Connection() { close(fd); }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  int fd;
  std::vector<char> unsent;
};

class RawEcho {
 public:
  RawEcho() : epoll_fd_(epoll_create1(EPOLL_CLOEXEC)), listener_fd_(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)) {}
  ~RawEcho() {
    close(listener_fd_);
    close(epoll_fd_);
  }
  RawEcho(const RawEcho&) = delete;
  RawEcho& operator=(const RawEcho&) = delete;

  // Listens and says where. False when a system call failed.
  [[nodiscard]] bool announce() const;
  // Serves until stdin closes. False when epoll failed.
  [[nodiscard]] bool run();

 private:
  bool watch(int fd, uint32_t events, int operation) const;
  void accept_all();
  void serve(int fd);
  // Each is false when the connection is over.
  [[nodiscard]] bool echo(Connection& connection) const;
  [[nodiscard]] bool flush(Connection& connection) const;

  int epoll_fd_;
  int listener_fd_;
  std::unordered_map<int, std::unique_ptr<Connection>> connections_;  // By fd.
};

bool would_block() { return errno == EAGAIN || errno == EINTR; }

bool RawEcho::watch(int fd, uint32_t events, int operation) const {
  epoll_event event{};
  event.events = events;
  event.data.fd = fd;
  return epoll_ctl(epoll_fd_, operation, fd, &event) == 0;
}

bool RawEcho::announce() const {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  auto* any = reinterpret_cast<sockaddr*>(&address);
  if (bind(listener_fd_, any, size) != 0 || listen(listener_fd_, backlog) != 0 || getsockname(listener_fd_, any, &size) != 0 ||
      !watch(listener_fd_, EPOLLIN, EPOLL_CTL_ADD) || !watch(STDIN_FILENO, EPOLLIN, EPOLL_CTL_ADD)) {
    std::perror("raw_echo");
    return false;
  }
  std::printf("{\"port\": %d}\n", ntohs(address.sin_port));
  return std::fflush(stdout) == 0;
}

void RawEcho::accept_all() {
  for (int fd; (fd = accept4(listener_fd_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0;) {
    const int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    watch(fd, EPOLLIN, EPOLL_CTL_ADD);
    connections_[fd] = std::make_unique<Connection>(fd);
  }
}

bool RawEcho::flush(Connection& connection) const {
  const ssize_t sent = send(connection.fd, connection.unsent.data(), connection.unsent.size(), MSG_NOSIGNAL);
  if (sent < 0) return would_block();
  connection.unsent.erase(connection.unsent.begin(), connection.unsent.begin() + sent);
  return !connection.unsent.empty() || watch(connection.fd, EPOLLIN, EPOLL_CTL_MOD);
}

bool RawEcho::echo(Connection& connection) const {
  const ssize_t received = recv(connection.fd, buffer.data(), buffer.size(), 0);
  if (received <= 0) return received < 0 && would_block();
  ssize_t sent = send(connection.fd, buffer.data(), static_cast<size_t>(received), MSG_NOSIGNAL);
  if (sent == received) return true;
  if (sent < 0 && !would_block()) return false;
  if (sent < 0) sent = 0;
  connection.unsent.assign(buffer.data() + sent, buffer.data() + received);
  return watch(connection.fd, EPOLLOUT, EPOLL_CTL_MOD);
}

void RawEcho::serve(int fd) {
  Connection& connection = *connections_.at(fd);
  const bool goes_on = connection.unsent.empty() ? echo(connection) : flush(connection);
  if (!goes_on) connections_.erase(fd);
}

bool RawEcho::run() {
  std::array<epoll_event, 1024> events;
  for (;;) {
    const int count = epoll_wait(epoll_fd_, events.data(), static_cast<int>(events.size()), -1);
    if (count < 0 && errno != EINTR) return false;
    for (int i = 0; i < count; ++i) {
      const int fd = events[static_cast<size_t>(i)].data.fd;
      if (fd == STDIN_FILENO) return true;
      if (fd == listener_fd_) {
        accept_all();
      } else {
        serve(fd);
      }
    }
  }
}

}  // namespace
}  // namespace cxxloop::benchmarks

int main() {
  cxxloop::benchmarks::RawEcho server;
  return server.announce() && server.run() ? 0 : 1;
}
