// SPDX-License-Identifier: MIT
//
// python/tls/read.cc: from ciphertext to data_received() or buffer_updated().
#include <algorithm>

#include "python/interp/error.h"
#include "python/tls/tls_protocol.h"

namespace cxxloop::python {
namespace {

// True if a header, as far as it has arrived, begins a record of application data. For most other records OpenSSL fails on
// the header alone, so those are passed to OpenSSL at once.
bool is_data_header(std::span<const uint8_t> header) noexcept {
  constexpr uint8_t type_application_data = 23, version_major = 3, version_minor = 3;
  constexpr size_t body_bytes_max = 16 * 1024 + 256;
  if (header.size() >= 1 && header[0] != type_application_data) return false;
  if (header.size() >= 3 && (header[1] != version_major || header[2] != version_minor)) return false;
  return header.size() < 5 || static_cast<size_t>(header[3] << 8 | header[4]) <= body_bytes_max;
}

// True if a header begins a client's first record, which OpenSSL handles only when it is complete.
bool is_hello_header(std::span<const uint8_t> header) noexcept {
  constexpr uint8_t type_handshake = 22, version_major = 3;
  constexpr size_t body_bytes_max = 16 * 1024;
  return header[0] == type_handshake && header[1] == version_major &&
         static_cast<size_t>(header[3] << 8 | header[4]) <= body_bytes_max;
}

}  // namespace

bool TlsProtocol::on_data(Gil gil, std::span<const std::byte> data) noexcept {
  const Ref pin = Ref::borrow(self_object());
  const auto& states = state_.imports.ssl_states;
  if (is_in(states.wrapped) && app_reading_paused == 0 && parts_are_known()) return read_fed(gil, data);
  if (!feed(gil, data)) return false;
  if (is_in(states.do_handshake)) return call_own(gil, state_.names._do_handshake);
  if (is_in(states.wrapped)) return read(gil);
  if (is_in(states.flushing)) return call_own(gil, state_.names._do_flush);
  if (is_in(states.shutdown)) return call_own(gil, state_.names._do_shutdown);
  return true;
}

// --- into the BIO ---------------------------------------------------------------------------------------------

bool TlsProtocol::feed(Gil gil, std::span<const std::byte> data) noexcept {
  if (!check_there(gil, incoming)) return false;
  const Ref bio = Ref::borrow(incoming.get());
  char* const bytes = const_cast<char*>(reinterpret_cast<const char*>(data.data()));
  const Py_ssize_t size = static_cast<Py_ssize_t>(data.size());
  // A MemoryBIO copies the bytes and drops the view; an object of another type might keep the view.
  const bool copies = Py_TYPE(bio.get()) == state_.imports.ssl_memory_bio;
  const Ref chunk = Ref::steal(copies ? PyMemoryView_FromMemory(bytes, size, PyBUF_READ)
                                      : PyBytes_FromStringAndSize(bytes, size));
  if (!chunk) return false;
  PyObject* const args[] = {bio.get(), chunk.get()};
  if (!Ref::steal(PyObject_VectorcallMethod(state_.names.write, args, 2, nullptr))) return false;
  if (counts_records_) count_records(data);
  if (awaits_hello_) count_hello(data);
  return true;
}

bool TlsProtocol::feed_piece(Gil gil, std::span<const std::byte>* input) noexcept {
  const std::span<const std::byte> piece = input->first(std::min(input->size(), bio_bytes_max));
  *input = input->subspan(piece.size());
  return feed(gil, piece);
}

void TlsProtocol::count_records(std::span<const std::byte> data) noexcept {
  while (!data.empty()) {
    if (header_seen_ < header_.size()) {
      header_[header_seen_++] = static_cast<uint8_t>(data.front());
      data = data.subspan(1);
      if (!is_data_header(std::span(header_).first(header_seen_))) return stop_counting_records();
      if (header_seen_ < header_.size()) continue;
      body_missing_ = static_cast<size_t>(header_[3] << 8 | header_[4]);
    }
    const size_t taken = std::min(body_missing_, data.size());
    data = data.subspan(taken);
    body_missing_ -= taken;
    if (body_missing_ > 0) return;
    ++records_ready_;
    header_seen_ = 0;
  }
}

// --- the handshake --------------------------------------------------------------------------------------------

// The first call of do_handshake() allocates 40 KiB in OpenSSL, and each call without the client's whole first record
// raises an exception. A server has nothing to send before that record, so wait for it: a client that sends nothing, or
// half a hello, then costs little.
bool TlsProtocol::do_handshake(Gil gil) noexcept {
  const Ref pin = Ref::borrow(self_object());
  if (awaits_hello_) {
    const int missing = is_hello_missing(gil);
    if (missing != 0) return missing > 0;
    awaits_hello_ = false;
  }
  return call_base(gil, state_.names._do_handshake, nullptr);
}

// 1: OpenSSL would raise SSLWantReadError. 0: it may have something to do, or to say. -1: the indicator is set.
int TlsProtocol::is_hello_missing(Gil gil) noexcept {
  if (!parts_are_known()) return 0;
  const Ref server_side = Ref::steal(PyObject_GetAttr(self_object(), state_.names._server_side));
  if (server_side.get() != Py_True) return server_side ? 0 : -1;
  // start_tls() may have put what came before into the BIO.
  const Py_ssize_t pending = header_seen_ == 0 ? pending_in(gil, incoming) : 0;
  return pending < 0 ? -1 : pending == 0 ? 1 : 0;
}

void TlsProtocol::count_hello(std::span<const std::byte> data) noexcept {
  while (!data.empty() && header_seen_ < header_.size()) {
    header_[header_seen_++] = static_cast<uint8_t>(data.front());
    data = data.subspan(1);
    if (header_seen_ == header_.size()) body_missing_ = static_cast<size_t>(header_[3] << 8 | header_[4]);
  }
  if (header_seen_ < header_.size()) return;
  awaits_hello_ = is_hello_header(header_) && data.size() < body_missing_;
  body_missing_ -= std::min(body_missing_, data.size());
}

// --- out of OpenSSL -------------------------------------------------------------------------------------------

bool TlsProtocol::read(Gil gil) noexcept {
  if (!parts_are_known()) return call_base(gil, state_.names._do_read, nullptr);
  return read_fed(gil, {});
}

bool TlsProtocol::read_fed(Gil gil, std::span<const std::byte> input) noexcept {
  if (!is_in(state_.imports.ssl_states.wrapped) && !is_in(state_.imports.ssl_states.flushing)) return true;
  const Ref pin = Ref::borrow(self_object());
  return read_and_answer(gil, input) || contain_failure(gil);
}

bool TlsProtocol::read_and_answer(Gil gil, std::span<const std::byte> input) noexcept {
  if (app_reading_paused == 0) {
    if (app_protocol_is_buffer != 0) {
      if (!read_to_buffer(gil, input)) return false;
    } else if (!read_to_bytes(gil, input)) {
      return false;
    }
    const Py_ssize_t waiting = PyObject_Size(backlog.get());
    if (waiting < 0 || !(waiting > 0 ? write_backlog(gil) : send_outgoing(gil))) return false;
  }
  // The callbacks may have ended in connection_lost().
  return parts_are_known() ? control_ssl_reading(gil) : call_base(gil, state_.names._control_ssl_reading, nullptr);
}

// 1: OpenSSL may have something for us. 0: it would raise SSLWantReadError. -1: the indicator is set.
int TlsProtocol::may_read(Gil gil) noexcept {
  if (record_left_ || is_broken_) return 1;
  if (counts_records_) return records_ready_ > 0 ? 1 : 0;
  const Py_ssize_t pending = pending_in(gil, incoming);
  return pending < 0 ? -1 : pending > 0 ? 1 : 0;
}

// One record, or as much of it as `target` has room for.
Py_ssize_t TlsProtocol::read_record(Gil gil, PyObject* target, Py_ssize_t room) noexcept {
  const Ref size = Ref::steal(PyLong_FromSsize_t(room));
  if (!size) return failed;
  if (!check_there(gil, raw_sslobj)) return failed;
  const Ref socket = Ref::borrow(raw_sslobj.get());
  PyObject* const args[] = {socket.get(), size.get(), target};
  const Ref count = Ref::steal(PyObject_VectorcallMethod(state_.names.read, args, 3, nullptr));
  const Py_ssize_t got = outcome_of(gil, count, room);
  record_left_ = got == room;
  if (got == again) records_ready_ = 0;
  if (got <= 0 || record_left_) return got;
  if (counts_records_) {
    if (records_ready_ > 0) --records_ready_;
    return got;
  }
  const int more = may_read(gil);
  if (more < 0) return failed;
  if (more == 0) {  // OpenSSL stops reading at the end of a record: the next record begins here
    header_seen_ = 0;
    body_missing_ = 0;
    records_ready_ = 0;
    counts_records_ = true;
  }
  return got;
}

// The loop's buffer for plaintext, from where it is copied out at its exact size.
Ref TlsProtocol::scratch(Gil) noexcept {
  Ref& buffer = core_of(loop.get()).tls_scratch;
  if (!buffer) buffer = Ref::steal(PyByteArray_FromStringAndSize(nullptr, scratch_bytes));
  return Ref::borrow(buffer.get());
}

// Read until OpenSSL has no more or `buffer`, a writable object of `size` bytes, is full. Returns the bytes in it.
Py_ssize_t TlsProtocol::fill_buffer(Gil gil, PyObject* buffer, Py_ssize_t filled, Py_ssize_t size,
                                    bool* at_eof) noexcept {
  Ref view;  // of all of `buffer`, made for the second record
  while (filled < size) {
    const int more = may_read(gil);
    if (more < 0) return failed;
    if (more == 0) break;
    Ref rest;
    if (filled > 0) {
      if (!view) view = Ref::steal(PyMemoryView_FromObject(buffer));
      if (view) rest = Ref::steal(PySequence_GetSlice(view.get(), filled, size));
      if (!rest) return failed;
    }
    const Py_ssize_t got = read_record(gil, rest ? rest.get() : buffer, size - filled);
    if (got == failed) return failed;
    *at_eof = got == 0;
    if (got <= 0) break;
    filled += got;
  }
  return filled;
}

// The same, feeding `input` piece by piece; what does not fit stays in it.
Py_ssize_t TlsProtocol::decrypt(Gil gil, std::span<const std::byte>* input, PyObject* buffer, Py_ssize_t size,
                                bool* at_eof) noexcept {
  Py_ssize_t filled = 0;
  do {
    if (!input->empty() && !feed_piece(gil, input)) return failed;
    filled = fill_buffer(gil, buffer, filled, size, at_eof);
  } while (filled != failed && filled < size && !*at_eof && !input->empty());
  return filled;
}

bool TlsProtocol::read_to_bytes(Gil gil, std::span<const std::byte> input) noexcept {
  const Ref buffer = scratch(gil);
  if (!buffer) return false;
  Ref data;
  bool at_eof = false;
  Py_ssize_t filled = 0;
  do {
    filled = decrypt(gil, &input, buffer.get(), scratch_bytes, &at_eof);
    if (filled == failed) return false;
    if (filled == 0) break;
    Ref piece = Ref::steal(PyBytes_FromStringAndSize(PyByteArray_AS_STRING(buffer.get()), filled));
    if (!piece) return false;
    if (!data) {
      data = std::move(piece);
      continue;
    }
    PyObject* joined = data.release();
    PyBytes_Concat(&joined, piece.get());
    data = Ref::steal(joined);
    if (!data) return false;
  } while (filled == scratch_bytes);
  if (data) {
    if (!check_there(gil, app_protocol)) return false;
    const Ref receiver = Ref::borrow(app_protocol.get());
    // Runs Python: the protocol may write, pause, close or abort, replace itself, or raise.
    if (!Ref::steal(PyObject_CallMethodOneArg(receiver.get(), state_.names.data_received, data.get()))) return false;
  }
  return !at_eof || end_reading(gil);
}

// The indicator is set, perhaps to an exit. asyncio has put all that came into the BIO by now, and the next read delivers it.
bool TlsProtocol::fail_with_input(Gil gil, std::span<const std::byte> input) noexcept {
  Ref exception = take_exception(gil);
  if (input.empty() || feed(gil, input)) set_exception(gil, std::move(exception));
  return false;
}

bool TlsProtocol::read_to_buffer(Gil gil, std::span<const std::byte> input) noexcept {
  PyObject* const self = self_object();
  const Py_ssize_t pending = pending_in(gil, incoming);
  if (pending < 0) return false;
  const Ref hint = Ref::steal(PyLong_FromSsize_t(pending + static_cast<Py_ssize_t>(input.size())));
  const Ref get_buffer = Ref::steal(PyObject_GetAttr(self, state_.names._app_protocol_get_buffer));
  if (!hint || !get_buffer) return false;
  // Runs Python, as in read_to_bytes(); the buffer is asked for even if there is nothing to put into it.
  const Ref buffer = Ref::steal(PyObject_CallOneArg(get_buffer.get(), hint.get()));
  const Py_ssize_t size = buffer ? PyObject_Size(buffer.get()) : -1;
  if (size < 0) return fail_with_input(gil, input);
  if (!parts_are_known()) return (input.empty() || feed(gil, input)) && call_base(gil, state_.names._do_read, nullptr);
  bool at_eof = size == 0;  // asyncio takes a read of nothing for the end
  const Py_ssize_t filled = size > 0 ? decrypt(gil, &input, buffer.get(), size, &at_eof) : 0;
  if (filled == failed || (!input.empty() && !feed(gil, input))) return false;
  if (filled > 0 && filled == size) {
    const Ref read_on = Ref::steal(PyObject_GetAttr(self, state_.names._do_read));
    if (!read_on || !schedule(gil, core_of(loop.get()), read_on.get(), nullptr, 0, nullptr)) return false;
  }
  if (filled > 0) {
    const Ref count = Ref::steal(PyLong_FromSsize_t(filled));
    const Ref updated = Ref::steal(PyObject_GetAttr(self, state_.names._app_protocol_buffer_updated));
    if (!count || !updated || !Ref::steal(PyObject_CallOneArg(updated.get(), count.get()))) return false;
  }
  return !at_eof || end_reading(gil);
}

// The peer has sent close_notify.
bool TlsProtocol::end_reading(Gil gil) noexcept {
  return call_own(gil, state_.names._call_eof_received) && call_own(gil, state_.names._start_shutdown);
}

}  // namespace cxxloop::python
