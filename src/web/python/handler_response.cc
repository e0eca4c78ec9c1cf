// SPDX-License-Identifier: MIT
#include "web/python/handler_response.h"

#include <charconv>

#include "python/interp/error.h"
#include "web/python/asgi_message.h"
#include "web/python/handler_work.h"
#include "web/python/web_server.h"

namespace cxxloop::python {
namespace {

constexpr std::string_view bytes_type = "application/octet-stream";
constexpr std::string_view text_type = "text/plain; charset=utf-8";
constexpr std::string_view json_media_type = "application/json";

// Logs it as the App does. Runs Python: the error log.
void tell_exception(Gil gil, WebServer& server, const HandlerTable& table, PyObject* request, PyObject* exception) noexcept {
  const Ref method = Ref::borrow(table.slot(request, RequestSlot::method).get());
  const Ref path = Ref::borrow(table.slot(request, RequestSlot::path).get());
  const Ref message = Ref::steal(PyUnicode_FromFormat("Exception in the handler of %S %S", method.get(), path.get()));
  if (!message) return server.report(gil, "Exception in a handler");
  server.tell_error(gil, message.get(), exception);
}

}  // namespace

HandlerResponse::~HandlerResponse() {
  if (buffer_.obj != nullptr) PyBuffer_Release(&buffer_);
}

void HandlerResponse::take_text(int status, std::string_view text, std::string_view allow) noexcept {
  kind_ = Kind::plain;
  status_ = status;
  media_type_ = text_type;
  allow_ = allow;
  body_ = text;
}

bool HandlerResponse::take(Gil gil, const HandlerTable& table, PyObject* result) noexcept {
  const HandlerKinds& kinds = table.kinds();
  if (!kinds.response_type) {  // the collector has cleared it
    PyErr_SetString(PyExc_RuntimeError, "the server has gone");
    return false;
  }
  if (PyObject_TypeCheck(result, reinterpret_cast<PyTypeObject*>(kinds.response_type.get())) != 0) return take_response(gil, table, result);
  kind_ = Kind::plain;
  if (PyBytes_Check(result) || PyUnicode_Check(result)) {
    media_type_ = PyBytes_Check(result) ? bytes_type : text_type;
    return take_body(gil, result);
  }
  if (PyDict_Check(result) || PyList_Check(result)) return take_json(gil, table, result);
  if (result == Py_None) {
    status_ = 204;
    return true;
  }
  const Ref response_of = Ref::borrow(kinds.response_of.get());
  // Runs Python: App._response_of(), which raises.
  const Ref response = Ref::steal(PyObject_CallOneArg(response_of.get(), result));
  return response && take_response(gil, table, response.get());
}

// Of Response and JSON, and of what inherits their send(), the attributes say all; another one sends itself.
bool HandlerResponse::take_response(Gil gil, const HandlerTable& table, PyObject* response) noexcept {
  const HandlerKinds& kinds = table.kinds();
  PyObject* const type = reinterpret_cast<PyObject*>(Py_TYPE(response));
  if (type == kinds.response_type.get() || type == kinds.json_type.get()) [[likely]] {
    PyObject* const status = table.slot(response, ResponseSlot::status).get();
    PyObject* const headers = table.slot(response, ResponseSlot::headers).get();
    PyObject* const body = table.slot(response, ResponseSlot::body).get();
    if (status != nullptr && headers != nullptr && body != nullptr) {
      return take_attributes(gil, status, Ref::borrow(headers), Ref::borrow(body));
    }
  }
  // Runs Python: attributes of a program's class, here and below.
  const Ref send = Ref::steal(PyObject_GetAttrString(type, "send"));
  if (!send) return false;
  if (send.get() != kinds.response_send.get()) {
    application_ = Ref::steal(PyObject_GetAttrString(response, "send"));
    kind_ = Kind::application;
    return static_cast<bool>(application_);
  }
  const Ref status = Ref::steal(PyObject_GetAttrString(response, "status"));
  Ref headers = status ? Ref::steal(PyObject_GetAttrString(response, "headers")) : Ref();
  Ref body = headers ? Ref::steal(PyObject_GetAttrString(response, "body")) : Ref();
  return body && take_attributes(gil, status.get(), std::move(headers), std::move(body));
}

bool HandlerResponse::take_attributes(Gil gil, PyObject* status, Ref headers, Ref body) noexcept {
  const long number = PyLong_AsLong(status);
  if (number == -1 && PyErr_Occurred() != nullptr) return false;
  if (number < 200 || number > 599) {
    PyErr_Format(PyExc_RuntimeError, "Invalid HTTP status code: %ld", number);
    return false;
  }
  kind_ = Kind::plain;
  status_ = static_cast<int>(number);
  headers_ = std::move(headers);
  return has_no_body() || take_body(gil, body.get());
}

bool HandlerResponse::take_json(Gil gil, const HandlerTable& table, PyObject* value) noexcept {
  const Ref dumps = Ref::borrow(table.kinds().dumps.get());
  // Runs Python: the App's dumps.
  const Ref text = Ref::steal(PyObject_CallOneArg(dumps.get(), value));
  media_type_ = json_media_type;
  return text && take_body(gil, text.get());
}

void HandlerResponse::take_bytes(PyObject* owner, std::string_view bytes) noexcept {
  owner_ = Ref::borrow(owner);
  body_ = bytes;
}

bool HandlerResponse::take_body(Gil, PyObject* body) noexcept {
  if (PyBytes_Check(body)) {
    take_bytes(body, {PyBytes_AS_STRING(body), static_cast<size_t>(PyBytes_GET_SIZE(body))});
    return true;
  }
  if (PyUnicode_Check(body)) {
    Py_ssize_t size = 0;
    const char* const bytes = PyUnicode_AsUTF8AndSize(body, &size);
    if (bytes != nullptr) take_bytes(body, {bytes, static_cast<size_t>(size)});
    return bytes != nullptr;
  }
  if (PyObject_GetBuffer(body, &buffer_, PyBUF_SIMPLE) < 0) return false;
  body_ = {static_cast<const char*>(buffer_.buf), static_cast<size_t>(buffer_.len)};
  return true;
}

bool HandlerResponse::take_exception_of(Gil gil, WebServer& server, const HandlerWork& work) noexcept {
  const HandlerTable& table = HandlerTable::of(work.table.get());
  const HandlerKinds& kinds = table.kinds();
  if (PyErr_ExceptionMatches(PyExc_Exception) == 0 || !kinds.http_error) return false;
  const Ref exception = take_exception(gil);
  if (PyErr_GivenExceptionMatches(exception.get(), kinds.http_error.get()) != 0) {
    // Runs Python: HTTPError.response().
    const Ref response = Ref::steal(PyObject_CallMethod(exception.get(), "response", nullptr));
    return response && take(gil, table, response.get());
  }
  if (PyErr_GivenExceptionMatches(exception.get(), kinds.client_disconnected.get()) != 0) return true;
  tell_exception(gil, server, table, work.request.get(), exception.get());
  take_text(500, "Internal Server Error");
  return true;
}

// --- sending --------------------------------------------------------------------------------------------------

// In the order in which Response.send() gives them.
bool HandlerResponse::make_head(Gil gil, WebServer& server, HeaderList& head, std::string_view length) const noexcept {
  if (!head.assign(gil, server.default_headers(), headers_.get())) return false;
  if (!allow_.empty() && !head.append(gil, web::Header{"allow", allow_})) return false;
  if (has_no_body()) return true;
  if (!media_type_.empty() && !head.append(gil, web::Header{"content-type", media_type_})) return false;
  return head.append(gil, web::Header{"content-length", length});
}

bool HandlerResponse::send(Gil gil, WebServer& server, web::Exchange* const& exchange, bool is_head) noexcept {
  // From there on a reference costs less than a copy.
  constexpr size_t by_reference_min = 4096;
  char digits[20];
  const char* const digits_end = std::to_chars(digits, digits + sizeof(digits), body_.size()).ptr;
  HeaderList head;
  // Runs Python: headers that are an iterable of a program's own, which may end the exchange.
  if (!make_head(gil, server, head, {digits, static_cast<size_t>(digits_end - digits)})) return false;
  if (exchange == nullptr) return true;
  if (!raise_fault(exchange->start({status_, head.view(), {}}))) return false;
  if (!is_head && !has_no_body() && !body_.empty()) {
    PyObject* const owner = body_.size() >= by_reference_min ? owner_.get() : nullptr;
    Py_XINCREF(owner);
    const char* const fault = exchange->write(body_, owner);
    if (fault != nullptr) Py_XDECREF(owner);
    if (!raise_fault(fault)) return false;
  }
  return exchange == nullptr || raise_fault(exchange->end());
}

}  // namespace cxxloop::python
