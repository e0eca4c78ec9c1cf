// SPDX-License-Identifier: MIT
//
// benchmarks/net/websocket_connection.h: one WebSocket of the load client: keeps `depth` binary messages in flight and checks their echo.
//
// Closed loop: a message is sent when the one `depth` before it has come back whole. Owns the fd. Each message goes out as one masked
// frame; it may come back in any number of frames. Pings are answered; RFC 6455.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "byte_pattern.h"
#include "load_connection.h"
#include "load_options.h"

namespace cxxloop::benchmarks {

class WebSocketConnection {
 public:
  WebSocketConnection(int fd, size_t number, const LoadOptions& options, const BytePattern& pattern);
  ~WebSocketConnection();
  WebSocketConnection(WebSocketConnection&& other) noexcept;
  WebSocketConnection& operator=(WebSocketConnection&&) = delete;

  // The upgrade, on a socket that still blocks. False after a line on stderr.
  [[nodiscard]] bool greet() const;
  // Frame one more message and note when it started; flush() sends it.
  void start_message();
  // Send what is framed until all is sent or the socket is full.
  [[nodiscard]] IoResult flush();
  // One recv, checked. Calls on_message(latency_ns) for every message completed by it.
  template <class OnMessage>
  [[nodiscard]] IoResult receive(std::vector<char>& buffer, OnMessage&& on_message);

  // A stream loses nothing.
  [[nodiscard]] bool give_up(int64_t) const noexcept { return false; }
  [[nodiscard]] uint64_t lost() const noexcept { return 0; }

  [[nodiscard]] int fd() const noexcept { return fd_; }
  [[nodiscard]] bool wants_write() const noexcept { return !unsent_.empty(); }
  [[nodiscard]] bool idle() const noexcept { return completed_ == started_; }

 private:
  static constexpr size_t header_bytes_max = 10;  // of a frame without a mask
  static constexpr size_t control_bytes_max = 125;

  enum class Opcode : uint8_t { continuation = 0, text = 1, binary = 2, close = 8, ping = 9, pong = 10 };

  void append_frame(Opcode opcode, const char* payload, size_t size);
  [[nodiscard]] IoResult receive_some(std::vector<char>& buffer);
  // Each returns how many bytes it has taken; 0 when they are wrong, after a line on stderr.
  [[nodiscard]] size_t take_header(const char* data, size_t size);
  [[nodiscard]] size_t take_payload(const char* data, size_t size);
  [[nodiscard]] bool begin_frame();
  [[nodiscard]] bool end_frame();
  bool refuse(const std::string& what) const;

  int fd_;
  size_t number_;
  uint64_t message_bytes_;
  const BytePattern* pattern_;
  uint64_t started_ = 0;    // messages
  uint64_t arrived_ = 0;    // messages
  uint64_t completed_ = 0;  // messages, of those that arrived: told to on_message
  std::vector<char> unsent_;
  uint32_t mask_state_;
  std::array<unsigned char, header_bytes_max> header_{};
  size_t header_bytes_ = 0;      // of the frame that comes in
  uint64_t frame_bytes_left_ = 0;
  uint64_t message_offset_ = 0;  // Bytes of the message that comes in which are there already.
  bool message_open_ = false;    // True exactly when a message has begun to come in and its last frame is not over.
  Opcode opcode_ = Opcode::continuation;  // of the frame that comes in
  std::vector<char> control_;             // Payload of the ping or pong that comes in.
  std::vector<int64_t> started_at_ns_;    // Of message n at n % depth.
  std::string path_;
};

template <class OnMessage>
IoResult WebSocketConnection::receive(std::vector<char>& buffer, OnMessage&& on_message) {
  const IoResult result = receive_some(buffer);
  if (result != IoResult::ok || completed_ == arrived_) return result;
  const int64_t now_ns = monotonic_ns();
  while (completed_ < arrived_) on_message(now_ns - started_at_ns_[completed_++ % started_at_ns_.size()]);
  return result;
}

}  // namespace cxxloop::benchmarks
