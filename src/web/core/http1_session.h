// SPDX-License-Identifier: MIT
//
// web/core/http1_session.h: the requests of one HTTP/1 connection, one after the other, and the exchange that each of them is.
//
// Decision: the session is the exchange, because HTTP/1 has one at a time: no request allocates.
// Decision: bodies are decoded when the application takes them, from the bytes at hand or from `carry_`. What nobody takes
// fills `carry_` up to Limits::body_buffer_bytes, then reading stops, and the kernel makes the client wait.
// Thread: loop thread.  Python: none.  Owns: the bytes that could not be used yet.
// Dies: with its connection.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>

#include "base/byte_buffer.h"
#include "web/core/connection_host.h"
#include "web/core/exchange.h"
#include "web/core/http1_websocket.h"
#include "web/core/request_body.h"
#include "web/core/response_head.h"

namespace cxxloop::web {

class Connection;

class Http1Session final : public Exchange {
 public:
  // Requests answered in one callback, so that a client that pipelines thousands does not keep others waiting.
  static constexpr uint32_t requests_per_callback_max = 64;
  // What is read and dropped of a body that the application did not want, before the connection is closed instead.
  static constexpr uint64_t drained_bytes_max = 256 * 1024;
  // A larger buffer of what could not be used is given back as soon as it is empty.
  static constexpr size_t kept_carry_bytes = 16 * 1024;
  // An idle connection gives its memory back after this time.
  static constexpr int64_t slim_ns = second_ns;
  // After drain() an idle connection may still take the request that is on its way.
  static constexpr int64_t drain_grace_ns = second_ns / 10;

  Http1Session(ConnectionHost& host, Connection& connection) noexcept;

  // --- for the connection; each within a Scope of it -----------------------------------------------------------
  void on_bytes(std::string_view bytes) noexcept;
  void on_eof() noexcept;
  void on_ready() noexcept;  // after Connection::make_ready()
  void on_room() noexcept;   // Connection::is_full() was true
  void on_file_sent() noexcept;  // Connection::send_file() has returned false
  [[nodiscard]] int64_t deadline_ns() const noexcept;
  void on_deadline(int64_t now_ns) noexcept;
  void on_connection_end(Ending::Why why) noexcept;
  void on_drain() noexcept;
  // Answers so instead of reading a request.
  void refuse_connection(Refusal refusal) noexcept;
  // The connection was not to be used before.
  void on_secured() noexcept { since_ns_ = host_.now_ns; }

  // --- Exchange ------------------------------------------------------------------------------------------------
  [[nodiscard]] BodyPart take_body() noexcept override;
  [[nodiscard]] std::span<const Header> trailers() const noexcept override;
  [[nodiscard]] const char* inform(int status, std::span<const Header> headers) noexcept override;
  [[nodiscard]] const char* start(const ResponseStart& response) noexcept override;
  [[nodiscard]] const char* write(std::string_view bytes, void* owner) noexcept override;
  [[nodiscard]] const char* end(std::span<const Header> trailers) noexcept override;
  [[nodiscard]] const char* write_file(int fd, uint64_t offset, uint64_t size) noexcept override;
  [[nodiscard]] Accepted accept(std::string_view subprotocol, std::span<const Header> headers, WebSocketUser& user) noexcept override;
  void abort() noexcept override;
  [[nodiscard]] bool is_started() const noexcept override { return is_started_; }
  [[nodiscard]] bool is_full() const noexcept override;
  [[nodiscard]] bool is_disconnected() const noexcept override { return has_eof_; }

 private:
  // head -> exchange (a head is whole) -> head, or drain if the body is not over; drain -> head; exchange -> websocket
  // (accept()); each -> closed.
  enum class Stage : uint8_t { head, exchange, drain, websocket, closed };

  // http1_session.cc
  [[nodiscard]] std::string_view input() const noexcept { return carry_.empty() ? fresh_ : carry_.view(); }
  void consume(size_t bytes) noexcept;
  void keep_rest() noexcept;
  void advance() noexcept;
  [[nodiscard]] bool read_head() noexcept;
  [[nodiscard]] bool take_request(RequestHead& head) noexcept;
  void begin_exchange(const RequestHead& head) noexcept;
  void serve(const RequestHead& head) noexcept;
  void answer_health() noexcept;
  [[nodiscard]] bool is_overloaded() const noexcept;
  void refuse_overload() noexcept;
  [[nodiscard]] bool drain_body() noexcept;
  void update_reading() noexcept;
  // False: it was refused.
  [[nodiscard]] bool prepare_websocket(const RequestHead& head) noexcept;
  void give_to_websocket() noexcept;
  void refuse(Refusal refusal, std::span<const Header> headers = {}) noexcept;
  void finish_refused() noexcept;
  void end_exchange(Ending::Why why) noexcept;
  void close(bool lingers) noexcept;
  void expire_head(int64_t now_ns) noexcept;
  void expire_exchange(int64_t now_ns) noexcept;
  [[nodiscard]] bool is_idle() const noexcept { return stage_ == Stage::head && input().empty(); }
  [[nodiscard]] int64_t head_deadline_ns() const noexcept;
  [[nodiscard]] int64_t body_deadline_ns() const noexcept;
  [[nodiscard]] int64_t handler_deadline_ns() const noexcept;

  // http1_exchange.cc
  void wait_for_body() noexcept;
  void refuse_body() noexcept;
  [[nodiscard]] const char* put_response_head(const ResponseHead& head, const AnsweredRequest& request) noexcept;
  [[nodiscard]] const char* put_piece(std::string_view bytes, void* owner) noexcept;
  void end_file() noexcept;
  // A whole answer of our own, after which the connection ends.
  void answer_error(int status, std::string_view reason, std::span<const Header> headers = {}) noexcept;

  ConnectionHost& host_;
  Connection& connection_;
  HeadParser parser_;
  RequestBody body_;
  ByteBuffer carry_;        // received and not used
  std::string_view fresh_;  // likewise, in the backend's buffer: valid during on_bytes() only; behind carry_, which is empty then

  std::unique_ptr<Http1WebSocket> websocket_;  // null: the request asks for none

  int64_t since_ns_;            // when the stage, or a head, began
  int64_t piece_ns_ = 0;        // when a part of the body has come, or somebody began to wait for one
  int64_t rate_begin_ns_ = 0;   // of the body, less the time in which nobody waited for it
  uint64_t rate_bytes_ = 0;     // received since the head
  uint64_t drained_bytes_ = 0;
  uint64_t answered_ = 0;       // requests so far

  uint64_t response_left_ = 0;  // of the Content-Length
  uint64_t response_bytes_ = 0;
  int status_ = 0;
  AnsweredRequest request_;
  BodyFraming framing_ = BodyFraming::none;

  Stage stage_ = Stage::head;
  bool is_advancing_ = false;     // True exactly inside advance()
  bool has_eof_ = false;
  bool has_begun_head_ = false;   // True exactly when a part of a head is at hand
  bool is_slim_ = false;          // True exactly when an idle connection has given its memory back
  bool expects_continue_ = false; // True exactly when the client waits for 100 Continue
  bool waits_body_ = false;       // True exactly when take_body() has returned wait
  bool is_body_lost_ = false;
  bool has_trailers_ = false;     // True exactly when take_body() has just met the end
  bool is_started_ = false;
  bool client_closes_ = false;    // True exactly when the client has said that this is its last request
  bool is_refused_ = false;       // True exactly when the session has answered by itself: on_end() follows
};

}  // namespace cxxloop::web
