// SPDX-License-Identifier: MIT
//
// web/python/asgi_messages.cc: the response's side of AsgiExchange: what an application sends.
//
// Sources: the ASGI specification's HTTP messages and extensions; the types and texts of mistakes are uvicorn's.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "python/interp/error.h"
#include "web/python/asgi_exchange.h"
#include "web/python/asgi_message.h"
#include "web/python/web_server.h"

namespace cxxloop::python {
namespace {

constexpr std::string_view start_type = "http.response.start";
constexpr std::string_view body_type = "http.response.body";
constexpr std::string_view trailers_type = "http.response.trailers";
constexpr std::string_view early_hint_type = "http.response.early_hint";
constexpr std::string_view pathsend_type = "http.response.pathsend";
constexpr std::string_view zerocopysend_type = "http.response.zerocopysend";

bool raise_unexpected(std::string_view expected, std::string_view type) noexcept {
  PyErr_Format(PyExc_RuntimeError, "Expected ASGI message '%s', but got '%s'.", expected.data(), type.data());
  return false;
}

// What sendfile() can read. Not valid: the indicator is set.
UniqueFd open_file(Gil gil, PyObject* path, uint64_t* size) noexcept {
  PyObject* encoded = nullptr;
  if (PyUnicode_FSConverter(path, &encoded) == 0) return UniqueFd();
  const Ref name = Ref::steal(encoded);
  UniqueFd file(::open(PyBytes_AS_STRING(name.get()), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  struct stat facts;
  if (!file.valid() || ::fstat(file.get(), &facts) != 0) {
    raise_errno(gil, last_errno());
    return UniqueFd();
  }
  if (!S_ISREG(facts.st_mode)) {
    PyErr_Format(PyExc_RuntimeError, "%R is not a file", path);
    return UniqueFd();
  }
  *size = static_cast<uint64_t>(facts.st_size);
  return file;
}

}  // namespace

bool AsgiExchange::take_message(Gil gil, PyObject* message) noexcept {
  const std::string_view type = type_of(server_.state(), message);
  if (type.empty()) return false;
  if (phase_ == Phase::complete) {
    PyErr_Format(PyExc_RuntimeError, "Unexpected ASGI message '%s' sent, after response already completed.", type.data());
    return false;
  }
  if (exchange_ == nullptr) {
    PyErr_SetString(server_.state().client_disconnected, "the client has disconnected");
    return false;
  }
  if (phase_ == Phase::start) {
    if (type == start_type) return take_start(gil, message);
    return type == early_hint_type ? take_early_hint(gil, message) : raise_unexpected(start_type, type);
  }
  if (phase_ == Phase::trailers) {
    return type == trailers_type ? take_trailers(gil, message) : raise_unexpected(trailers_type, type);
  }
  if (type == body_type) return take_body(gil, message);
  if (type == pathsend_type) return take_path(gil, message);
  return type == zerocopysend_type ? take_file(gil, message) : raise_unexpected(body_type, type);
}

// Kept until the first of the body: its length may be known then, and head and body leave together.
bool AsgiExchange::take_start(Gil gil, PyObject* message) noexcept {
  const WebState& state = server_.state();
  const int status = require_status(state, message);
  if (status < 0) return false;
  const int has_trailers = find_truth(state, message, Name::trailers);
  PyObject* const headers = has_trailers >= 0 ? find(state, message, Name::headers) : nullptr;
  if (PyErr_Occurred() != nullptr) return false;
  const Ref held = Ref::borrow(headers);
  if (!headers_.assign(gil, server_.default_headers(), headers)) return false;
  status_ = status;
  has_trailers_ = has_trailers == 1;
  phase_ = Phase::body;
  return true;
}

bool AsgiExchange::take_early_hint(Gil gil, PyObject* message) noexcept {
  constexpr int early_hints = 103;
  PyObject* const links = require(server_.state(), message, Name::links);
  const Ref held = Ref::borrow(links);
  if (links == nullptr || !headers_.assign_values(gil, "link", links)) return false;
  if (exchange_ == nullptr) return true;  // the iterable has closed the server
  const char* const fault = exchange_->inform(early_hints, headers_.view());
  headers_.clear();
  return raise_fault(fault);
}

bool AsgiExchange::take_body(Gil gil, PyObject* message) noexcept {
  const WebState& state = server_.state();
  const int more_body = find_truth(state, message, Name::more_body);
  if (more_body < 0) return false;
  PyObject* const body = find(state, message, Name::body);
  if (body == nullptr && PyErr_Occurred() != nullptr) return false;
  const Ref held = Ref::borrow(body != nullptr ? body : state.empty_bytes);
  return write_body(gil, held.get(), more_body == 0);
}

bool AsgiExchange::write_body(Gil gil, PyObject* body, bool is_last) noexcept {
  if (PyBytes_CheckExact(body)) [[likely]] {
    // From there on a reference costs less than a copy.
    constexpr Py_ssize_t by_reference_min = 4096;
    const Py_ssize_t size = PyBytes_GET_SIZE(body);
    return write_bytes(gil, {PyBytes_AS_STRING(body), static_cast<size_t>(size)}, size >= by_reference_min ? body : nullptr,
                       is_last);
  }
  Py_buffer buffer;
  if (PyObject_GetBuffer(body, &buffer, PyBUF_SIMPLE) < 0) return false;
  const std::string_view bytes(static_cast<const char*>(buffer.buf), static_cast<size_t>(buffer.len));
  const bool is_written = exchange_ == nullptr || write_bytes(gil, bytes, nullptr, is_last);
  PyBuffer_Release(&buffer);
  return is_written;
}

bool AsgiExchange::write_bytes(Gil gil, std::string_view bytes, PyObject* owner, bool is_last) noexcept {
  if (!begin(gil, is_last && !has_trailers_ ? std::optional<uint64_t>(bytes.size()) : std::nullopt)) return false;
  if (!bytes.empty() && exchange_ != nullptr && !write_chunk(bytes, owner)) return false;
  return !is_last || end_body(gil);
}

bool AsgiExchange::write_chunk(std::string_view bytes, PyObject* owner) noexcept {
  Py_XINCREF(owner);
  const char* const fault = exchange_->write(bytes, owner);
  if (fault != nullptr) Py_XDECREF(owner);
  return raise_fault(fault);
}

// The head goes out now. False: the indicator is set.
bool AsgiExchange::begin(Gil, std::optional<uint64_t> body_bytes) noexcept {
  if (exchange_ == nullptr || exchange_->is_started()) return true;
  const char* const fault = exchange_->start({status_, headers_.view(), body_bytes});
  if (fault == nullptr) headers_.clear();
  return raise_fault(fault);
}

bool AsgiExchange::end_body(Gil gil) noexcept {
  if (!has_trailers_) return complete(gil);
  phase_ = Phase::trailers;
  return true;
}

// State first: on_end() is called inside.
bool AsgiExchange::complete(Gil) noexcept {
  phase_ = Phase::complete;
  return exchange_ == nullptr || raise_fault(exchange_->end(headers_.view()));
}

bool AsgiExchange::take_trailers(Gil gil, PyObject* message) noexcept {
  const WebState& state = server_.state();
  const int more_trailers = find_truth(state, message, Name::more_trailers);
  PyObject* const trailers = more_trailers >= 0 ? find(state, message, Name::headers) : nullptr;
  if (PyErr_Occurred() != nullptr) return false;
  const Ref held = Ref::borrow(trailers);
  if (trailers != nullptr && !headers_.append(gil, trailers)) return false;
  return more_trailers == 1 || complete(gil);
}

// --- files ----------------------------------------------------------------------------------------------------

bool AsgiExchange::take_path(Gil gil, PyObject* message) noexcept {
  PyObject* const path = require(server_.state(), message, Name::path);
  if (path == nullptr) return false;
  const Ref held = Ref::borrow(path);
  FilePart part;
  file_ = open_file(gil, path, &part.size);
  return file_.valid() && close_unless_sending(send_file(gil, part, true));
}

// The application closes its file when it likes, so the descriptor that is sent from is a copy.
bool AsgiExchange::take_file(Gil gil, PyObject* message) noexcept {
  const WebState& state = server_.state();
  PyObject* const object = require(state, message, Name::file);
  if (object == nullptr) return false;
  const Ref held = Ref::borrow(object);
  std::optional<uint64_t> offset;
  std::optional<uint64_t> count;
  const int more_body = find_truth(state, message, Name::more_body);
  if (more_body < 0 || !find_number(state, message, Name::offset, &offset) ||
      !find_number(state, message, Name::count, &count)) {
    return false;
  }
  const int given = PyObject_AsFileDescriptor(object);
  if (given < 0) return false;
  file_.reset(::fcntl(given, F_DUPFD_CLOEXEC, 0));
  struct stat facts;
  const off_t position = file_.valid() && !offset ? ::lseek(given, 0, SEEK_CUR) : 0;
  if (!file_.valid() || position < 0 || ::fstat(file_.get(), &facts) != 0) {
    raise_errno(gil, last_errno());
    return close_unless_sending(false);
  }
  const uint64_t from = offset.value_or(static_cast<uint64_t>(position));
  const uint64_t file_bytes = static_cast<uint64_t>(facts.st_size);
  const uint64_t left = from < file_bytes ? file_bytes - from : 0;
  const uint64_t size = count && *count < left ? *count : left;
  if (!close_unless_sending(send_file(gil, {from, size}, more_body == 0))) return false;
  if (!offset) ::lseek(given, static_cast<off_t>(from + size), SEEK_SET);  // where a read would have left it
  return true;
}

bool AsgiExchange::close_unless_sending(bool outcome) noexcept {
  if (phase_ != Phase::file) file_.reset();
  return outcome;
}

bool AsgiExchange::send_file(Gil gil, const FilePart& part, bool is_last) noexcept {
  if (!begin(gil, is_last && !has_trailers_ ? std::optional<uint64_t>(part.size) : std::nullopt)) return false;
  if (exchange_ == nullptr || part.size == 0) return !is_last || end_body(gil);
  // State first: on_end() may be called inside.
  phase_ = Phase::file;
  is_last_of_body_ = is_last;
  const char* const fault = exchange_->write_file(file_.get(), part.offset, part.size);
  if (fault != nullptr) phase_ = Phase::body;
  if (exchange_ == nullptr) return raise_fault(fault);
  if (fault == nullptr && !exchange_->is_full()) finish_file(gil);
  return raise_fault(fault);
}

void AsgiExchange::finish_file(Gil gil) noexcept {
  file_.reset();
  phase_ = Phase::body;
  if (is_last_of_body_ && !end_body(gil)) server_.report(gil, "Exception while a file was sent");
}

}  // namespace cxxloop::python
