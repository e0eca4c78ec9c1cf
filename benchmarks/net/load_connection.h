// SPDX-License-Identifier: MIT
//
// benchmarks/net/load_connection.h: one connection of the load client: keeps `depth` messages in flight and checks their echo.
//
// Closed loop: a message is sent when the one `depth` before it has come back whole. Owns the fd.
// A datagram may get lost: it is counted when a later one comes back, or after loss_ns.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/clock.h"
#include "byte_pattern.h"
#include "load_options.h"

namespace cxxloop::benchmarks {

enum class IoResult : uint8_t { ok, peer_closed, system_error, wrong_byte };

class LoadConnection {
 public:
  LoadConnection(int fd, size_t number, const LoadOptions& options, const BytePattern& pattern);
  ~LoadConnection();
  LoadConnection(LoadConnection&& other) noexcept;
  LoadConnection& operator=(LoadConnection&&) = delete;

  // What the protocol wants before the first message, on a socket that still blocks. False after a line on stderr.
  [[nodiscard]] bool greet() const noexcept { return true; }
  // Account for one more message and note when it started; flush() sends it.
  void start_message();
  // Send what is accounted for until all is sent or the socket is full.
  [[nodiscard]] IoResult flush();
  // One recv, checked. Calls on_message(latency_ns) for every message completed by it.
  template <class OnMessage>
  [[nodiscard]] IoResult receive(std::vector<char>& buffer, OnMessage&& on_message);

  // Datagrams: true, and what is in flight counts as lost, when the oldest was sent too long ago.
  [[nodiscard]] bool give_up(int64_t now_ns) noexcept;

  [[nodiscard]] uint64_t lost() const noexcept { return lost_; }
  [[nodiscard]] int fd() const noexcept { return fd_; }
  [[nodiscard]] bool wants_write() const noexcept { return sent_bytes_ < started_ * message_bytes_; }
  [[nodiscard]] bool idle() const noexcept { return completed_ == started_; }

 private:
  static constexpr int64_t loss_ns = ns_per_second;

  [[nodiscard]] IoResult take_stream(const char* data, size_t size);
  [[nodiscard]] IoResult take_datagram(const char* data, size_t size);
  [[nodiscard]] bool is_message(uint64_t number, const char* data, size_t size) const noexcept;
  [[nodiscard]] IoResult receive_some(std::vector<char>& buffer);
  [[nodiscard]] bool has_completed_message() const noexcept {
    return completed_ < started_ && received_bytes_ >= (completed_ + 1) * message_bytes_;
  }
  // Latency of the oldest message in flight, which is now complete.
  int64_t finish_message(int64_t now_ns) noexcept;
  void report_wrong_byte(const char* data, size_t size) const;

  int fd_;
  size_t number_;
  uint64_t message_bytes_;
  const BytePattern* pattern_;
  bool datagrams_;
  uint64_t started_ = 0;    // messages
  uint64_t completed_ = 0;  // messages, the lost ones included
  uint64_t lost_ = 0;       // messages
  uint64_t given_up_ = 0;   // of the completed ones, how many were given up last
  uint64_t sent_bytes_ = 0;
  uint64_t received_bytes_ = 0;
  std::vector<int64_t> started_at_ns_;  // Of message n at n % depth.
};

template <class OnMessage>
IoResult LoadConnection::receive(std::vector<char>& buffer, OnMessage&& on_message) {
  const IoResult result = receive_some(buffer);
  if (result != IoResult::ok || !has_completed_message()) return result;
  const int64_t now_ns = monotonic_ns();
  while (has_completed_message()) on_message(finish_message(now_ns));
  return result;
}

}  // namespace cxxloop::benchmarks
