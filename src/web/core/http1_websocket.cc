// SPDX-License-Identifier: MIT
#include "web/core/http1_websocket.h"

#include "web/core/connection.h"

namespace cxxloop::web {

Http1WebSocket::Http1WebSocket(ConnectionHost& host, Connection& connection) noexcept
    : host_(host), connection_(connection), handshake_(host.websocket_deflate) {}

Http1WebSocket::~Http1WebSocket() {
  if (session_) --host_.counts.websockets;
}

const char* Http1WebSocket::accept(std::string_view subprotocol, std::span<const Header> headers, WebSocketUser& user) noexcept {
  ByteBuffer head;
  WebSocketHandshake::Response response = {.subprotocol = subprotocol, .headers = headers, .server = host_.server_header};
  if (host_.has_date_header) response.date = host_.date.now();
  if (const char* const fault = handshake_.append_response(head, response)) return fault;
  if (!write(head.view(), {}, nullptr)) return "out of memory";
  ++host_.counts.websockets;
  ++host_.counts.websockets_accepted;
  session_.emplace(*this, user, host_.limits.websocket, handshake_.deflate());
  connection_.set_reading(true);  // the HTTP/1 session may have stopped
  return nullptr;
}

void Http1WebSocket::on_bytes(std::string_view bytes) noexcept {
  if (rest_.empty()) {
    // The bytes are the backend's, or were kept by the HTTP/1 session: nobody looks at them again.
    bytes.remove_prefix(session_->receive({const_cast<char*>(bytes.data()), bytes.size()}));
  }
  if (!rest_.append(bytes)) return connection_.end(Ending::Why::client_gone);
  give_rest();
}

void Http1WebSocket::give_rest() noexcept {
  if (rest_.empty()) return;
  const std::string_view bytes = rest_.view();
  rest_.drop_front(session_->receive({const_cast<char*>(bytes.data()), bytes.size()}));
  if (rest_.empty()) rest_.release();
}

void Http1WebSocket::on_eof() noexcept {
  has_eof_ = true;
  on_ready();
}

void Http1WebSocket::on_ready() noexcept {
  give_rest();
  if (!has_eof_ || !rest_.empty()) return;
  session_->on_lost();
  connection_.finish(false);
}

// The client may come back to another process.
void Http1WebSocket::on_drain() noexcept { (void)session_->close({close_code::service_restart}); }

void Http1WebSocket::enter() noexcept { connection_.enter(); }
void Http1WebSocket::leave() noexcept { connection_.exit(); }

bool Http1WebSocket::write(std::string_view head, std::string_view payload, void* owner) noexcept {
  const bool is_lent = owner != nullptr && payload.size() > Output::copied_bytes_max;
  Output output = connection_.output();
  if (output.reserve(head.size() + (is_lent ? 0 : payload.size())) == nullptr) return false;
  output.put(head);
  is_lent ? output.lend(payload, owner) : output.put(payload);
  if (!is_lent) release(owner);
  connection_.wrote();
  return true;
}

bool Http1WebSocket::is_full() const noexcept { return connection_.is_full(); }

// What was left is given in a callback of its own: the application may be anywhere now.
void Http1WebSocket::set_reading(bool reads) noexcept {
  connection_.set_reading(reads);
  if (reads && (has_eof_ || !rest_.empty())) connection_.make_ready();
}

void Http1WebSocket::finish() noexcept { connection_.finish(true); }

}  // namespace cxxloop::web
