// SPDX-License-Identifier: MIT
//
// web/python/asgi_websocket_messages.cc: what an application sends to a WebSocket.
#include "web/python/asgi_message.h"
#include "web/python/asgi_websocket.h"
#include "web/python/web_server.h"

namespace cxxloop::python {
namespace {

constexpr std::string_view accept_type = "websocket.accept";
constexpr std::string_view send_type = "websocket.send";
constexpr std::string_view close_type = "websocket.close";
constexpr std::string_view start_type = "websocket.http.response.start";
constexpr std::string_view body_type = "websocket.http.response.body";

// As message.get(key); null without the indicator for None too.
PyObject* find_some(const WebState& state, PyObject* message, Name key) noexcept {
  PyObject* const value = find(state, message, key);
  return value == Py_None ? nullptr : value;
}

// The UTF-8 of a str, valid as long as that. False: the indicator is set.
bool view_text(PyObject* text, std::string_view* view) noexcept {
  Py_ssize_t size = 0;
  const char* const bytes = PyUnicode_AsUTF8AndSize(text, &size);
  if (bytes != nullptr) *view = {bytes, static_cast<size_t>(size)};
  return bytes != nullptr;
}

}  // namespace

bool AsgiWebSocket::take_message(Gil gil, PyObject* message) noexcept {
  const std::string_view type = type_of(server_.state(), message);
  if (type.empty()) return false;
  if (phase_ == Phase::closed) {
    PyErr_Format(PyExc_RuntimeError, "Unexpected ASGI message '%s', after sending 'websocket.close'.", type.data());
    return false;
  }
  if (exchange_ == nullptr && socket_ == nullptr) {
    PyErr_SetString(server_.state().client_disconnected, "the client has disconnected");
    return false;
  }
  if (phase_ == Phase::connecting) return take_answer(gil, message, type);
  if (phase_ == Phase::rejecting) {
    if (type == body_type) return take_body(gil, message);
    PyErr_Format(PyExc_RuntimeError, "Expected ASGI message 'websocket.http.response.body' but got '%s'.", type.data());
    return false;
  }
  if (type == send_type) return take_send(gil, message);
  if (type == close_type) return take_close(gil, message);
  PyErr_Format(PyExc_RuntimeError, "Expected ASGI message 'websocket.send' or 'websocket.close', but got '%s'.", type.data());
  return false;
}

bool AsgiWebSocket::take_answer(Gil gil, PyObject* message, std::string_view type) noexcept {
  if (type == accept_type) return take_accept(gil, message);
  if (type == close_type) return reject(gil);
  if (type == start_type) return take_start(gil, message);
  PyErr_Format(PyExc_RuntimeError,
               "Expected ASGI message 'websocket.accept', 'websocket.close' or 'websocket.http.response.start' but got '%s'.",
               type.data());
  return false;
}

bool AsgiWebSocket::take_accept(Gil gil, PyObject* message) noexcept {
  const WebState& state = server_.state();
  const Ref subprotocol = Ref::borrow(find_some(state, message, Name::subprotocol));
  const Ref headers = Ref::borrow(PyErr_Occurred() == nullptr ? find_some(state, message, Name::headers) : nullptr);
  std::string_view name;
  if (PyErr_Occurred() != nullptr || (subprotocol && !view_text(subprotocol.get(), &name))) return false;
  if (!headers_.assign(gil, server_.default_headers(), headers.get())) return false;
  if (exchange_ == nullptr) return true;  // the iterable has closed the server
  is_accepting_ = true;
  const web::Accepted accepted = exchange_->accept(name, headers_.view(), *this);
  is_accepting_ = false;
  headers_.clear();
  if (accepted.fault != nullptr) return raise_fault(accepted.fault);
  phase_ = Phase::open;
  socket_ = accepted.socket;
  return true;
}

// RFC 6455 and ASGI: 403 for a WebSocket that is closed before it is accepted.
bool AsgiWebSocket::reject(Gil gil) noexcept {
  constexpr int forbidden = 403;
  phase_ = Phase::closed;
  if (!headers_.assign(gil, server_.default_headers(), nullptr)) return false;
  const char* const fault = exchange_->start({forbidden, headers_.view(), 0});
  headers_.clear();
  if (fault != nullptr || exchange_ == nullptr) return raise_fault(fault);
  return raise_fault(exchange_->end({}));
}

// Kept until the first of the body: its length may be known then.
bool AsgiWebSocket::take_start(Gil gil, PyObject* message) noexcept {
  const WebState& state = server_.state();
  const int status = require_status(state, message);
  if (status < 0) return false;
  const Ref headers = Ref::borrow(find(state, message, Name::headers));
  if (PyErr_Occurred() != nullptr || !headers_.assign(gil, server_.default_headers(), headers.get())) return false;
  status_ = status;
  phase_ = Phase::rejecting;
  return true;
}

bool AsgiWebSocket::take_body(Gil gil, PyObject* message) noexcept {
  const WebState& state = server_.state();
  const int more_body = find_truth(state, message, Name::more_body);
  const Ref body = Ref::borrow(more_body >= 0 ? find(state, message, Name::body) : nullptr);
  if (PyErr_Occurred() != nullptr) return false;
  Py_buffer buffer;
  if (PyObject_GetBuffer(body ? body.get() : state.empty_bytes, &buffer, PyBUF_SIMPLE) < 0) return false;
  const bool is_last = more_body == 0;
  const std::string_view bytes(static_cast<const char*>(buffer.buf), static_cast<size_t>(buffer.len));
  const char* fault = nullptr;
  if (exchange_ != nullptr && !exchange_->is_started()) {
    fault = exchange_->start({status_, headers_.view(), is_last ? std::optional<uint64_t>(bytes.size()) : std::nullopt});
    headers_.clear();
  }
  if (fault == nullptr && exchange_ != nullptr && !bytes.empty()) fault = exchange_->write(bytes);
  if (fault == nullptr && is_last) {
    phase_ = Phase::closed;  // State first: on_end() is called inside.
    if (exchange_ != nullptr) fault = exchange_->end({});
  }
  PyBuffer_Release(&buffer);
  static_cast<void>(gil);
  return raise_fault(fault);
}

// uvicorn's order: bytes, if there are any, else text.
bool AsgiWebSocket::take_send(Gil gil, PyObject* message) noexcept {
  const WebState& state = server_.state();
  const Ref bytes = Ref::borrow(find_some(state, message, Name::bytes));
  if (bytes) return send_bytes(gil, bytes.get());
  const Ref text = Ref::borrow(PyErr_Occurred() == nullptr ? find_some(state, message, Name::text) : nullptr);
  if (text) return send_text(gil, text.get());
  if (PyErr_Occurred() == nullptr) PyErr_SetString(PyExc_RuntimeError, "'websocket.send' has neither bytes nor text");
  return false;
}

bool AsgiWebSocket::send_text(Gil gil, PyObject* text) noexcept {
  std::string_view bytes;
  if (!PyUnicode_Check(text)) {
    PyErr_Format(PyExc_TypeError, "the text of 'websocket.send' must be a str, not %R", Py_TYPE(text));
    return false;
  }
  return view_text(text, &bytes) && send_piece(gil, web::MessageKind::text, bytes, text);
}

bool AsgiWebSocket::send_bytes(Gil gil, PyObject* bytes) noexcept {
  if (PyBytes_CheckExact(bytes)) [[likely]] {
    const std::string_view view(PyBytes_AS_STRING(bytes), static_cast<size_t>(PyBytes_GET_SIZE(bytes)));
    return send_piece(gil, web::MessageKind::binary, view, bytes);
  }
  Py_buffer buffer;
  if (PyObject_GetBuffer(bytes, &buffer, PyBUF_SIMPLE) < 0) return false;
  const std::string_view view(static_cast<const char*>(buffer.buf), static_cast<size_t>(buffer.len));
  const bool is_sent = send_piece(gil, web::MessageKind::binary, view, nullptr);
  PyBuffer_Release(&buffer);
  return is_sent;
}

bool AsgiWebSocket::send_piece(Gil, web::MessageKind kind, std::string_view bytes, PyObject* owner) noexcept {
  if (socket_ == nullptr) return true;  // what has run in between has closed the server
  Py_XINCREF(owner);
  const char* const fault = socket_->send(kind, bytes, owner);
  if (fault != nullptr) Py_XDECREF(owner);
  return raise_fault(fault);
}

bool AsgiWebSocket::take_close(Gil, PyObject* message) noexcept {
  const WebState& state = server_.state();
  const Ref code = Ref::borrow(find_some(state, message, Name::code));
  const Ref reason = Ref::borrow(PyErr_Occurred() == nullptr ? find_some(state, message, Name::reason) : nullptr);
  if (PyErr_Occurred() != nullptr) return false;
  const long number = code ? PyLong_AsLong(code.get()) : long{web::close_code::normal};
  std::string_view text;
  if (PyErr_Occurred() != nullptr || (reason && !view_text(reason.get(), &text))) return false;
  if (socket_ == nullptr) return true;  // what has run in between has closed the server
  const char* const fault = socket_->close({number >= 0 && number <= UINT16_MAX ? static_cast<uint16_t>(number) : uint16_t{0}, text});
  if (fault == nullptr) phase_ = Phase::closed;
  return raise_fault(fault);
}

}  // namespace cxxloop::python
