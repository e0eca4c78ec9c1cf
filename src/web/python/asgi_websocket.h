// SPDX-License-Identifier: MIT
//
// web/python/asgi_websocket.h: one WebSocket, as the events and messages of ASGI.
//
// Sources: the ASGI specification's WebSocket messages and websocket.http.response; what it leaves open is uvicorn's.
// Decision: what comes is made Python's at once, because the core's bytes live in its call only; a queue of Limits::websocket
// holds it, and when that is full nothing is read.
// Thread: loop thread.  Owns: a reference to the Python object of the call, while the core may call it; the queue.
// Dies: with that object.
#pragma once

#include <cstdint>
#include <optional>

#include "base/ring_queue.h"
#include "web/core/exchange.h"
#include "web/core/websocket_session.h"
#include "web/python/asgi_channel.h"
#include "web/python/header_list.h"

namespace cxxloop::python {

class AsgiWebSocket final : public AsgiChannel, public web::ExchangeUser, public web::WebSocketUser {
 public:
  AsgiWebSocket(PyObject* object, WebServer& server) noexcept : AsgiChannel(object, server) {}
  ~AsgiWebSocket();
  // Inside Application::on_request(). A null scope: nobody asks for it at the end of the handshake.
  void open(web::Exchange& exchange, Ref scope) noexcept;

  // --- AsgiChannel -----------------------------------------------------------------------------------------------
  [[nodiscard]] Ref take_event(Gil gil) noexcept override;
  [[nodiscard]] bool is_full() const noexcept override;
  [[nodiscard]] bool is_sending_file() const noexcept override { return false; }
  [[nodiscard]] bool is_open() const noexcept override { return exchange_ != nullptr || socket_ != nullptr; }
  const char* end_unfinished(bool has_failed) noexcept override;

  // --- web::ExchangeUser: the handshake --------------------------------------------------------------------------
  void on_body() noexcept override {}
  void on_disconnect() noexcept override;
  void on_drained() noexcept override { wake(senders_); }  // of web::WebSocketUser too
  void on_end(const web::Ending& ending) noexcept override;

  // --- web::WebSocketUser ----------------------------------------------------------------------------------------
  void on_message(web::MessageKind kind, std::string_view bytes) noexcept override;
  void on_end(web::CloseReason close) noexcept override;

  template <class F>
  void each_ref(F& f) noexcept {
    f(scope_, reason_);
  }

 private:
  // What the application may send: connecting -> open -> closed; connecting -> rejecting (websocket.http.response) -> closed;
  // connecting -> closed (websocket.close).
  enum class Phase : uint8_t { connecting, open, rejecting, closed };

  [[nodiscard]] bool take_message(Gil gil, PyObject* message) noexcept override;
  [[nodiscard]] bool take_answer(Gil gil, PyObject* message, std::string_view type) noexcept;
  [[nodiscard]] bool take_accept(Gil gil, PyObject* message) noexcept;
  [[nodiscard]] bool take_start(Gil gil, PyObject* message) noexcept;
  [[nodiscard]] bool take_body(Gil gil, PyObject* message) noexcept;
  [[nodiscard]] bool take_send(Gil gil, PyObject* message) noexcept;
  [[nodiscard]] bool take_close(Gil gil, PyObject* message) noexcept;
  [[nodiscard]] bool reject(Gil gil) noexcept;
  [[nodiscard]] bool send_text(Gil gil, PyObject* text) noexcept;
  [[nodiscard]] bool send_bytes(Gil gil, PyObject* bytes) noexcept;
  [[nodiscard]] bool send_piece(Gil gil, web::MessageKind kind, std::string_view bytes, PyObject* owner) noexcept;
  [[nodiscard]] Ref make_message_event(Gil gil) noexcept;
  [[nodiscard]] Ref make_disconnect_event(Gil gil) noexcept;
  void set_end(web::CloseReason close) noexcept;
  void update_reading() noexcept;

  web::Exchange* exchange_ = nullptr;        // null: not open, answered, or lost
  web::WebSocketSession* socket_ = nullptr;  // null: not accepted, or ended
  RingQueue<PyObject*> queue_;               // owned: str and bytes that nobody has asked for
  size_t queued_bytes_ = 0;
  int64_t begun_ns_ = 0;
  int status_ = 0;              // of a response that refuses
  uint16_t end_code_ = 0;       // 0: not ended
  Phase phase_ = Phase::connecting;
  bool is_connect_told_ = false;
  bool is_accepting_ = false;   // True exactly inside Exchange::accept()
  bool reads_ = true;
  Ref scope_;                   // null: nobody asks for it at the end
  Ref reason_;                  // of the end, a str; null: none
  HeaderList headers_;          // of a response that has not begun
};

}  // namespace cxxloop::python
