// SPDX-License-Identifier: MIT
#include "web/python/tls_object_session.h"

#include <cstring>

#include "web/python/web_server.h"

namespace cxxloop::python {
namespace {

using web::TlsOutcome;

std::string_view view_of(PyObject* bytes) noexcept {
  return {PyBytes_AS_STRING(bytes), static_cast<size_t>(PyBytes_GET_SIZE(bytes))};
}

}  // namespace

// What fails in TLS is the client's doing and is not reported, as asyncio does; everything else is.
void ObjectTlsSession::note_failure(Gil gil) noexcept {
  if (PyErr_ExceptionMatches(PyExc_OSError) != 0) return PyErr_Clear();
  server_.report(gil, "Exception in the TLS of a web server");
}

Ref ObjectTlsSession::take_input() noexcept {
  const std::span<const std::byte> input = std::exchange(wire_.input, {});
  return Ref::steal(PyBytes_FromStringAndSize(reinterpret_cast<const char*>(input.data()), static_cast<Py_ssize_t>(input.size())));
}

ObjectTlsSession::Drained ObjectTlsSession::drain(Gil gil) noexcept {
  const std::span<std::byte> room = wire_.room();
  const Ref bytes = Ref::steal(PyObject_CallMethod(object_.get(), "take_output", "n", static_cast<Py_ssize_t>(room.size())));
  if (!bytes || !PyBytes_Check(bytes.get()) || view_of(bytes.get()).size() > room.size()) {
    if (!bytes) note_failure(gil);
    return Drained::failed;
  }
  const std::string_view output = view_of(bytes.get());
  if (!output.empty()) std::memcpy(room.data(), output.data(), output.size());
  wire_.output_used += output.size();
  return output.size() == room.size() ? Drained::full : Drained::all;
}

// Runs Python in each of these: a function of the context, which may close the server.

TlsOutcome ObjectTlsSession::handshake() noexcept {
  const Gil gil = Gil::in_slot();
  const Ref pin = Ref::borrow(server_.object());
  if (handshake_ == TlsOutcome::wait) {
    const Ref input = take_input();
    const Ref is_done = input ? Ref::steal(PyObject_CallMethod(object_.get(), "handshake", "O", input.get())) : Ref();
    if (!is_done) note_failure(gil);
    if (!is_done) handshake_ = TlsOutcome::failed;
    if (is_done && is_done.get() == Py_True) handshake_ = TlsOutcome::done;
  }
  switch (drain(gil)) {
    case Drained::all: break;
    case Drained::full: return TlsOutcome::full;
    case Drained::failed: handshake_ = TlsOutcome::failed; break;
  }
  return handshake_;
}

web::TlsRead ObjectTlsSession::read(std::span<char> into) noexcept {
  const Gil gil = Gil::in_slot();
  const Ref pin = Ref::borrow(server_.object());
  const Ref input = take_input();
  const Ref result = input ? Ref::steal(PyObject_CallMethod(object_.get(), "read", "On", input.get(), static_cast<Py_ssize_t>(into.size())))
                           : Ref();
  if (!result) note_failure(gil);
  const bool is_drained = drain(gil) == Drained::all;
  PyObject* bytes = nullptr;
  int is_closed = 0;
  if (!result || !is_drained) return {TlsOutcome::failed};
  if (PyArg_ParseTuple(result.get(), "Sp", &bytes, &is_closed) == 0 || view_of(bytes).size() > into.size()) {
    PyErr_Clear();
    return {TlsOutcome::failed};
  }
  const std::string_view plain = view_of(bytes);
  if (!plain.empty()) std::memcpy(into.data(), plain.data(), plain.size());
  if (is_closed != 0) return {TlsOutcome::closed, plain.size()};
  return {plain.size() == into.size() ? TlsOutcome::done : TlsOutcome::wait, plain.size()};
}

bool ObjectTlsSession::write(std::string_view bytes) noexcept {
  const Gil gil = Gil::in_slot();
  const Ref pin = Ref::borrow(server_.object());
  const Ref written = Ref::steal(
      PyObject_CallMethod(object_.get(), "write", "y#", bytes.data(), static_cast<Py_ssize_t>(bytes.size())));
  if (!written) note_failure(gil);
  return written && drain(gil) == Drained::all;
}

void ObjectTlsSession::close() noexcept {
  const Gil gil = Gil::in_slot();
  const Ref pin = Ref::borrow(server_.object());
  if (!Ref::steal(PyObject_CallMethod(object_.get(), "close", nullptr))) note_failure(gil);
  (void)drain(gil);
}

void ObjectTlsSession::describe(web::TlsReport& report) noexcept {
  const Gil gil = Gil::in_slot();
  const Ref result = Ref::steal(PyObject_CallMethod(object_.get(), "describe", nullptr));
  unsigned version = 0;
  unsigned cipher_suite = 0;
  PyObject* certificates = nullptr;
  const char* name = nullptr;
  Py_ssize_t name_bytes = 0;
  const bool is_known = result && PyArg_ParseTuple(result.get(), "IIO!z#", &version, &cipher_suite, &PyList_Type, &certificates,
                                                   &name, &name_bytes) != 0;
  if (!is_known) return note_failure(gil);
  report.on_version(version, cipher_suite);
  for (Py_ssize_t i = 0; i < PyList_GET_SIZE(certificates); ++i) {
    PyObject* const der = PyList_GET_ITEM(certificates, i);
    if (PyBytes_Check(der)) report.on_client_certificate(view_of(der));
  }
  if (name != nullptr) report.on_client_name({name, static_cast<size_t>(name_bytes)});
}

}  // namespace cxxloop::python
