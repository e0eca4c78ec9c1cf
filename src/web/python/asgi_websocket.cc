// SPDX-License-Identifier: MIT
//
// web/python/asgi_websocket.cc: the client's side, and the ends. What an application sends: asgi_websocket_messages.cc.
#include "web/python/asgi_websocket.h"

#include "base/clock.h"
#include "web/python/web_server.h"

namespace cxxloop::python {

AsgiWebSocket::~AsgiWebSocket() {
  while (!queue_.empty()) Py_DECREF(queue_.pop_front());
}

void AsgiWebSocket::open(web::Exchange& exchange, Ref scope) noexcept {
  CXL_ASSERT(exchange_ == nullptr);
  Py_INCREF(object_);  // the last on_end() drops it
  exchange_ = &exchange;
  exchange.set_user(*this);
  if (!scope) return;
  scope_ = std::move(scope);
  begun_ns_ = monotonic_ns();
}

// --- receive() ------------------------------------------------------------------------------------------------

Ref AsgiWebSocket::take_event(Gil gil) noexcept {
  const WebState& state = server_.state();
  if (!std::exchange(is_connect_told_, true)) return Ref::steal(PyDict_Copy(state.websocket_connect_event));
  if (!queue_.empty()) return make_message_event(gil);
  return end_code_ != 0 ? make_disconnect_event(gil) : Ref();
}

Ref AsgiWebSocket::make_message_event(Gil) noexcept {
  const WebState& state = server_.state();
  Ref event = Ref::steal(PyDict_Copy(state.websocket_receive_event));
  if (!event) return {};
  const Ref payload = Ref::steal(queue_.pop_front());
  const bool is_text = PyUnicode_Check(payload.get());
  queued_bytes_ -= static_cast<size_t>(is_text ? PyUnicode_GET_LENGTH(payload.get()) : PyBytes_GET_SIZE(payload.get()));
  const int set = PyDict_SetItem(event.get(), state.name(is_text ? Name::text : Name::bytes), payload.get());
  update_reading();
  return set == 0 ? std::move(event) : Ref();
}

// As often as it is asked for: an application that asks once more must not wait for ever.
Ref AsgiWebSocket::make_disconnect_event(Gil) noexcept {
  return Ref::steal(Py_BuildValue("{sssisO}", "type", "websocket.disconnect", "code", int{end_code_}, "reason",
                                  reason_ ? reason_.get() : server_.state().empty_text));
}

// Characters are counted for text: what they cost is bounded by a factor all the same.
void AsgiWebSocket::on_message(web::MessageKind kind, std::string_view bytes) noexcept {
  const Gil gil = Gil::in_slot();
  const Ref pin = Ref::borrow(object_);
  const auto size = static_cast<Py_ssize_t>(bytes.size());
  Ref payload = Ref::steal(kind == web::MessageKind::text ? PyUnicode_DecodeUTF8(bytes.data(), size, nullptr)
                                                          : PyBytes_FromStringAndSize(bytes.data(), size));
  if (payload && !queue_.make_room()) PyErr_NoMemory();
  if (PyErr_Occurred() != nullptr) {
    server_.report(gil, "Exception while a message of a WebSocket was taken");
    if (socket_ != nullptr) static_cast<void>(socket_->close({web::close_code::internal_error}));
    return;
  }
  queued_bytes_ += static_cast<size_t>(PyUnicode_Check(payload.get()) ? PyUnicode_GET_LENGTH(payload.get()) : size);
  CXL_CHECK(queue_.push_back(payload.release()));
  update_reading();
  wake(receivers_);
}

// Stops when the queue is full, and goes on when half of it has gone.
void AsgiWebSocket::update_reading() noexcept {
  if (socket_ == nullptr) return;
  const web::WebSocketLimits& limits = server_.limits().websocket;
  const size_t messages_max = limits.queue_messages_max;
  const uint64_t bytes_max = limits.message_bytes_max != 0 ? limits.message_bytes_max : UINT64_MAX;
  const bool is_full = queue_.size() >= messages_max || queued_bytes_ >= bytes_max;
  const bool is_low = queue_.size() <= messages_max / 2 && queued_bytes_ <= bytes_max / 2;
  if (reads_ ? !is_full : !is_low) return;
  reads_ = !reads_;
  socket_->set_reading(reads_);
}

// --- the ends -------------------------------------------------------------------------------------------------

void AsgiWebSocket::set_end(web::CloseReason close) noexcept {
  if (end_code_ != 0) return;
  end_code_ = close.code;
  if (close.reason.empty()) return;
  reason_ = Ref::steal(PyUnicode_DecodeUTF8(close.reason.data(), static_cast<Py_ssize_t>(close.reason.size()), "replace"));
  if (!reason_) PyErr_Clear();  // no memory: the end is told without it
}

// The client has closed its sending side: it cannot become a WebSocket's any more.
void AsgiWebSocket::on_disconnect() noexcept {
  set_end({web::close_code::abnormal});
  wake(receivers_);
}

// The handshake is over: accepted, refused, or lost.
void AsgiWebSocket::on_end(const web::Ending& ending) noexcept {
  const Gil gil = Gil::in_slot();
  const Ref reference = is_accepting_ ? Ref() : Ref::steal(object_);
  const Ref pin = Ref::borrow(object_);
  exchange_ = nullptr;
  if (!is_accepting_) {
    set_end({web::close_code::abnormal});
    wake(receivers_);
    wake(senders_);
  }
  const Ref scope = scope_.take();
  if (!scope || ending.status == 0) return;
  // Runs Python: the access log may do anything but bring the exchange back.
  server_.tell_access(gil, scope.get(), ending, monotonic_ns() - begun_ns_);
}

void AsgiWebSocket::on_end(web::CloseReason close) noexcept {
  const Ref reference = Ref::steal(object_);
  socket_ = nullptr;
  set_end(close);
  wake(receivers_);
  wake(senders_);
}

// A WebSocket that its application leaves open is closed in its name; uvicorn's clients are just cut off.
const char* AsgiWebSocket::end_unfinished(bool has_failed) noexcept {
  const Ref pin = Ref::borrow(object_);
  phase_ = Phase::closed;
  if (socket_ != nullptr) {
    static_cast<void>(socket_->close({has_failed ? web::close_code::internal_error : web::close_code::normal}));
    return nullptr;
  }
  if (exchange_ == nullptr) return nullptr;
  const bool has_begun = status_ != 0;
  exchange_->abort();
  return has_begun ? "ASGI callable returned without completing response."
                   : "ASGI callable returned without completing handshake.";
}

bool AsgiWebSocket::is_full() const noexcept {
  return socket_ != nullptr ? socket_->is_full() : exchange_ != nullptr && exchange_->is_full();
}

}  // namespace cxxloop::python
