// SPDX-License-Identifier: MIT
#include "web/python/server_options.h"

#include <cmath>
#include <limits>
#include <type_traits>

namespace cxxloop::python {
namespace {

// Of each limit: its name, whether it is a time, whether it may be switched off, and where it goes.
struct LimitRow {
  const char* name;
  bool is_time;
  bool may_be_zero;
  void (*store)(web::Limits& limits, uint64_t value);
};

template <auto member>
void store(web::Limits& limits, uint64_t value) {
  limits.*member = static_cast<std::remove_reference_t<decltype(limits.*member)>>(value);
}

template <auto member>
void store_of_head(web::Limits& limits, uint64_t value) {
  limits.head.*member = value;
}

template <auto member>
void store_of_websocket(web::Limits& limits, uint64_t value) {
  limits.websocket.*member = static_cast<std::remove_reference_t<decltype(limits.websocket.*member)>>(value);
}

using web::HeadLimits;
using web::WebSocketLimits;
using web::Limits;
constexpr LimitRow limit_rows[] = {
    {"line_bytes_max", false, false, store_of_head<&HeadLimits::line_bytes_max>},
    {"head_bytes_max", false, false, store_of_head<&HeadLimits::head_bytes_max>},
    {"headers_max", false, false, store_of_head<&HeadLimits::headers_max>},
    {"body_bytes_max", false, true, store<&Limits::body_bytes_max>},
    {"body_buffer_bytes", false, false, store<&Limits::body_buffer_bytes>},
    {"write_buffer_bytes", false, false, store<&Limits::write_buffer_bytes>},
    {"head_seconds", true, true, store<&Limits::head_ns>},
    {"body_seconds", true, true, store<&Limits::body_ns>},
    {"body_rate_min", false, true, store<&Limits::body_rate_min>},
    {"body_rate_grace_seconds", true, true, store<&Limits::body_rate_grace_ns>},
    {"handler_seconds", true, true, store<&Limits::handler_ns>},
    {"idle_seconds", true, true, store<&Limits::idle_ns>},
    {"write_seconds", true, true, store<&Limits::write_ns>},
    {"handshake_seconds", true, true, store<&Limits::handshake_ns>},
    {"requests_per_connection_max", false, true, store<&Limits::requests_per_connection_max>},
    {"connections_max", false, true, store<&Limits::connections_max>},
    {"concurrency_max", false, true, store<&Limits::concurrency_max>},
    {"connections_per_address_max", false, true, store<&Limits::connections_per_address_max>},
    {"websocket_message_bytes_max", false, true, store_of_websocket<&WebSocketLimits::message_bytes_max>},
    {"websocket_queue_messages_max", false, false, store_of_websocket<&WebSocketLimits::queue_messages_max>},
    {"websocket_ping_seconds", true, true, store_of_websocket<&WebSocketLimits::ping_ns>},
    {"websocket_pong_seconds", true, true, store_of_websocket<&WebSocketLimits::pong_ns>},
    {"websocket_close_seconds", true, true, store_of_websocket<&WebSocketLimits::close_ns>},
};

const LimitRow* find_row(PyObject* name) noexcept {
  if (!PyUnicode_Check(name)) return nullptr;
  for (const LimitRow& row : limit_rows) {
    if (PyUnicode_CompareWithASCIIString(name, row.name) == 0) return &row;
  }
  return nullptr;
}

bool read_value(const LimitRow& row, PyObject* object, uint64_t* value) noexcept {
  *value = 0;
  if (object == Py_None) return true;
  if (row.is_time) {
    const double seconds = PyFloat_AsDouble(object);
    if (seconds == -1 && PyErr_Occurred() != nullptr) return false;
    constexpr double seconds_max = 1e9;  // what a deadline in nanoseconds can hold, with room
    const bool is_time = seconds >= 0 && !std::isnan(seconds);
    if (!is_time) PyErr_Format(PyExc_ValueError, "%s must be a number of seconds, not %R", row.name, object);
    *value = is_time ? static_cast<uint64_t>(std::ceil(std::fmin(seconds, seconds_max) * web::second_ns)) : 0;
    return is_time;
  }
  const long long number = PyLong_AsLongLong(object);
  if (number == -1 && PyErr_Occurred() != nullptr) return false;
  if (number < 0) PyErr_Format(PyExc_ValueError, "%s must not be negative", row.name);
  *value = static_cast<uint64_t>(number);
  return number >= 0;
}

bool check_range(const LimitRow& row, uint64_t value) noexcept {
  if (value == 0 && !row.may_be_zero) PyErr_Format(PyExc_ValueError, "%s must not be zero", row.name);
  if (row.store == store<&Limits::body_rate_min> && value > std::numeric_limits<uint32_t>::max()) {
    PyErr_Format(PyExc_ValueError, "%s is too large", row.name);
  }
  if (row.store == store_of_head<&HeadLimits::headers_max> && value > web::RequestHead::headers_room) {
    PyErr_Format(PyExc_ValueError, "%s must be at most %zu", row.name, web::RequestHead::headers_room);
  }
  return PyErr_Occurred() == nullptr;
}

bool raise_unknown(PyObject* name) noexcept {
  PyErr_Format(PyExc_TypeError, "unknown option %R", name);
  return false;
}

bool is_named(PyObject* name, const char* text) noexcept {
  return PyUnicode_Check(name) && PyUnicode_CompareWithASCIIString(name, text) == 0;
}

// True exactly when `value` is a str; else TypeError is set.
bool check_text(PyObject* name, PyObject* value) noexcept {
  if (PyUnicode_Check(value)) return true;
  PyErr_Format(PyExc_TypeError, "%U must be a str, not %R", name, Py_TYPE(value));
  return false;
}

bool read_truth(PyObject* value, bool* truth) noexcept {
  const int is_true = PyObject_IsTrue(value);
  *truth = is_true == 1;
  return is_true >= 0;
}

bool read_fd(PyObject* value, int* fd) noexcept {
  *fd = PyObject_AsFileDescriptor(value);
  return *fd >= 0;
}

bool read_text(PyObject* name, PyObject* value, ServerTexts* texts) noexcept {
  if (is_named(name, "root_path")) {
    texts->root_path = Ref::borrow(value);
    return check_text(name, value);
  }
  if (is_named(name, "scheme")) {
    texts->scheme = Ref::borrow(value);
    return check_text(name, value);
  }
  if (is_named(name, "health_path")) {
    texts->health_path = Ref::borrow(value == Py_None ? nullptr : value);
    return value == Py_None || check_text(name, value);
  }
  if (is_named(name, "server_header")) {
    texts->server_header = Ref::borrow(value == Py_None ? nullptr : value);
    return value == Py_None || check_text(name, value);
  }
  if (is_named(name, "headers")) {
    texts->headers = Ref::borrow(value);
    return true;
  }
  if (is_named(name, "trusted")) {
    texts->trusted = Ref::borrow(value);
    return true;
  }
  if (is_named(name, "proxies")) {
    texts->proxies = Ref::borrow(value);
    return true;
  }
  if (is_named(name, "proxy_protocol")) return read_truth(value, &texts->proxy_protocol);
  if (is_named(name, "date_header")) return read_truth(value, &texts->date_header);
  if (is_named(name, "websockets")) return read_truth(value, &texts->websockets);
  if (is_named(name, "websocket_deflate")) return read_truth(value, &texts->websocket_deflate);
  if (is_named(name, "metrics_fd")) return value == Py_None || read_fd(value, &texts->metrics_fd);
  if (is_named(name, "tls")) {
    texts->tls = Ref::borrow(value == Py_None ? nullptr : value);
    return true;
  }
  if (is_named(name, "tls_engine")) {
    texts->tls_engine = Ref::borrow(value);
    return check_text(name, value);
  }
  return raise_unknown(name);
}

}  // namespace

bool read_limits(Gil, PyObject* options, web::Limits* limits, PyObject* rest) noexcept {
  web::Limits changed = *limits;
  PyObject* name = nullptr;
  PyObject* object = nullptr;
  const Ref items = Ref::steal(PyDict_Copy(options));  // an __index__() could change it
  for (Py_ssize_t at = 0; items && PyDict_Next(items.get(), &at, &name, &object) != 0;) {
    const LimitRow* const row = find_row(name);
    if (row == nullptr) {
      if (rest == nullptr) return raise_unknown(name);
      if (PyDict_SetItem(rest, name, object) < 0) return false;
      continue;
    }
    uint64_t value = 0;
    if (!read_value(*row, object, &value) || !check_range(*row, value)) return false;
    row->store(changed, value);
  }
  if (items) *limits = changed;
  return static_cast<bool>(items);
}

bool read_texts(Gil, PyObject* rest, ServerTexts* texts) noexcept {
  texts->root_path = Ref::steal(PyUnicode_FromString(""));
  texts->scheme = Ref::steal(PyUnicode_FromString("http"));
  texts->server_header = Ref::steal(PyUnicode_FromString("cxxloop"));
  texts->tls_engine = Ref::steal(PyUnicode_FromString("auto"));
  if (!texts->root_path || !texts->scheme || !texts->server_header || !texts->tls_engine) return false;
  PyObject* name = nullptr;
  PyObject* value = nullptr;
  for (Py_ssize_t at = 0; PyDict_Next(rest, &at, &name, &value) != 0;) {
    if (!read_text(name, value, texts)) return false;
  }
  return true;
}

}  // namespace cxxloop::python
