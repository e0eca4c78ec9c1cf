// SPDX-License-Identifier: MIT
//
// python/tls/write.cc: from write() to ciphertext on the transport below.
#include <algorithm>

#include "python/transport/stream/stream_transport.h"
#include "python/tls/tls_protocol.h"

namespace cxxloop::python {

// `data` is a bytes-like object that is not empty.
bool TlsProtocol::write(Gil gil, PyObject* data) noexcept {
  const Ref pin = Ref::borrow(self_object());
  if (is_in(state_.imports.ssl_states.wrapped) && parts_are_known()) return write_now(gil, data) || contain_failure(gil);
  const Ref list = Ref::steal(PyTuple_Pack(1, data));
  return list && call_base(gil, state_.names._write_appdata, list.get());
}

bool TlsProtocol::write_lines(Gil gil, PyObject* list_of_data) noexcept {
  const Ref pin = Ref::borrow(self_object());
  if (!is_in(state_.imports.ssl_states.wrapped) || !parts_are_known()) {
    return call_base(gil, state_.names._write_appdata, list_of_data);
  }
  const Ref iterator = Ref::steal(PyObject_GetIter(list_of_data));
  if (!iterator) return false;
  while (const Ref data = Ref::steal(PyIter_Next(iterator.get()))) {
    if (!append_to_backlog(gil, data.get())) return false;
  }
  if (PyErr_Occurred() != nullptr) return false;
  // The iterator may be the program's own, and may close the connection or replace its parts.
  return !is_in(state_.imports.ssl_states.wrapped) || write_backlog(gil) || contain_failure(gil);
}

bool TlsProtocol::write_backlog(Gil gil) noexcept {
  if (!parts_are_known()) return call_base(gil, state_.names._do_write, nullptr);
  const Ref pin = Ref::borrow(self_object());
  return empty_backlog(gil);
}

bool TlsProtocol::send_outgoing(Gil gil) noexcept {
  if (!parts_are_known()) return call_base(gil, state_.names._process_outgoing, nullptr);
  const Ref pin = Ref::borrow(self_object());
  Ref parts;
  return send_parts(gil, &parts);
}

// --- encrypting -----------------------------------------------------------------------------------------------

bool TlsProtocol::append_to_backlog(Gil gil, PyObject* data) noexcept {
  if (!check_there(gil, backlog)) return false;
  if (!Ref::steal(PyObject_CallMethodOneArg(backlog.get(), state_.names.append, data))) return false;
  const Py_ssize_t size = PyObject_Size(data);
  if (size < 0) return false;
  backlog_size += size;
  return true;
}

// Skips the backlog when it is empty.
bool TlsProtocol::write_now(Gil gil, PyObject* data) noexcept {
  const Py_ssize_t waiting = PyObject_Size(backlog.get());
  if (waiting < 0) return false;
  if (waiting > 0) return append_to_backlog(gil, data) && empty_backlog(gil);
  Ref parts;
  Py_ssize_t written = 0;
  const Py_ssize_t outcome = encrypt(gil, data, &parts, &written);
  if (outcome == failed) return false;
  if (outcome == again) {
    const Ref rest = written > 0 ? Ref::steal(PySequence_GetSlice(data, written, PY_SSIZE_T_MAX)) : Ref::borrow(data);
    if (!rest || !append_to_backlog(gil, rest.get())) return false;
  }
  return send_parts(gil, &parts);
}

bool TlsProtocol::empty_backlog(Gil gil) noexcept {
  const Ref queue = Ref::borrow(backlog.get());
  Ref parts;
  for (;;) {
    const Py_ssize_t waiting = PyObject_Size(queue.get());
    if (waiting < 0) return false;
    if (waiting == 0) break;
    const Ref data = Ref::steal(PySequence_GetItem(queue.get(), 0));
    const Py_ssize_t size = data ? PyObject_Size(data.get()) : -1;
    Py_ssize_t written = 0;
    const Py_ssize_t outcome = size >= 0 ? encrypt(gil, data.get(), &parts, &written) : failed;
    if (outcome == failed) return false;
    if (outcome == again) {
      const Ref rest = Ref::steal(PySequence_GetSlice(data.get(), written, size));
      if (!rest || PySequence_SetItem(queue.get(), 0, rest.get()) < 0) return false;
      backlog_size -= written;
      break;
    }
    if (PySequence_DelItem(queue.get(), 0) < 0) return false;
    backlog_size -= size;
  }
  return send_parts(gil, &parts);
}

// One SSLSocket.write(). The bytes written, which are all, or again, or failed.
Py_ssize_t TlsProtocol::encrypt_piece(Gil gil, PyObject* piece) noexcept {
  if (!check_there(gil, raw_sslobj)) return failed;
  const Ref socket = Ref::borrow(raw_sslobj.get());
  PyObject* const args[] = {socket.get(), piece};
  const Ref count = Ref::steal(PyObject_VectorcallMethod(state_.names.write, args, 2, nullptr));
  return outcome_of(gil, count, PY_SSIZE_T_MAX);
}

// Encrypts `data`, a long one piece by piece, so that the BIO stays small. *written: how much went in before `again`.
Py_ssize_t TlsProtocol::encrypt(Gil gil, PyObject* data, Ref* parts, Py_ssize_t* written) noexcept {
  constexpr Py_ssize_t piece_bytes = bio_bytes_max;
  if (PyBytes_CheckExact(data) && PyBytes_GET_SIZE(data) <= piece_bytes) return encrypt_piece(gil, data);
  Py_buffer view;
  if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0) return failed;
  Py_ssize_t outcome = 0;
  do {
    const Py_ssize_t size = std::min(view.len - *written, piece_bytes);
    // SSLSocket.write() forgets the view when it returns.
    const Ref piece = Ref::steal(
        PyMemoryView_FromMemory(static_cast<char*>(view.buf) + *written, size, PyBUF_READ));
    outcome = piece ? encrypt_piece(gil, piece.get()) : failed;
    if (outcome < 0) break;
    *written += size;
    if (*written < view.len && ssl_writing_paused == 0 && !collect(gil, parts)) outcome = failed;
  } while (outcome >= 0 && *written < view.len);
  PyBuffer_Release(&view);
  return outcome;
}

// --- down -----------------------------------------------------------------------------------------------------

bool TlsProtocol::collect(Gil gil, Ref* parts) noexcept {
  if (!check_there(gil, outgoing)) return false;
  const Ref ciphertext = Ref::steal(PyObject_CallMethodNoArgs(outgoing.get(), state_.names.read));
  if (!ciphertext) return false;
  if (!*parts) *parts = Ref::steal(PyList_New(0));
  return *parts && PyList_Append(parts->get(), ciphertext.get()) == 0;
}

// Hands down `parts` and what is in the BIO, as one write.
bool TlsProtocol::send_parts(Gil gil, Ref* parts) noexcept {
  if (!check_there(gil, transport) || !check_there(gil, outgoing)) return false;
  const Ref below = Ref::borrow(transport.get());
  const bool is_stream = Py_TYPE(below.get()) == state_.stream_transport_type;
  Ref data;
  if (ssl_writing_paused == 0) {
    if (*parts && !collect(gil, parts)) return false;
    if (!*parts) data = Ref::steal(PyObject_CallMethodNoArgs(outgoing.get(), state_.names.read));
    if (!*parts && !data) return false;
  }
  if (*parts && is_stream) {
    if (!reinterpret_cast<StreamTransportObject*>(below.get())->native().write_lines(gil, parts->get())) return false;
  } else if (*parts) {
    const Ref empty = Ref::steal(PyBytes_FromStringAndSize(nullptr, 0));
    if (empty) data = Ref::steal(PyObject_CallMethodOneArg(empty.get(), state_.names.join, parts->get()));
    if (!empty || !data) return false;
  }
  if (data && PyBytes_GET_SIZE(data.get()) > 0) {
    const bool written = is_stream
        ? reinterpret_cast<StreamTransportObject*>(below.get())->native().write(gil, data.get())
        : static_cast<bool>(Ref::steal(PyObject_CallMethodOneArg(below.get(), state_.names.write, data.get())));
    if (!written) return false;
  }
  return control_app_writing(gil);
}

}  // namespace cxxloop::python
