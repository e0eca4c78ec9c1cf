// SPDX-License-Identifier: MIT
//
// web/core/http1_websocket.h: a WebSocket that an HTTP/1 connection carries: its handshake, then its session.
//
// Thread: loop thread.  Python: none.  Owns: the session, the bytes that it has not taken.  Dies: with the exchange, if that
// is not accepted; else with the connection.
#pragma once

#include <optional>
#include <string_view>

#include "base/byte_buffer.h"
#include "web/core/connection_host.h"
#include "web/core/websocket_handshake.h"
#include "web/core/websocket_session.h"

namespace cxxloop::web {

class Connection;

class Http1WebSocket final : public WebSocketCarrier {
 public:
  Http1WebSocket(ConnectionHost& host, Connection& connection) noexcept;
  Http1WebSocket(const Http1WebSocket&) = delete;
  Http1WebSocket& operator=(const Http1WebSocket&) = delete;
  ~Http1WebSocket();

  [[nodiscard]] WebSocketHandshake& handshake() noexcept { return handshake_; }
  // Queues the 101. Null, or why not: nothing is queued then. REQUIRES: the handshake is valid.
  [[nodiscard]] const char* accept(std::string_view subprotocol, std::span<const Header> headers, WebSocketUser& user) noexcept;

  // --- for the HTTP/1 session, once it is accepted; each within a Scope of the connection ------------------------
  [[nodiscard]] WebSocketSession& session() noexcept { return *session_; }
  void on_bytes(std::string_view bytes) noexcept;
  void on_eof() noexcept;
  void on_ready() noexcept;
  void on_room() noexcept { session_->on_room(); }
  void on_drain() noexcept;
  void on_connection_end() noexcept { session_->on_lost(); }
  [[nodiscard]] int64_t deadline_ns() const noexcept { return session_->deadline_ns(); }
  void on_deadline(int64_t now_ns) noexcept { session_->on_deadline(now_ns); }

  // --- WebSocketCarrier ------------------------------------------------------------------------------------------
  void enter() noexcept override;
  void leave() noexcept override;
  [[nodiscard]] bool write(std::string_view head, std::string_view payload, void* owner) noexcept override;
  void release(void* owner) noexcept override { host_.output.release(owner); }
  [[nodiscard]] bool is_full() const noexcept override;
  void set_reading(bool reads) noexcept override;
  void finish() noexcept override;
  [[nodiscard]] int64_t now_ns() const noexcept override { return host_.backend.now_ns(); }

 private:
  void give_rest() noexcept;

  ConnectionHost& host_;
  Connection& connection_;
  WebSocketHandshake handshake_;
  std::optional<WebSocketSession> session_;  // nothing: not accepted
  ByteBuffer rest_;       // received, and not taken: the application has stopped reading
  bool has_eof_ = false;
};

}  // namespace cxxloop::web
