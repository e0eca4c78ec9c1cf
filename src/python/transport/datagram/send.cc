// SPDX-License-Identifier: MIT
//
// python/transport/datagram/send.cc: sendto(), the queue behind it, flow control.
//
// An address is "foreign" if it needs a look-up or is invalid: the socket object sends to it or raises the exact error.
#include "python/transport/datagram/datagram_transport.h"

#include "python/interp/bytes_like.h"
#include "python/interp/error.h"
#include "python/interp/sockaddr.h"

namespace cxxloop::python {
namespace {

constexpr Errno indicator_set = Errno::invalid;  // of send_foreign(): the reason is in foreign_error_

constexpr const char* send_failure = "Exception in callback DatagramTransport._sendto_ready()";

std::span<const std::byte> span_of(PyObject* bytes) noexcept {
  return {reinterpret_cast<const std::byte*>(PyBytes_AS_STRING(bytes)), static_cast<size_t>(PyBytes_GET_SIZE(bytes))};
}

}  // namespace

// A transport with an address sends there and nowhere else.
bool DatagramTransport::check_target(Gil, PyObject** target) noexcept {
  const int has_address = address.get() == Py_None ? 0 : PyObject_IsTrue(address.get());
  if (has_address <= 0) return has_address == 0;
  if (*target != Py_None) {
    const int same = PyObject_RichCompareBool(*target, address.get(), Py_EQ);
    if (same < 0) return false;
    if (same == 0) {
      PyErr_Format(PyExc_ValueError, "Invalid address: must be None or %S", address.get());
      return false;
    }
  }
  *target = address.get();
  return true;
}

bool DatagramTransport::send_to(Gil gil, PyObject* data, PyObject* target) noexcept {
  if (!is_bytes_like(data)) return raise_not_bytes_like(gil, data, "data argument must be a bytes-like object, not %R");
#if PY_VERSION_HEX < 0x030D0000
  const Py_ssize_t length = PyObject_Size(data);
  if (length <= 0) return length == 0;  // these versions send no empty datagrams
#endif
  if (!check_target(gil, &target)) return false;
  const bool lost = is_lost() && target == address.get() && target != Py_None;
  if (lost || !sock || is_lingering()) return note_lost_write(gil);
  if (!is_attached()) return send_after_loop_closed(gil, data, target);
  if (datagram_.is_drained()) {
    const Errno error = send_now(gil, data, target);
    if (error == Errno::ok) return true;
    if (error != Errno::again) return tell_send_error(gil, error);
  }
  return queue(gil, data, target) && flow_.maybe_pause(gil, parties(), write_buffer_size());
}

// After loop.close() asyncio still sends, and raises only if the send would have to wait.
bool DatagramTransport::send_after_loop_closed(Gil gil, PyObject* data, PyObject* target) noexcept {
  if (queue_lost_) return true;
  const Errno error = send_foreign(gil, data, target);
  if (error == Errno::ok) return true;
  return error == Errno::again ? check_closed(gil, core_of(loop.get())) : tell_send_error(gil, error);
}

DatagramTransport::Target DatagramTransport::resolve(Gil gil, PyObject* target, const io::Address** resolved,
                                                     io::Address* storage) noexcept {
  *resolved = nullptr;
  if (connected_) return Target::peer;
  const io::Address* const known = core_->addresses.find(target);
  if (known != nullptr && known->storage.ss_family == family_) {
    *resolved = known;
    return Target::address;
  }
  if (!object_to_sockaddr(gil, family_, target, storage)) return Target::foreign;
  *resolved = storage;
  return Target::address;
}

// ok, again, or an error; what Python code raised is in foreign_error_.
Errno DatagramTransport::send_now(Gil gil, PyObject* data, PyObject* target) noexcept {
  if (PyBytes_CheckExact(data)) return send_bytes(gil, span_of(data), data, target);
  Py_buffer view;
  // Runs Python: __buffer__() of a subclass may send, close us or close the loop.
  if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0) {
    foreign_error_ = take_exception(gil);
    return indicator_set;
  }
  Errno error = Errno::again;
  if (datagram_.is_drained() && is_attached()) {
    error = send_bytes(gil, {static_cast<const std::byte*>(view.buf), static_cast<size_t>(view.len)}, data, target);
  }
  PyBuffer_Release(&view);
  return error;
}

// `bytes` are those of `data`.
Errno DatagramTransport::send_bytes(Gil gil, std::span<const std::byte> bytes, PyObject* data,
                                    PyObject* target) noexcept {
  io::Address storage;
  const io::Address* resolved = nullptr;
  if (resolve(gil, target, &resolved, &storage) == Target::foreign) return send_foreign(gil, data, target);
  core_->engine.expect_io();
  return datagram_.send(bytes, resolved);
}

// Calls socket.sendto(), which looks up host names (and blocks) and raises the exact error for an invalid address.
Errno DatagramTransport::send_foreign(Gil gil, PyObject* data, PyObject* target) noexcept {
  const Ref pin = Ref::borrow(sock.get());
  PyObject* const args[] = {pin.get(), data, target};
  PyObject* const method = connected_ ? state_.names.send : state_.names.sendto;
  // Runs Python: codecs for host names.
  if (Ref::steal(PyObject_VectorcallMethod(method, args, connected_ ? 2 : 3, nullptr))) return Errno::ok;
  if (PyErr_ExceptionMatches(PyExc_BlockingIOError) != 0 || PyErr_ExceptionMatches(PyExc_InterruptedError) != 0) {
    PyErr_Clear();
    return Errno::again;
  }
  foreign_error_ = take_exception(gil);
  return indicator_set;
}

// Copy anything but bytes: a queued datagram must not change.
bool DatagramTransport::queue(Gil gil, PyObject* data, PyObject* target) noexcept {
  // Runs Python: as in send_now().
  const Ref bytes = PyBytes_CheckExact(data) ? Ref::borrow(data) : Ref::steal(PyBytes_FromObject(data));
  if (!bytes) return false;
  if (!is_attached()) return check_closed(gil, core_of(loop.get()));
  io::Address storage;
  const io::Address* resolved = nullptr;
  const Target kind = resolve(gil, target, &resolved, &storage);
  Ref owner = kind == Target::foreign ? Ref::steal(PyTuple_Pack(2, bytes.get(), target)) : Ref::borrow(bytes.get());
  if (!owner) return false;
  if (!datagram_.is_send_waiting()) {
    write_context_ = Ref::steal(PyContext_CopyCurrent());
    if (!write_context_) return false;
  }
  net::Datagram datagram{span_of(bytes.get()), owner.get(), kind, {}};
  if (resolved != nullptr) datagram.address = *resolved;
  if (const Errno error = datagram_.append(datagram); error != Errno::ok) {
    raise_errno(gil, error);
    return false;
  }
  (void)owner.release();
  return true;
}

// An OSError goes to error_received(); any other exception closes the transport.
bool DatagramTransport::tell_send_error(Gil gil, Errno error) noexcept {
  Ref exception = foreign_error_.take();
  if (!exception) exception = make_os_error(gil, error);
  if (PyErr_GivenExceptionMatches(exception.get(), PyExc_OSError) != 0) return tell_error(gil, std::move(exception));
  const Ref message = Ref::steal(PyUnicode_FromString("Fatal write error on datagram transport"));
  return fatal_error(gil, exception.get(), message.get());
}

// --- the queue ------------------------------------------------------------------------------------------------

void DatagramTransport::on_writable() noexcept {
  const Ref pin = Ref::borrow(self_object());
  datagram_.flush();
}

Errno DatagramTransport::on_send_foreign(void* owner) noexcept {
  const Ref pin = Ref::borrow(static_cast<PyObject*>(owner));
  return send_foreign(Gil::in_slot(), PyTuple_GET_ITEM(pin.get(), 0), PyTuple_GET_ITEM(pin.get(), 1));
}

void DatagramTransport::on_send_error(Errno error) noexcept {
  const Gil gil = Gil::in_slot();
  if (!is_lost()) {
    const ContextScope scope(gil, write_context_.get());
    const bool told = scope.entered() && tell_send_error(gil, error);
    if (!told) report(gil, send_failure);
    // If the socket cannot be polled, no later event would end a closing transport: end it now.
    if (!datagram_.is_send_waiting() && !lose_connection_if_drained(gil)) report(gil, send_failure);
  }
}

void DatagramTransport::on_sent() noexcept {
  const Gil gil = Gil::in_slot();
  if (!is_lost()) {
    const ContextScope scope(gil, write_context_.get());
    // Runs Python: resume_writing() may send more, close or abort.
    const bool resumed = scope.entered() && flow_.maybe_resume(gil, parties(), write_buffer_size());
    // Even if resume_writing() raised KeyboardInterrupt, finish what follows a drained queue (shutdown or connection_lost):
    // no later event would trigger it.
    if (!resumed) report(gil, send_failure);
    if (!lose_connection_if_drained(gil)) report(gil, send_failure);
  }
}

bool DatagramTransport::lose_connection_if_drained(Gil gil) noexcept {
  if (life_ != Life::draining || !datagram_.is_drained()) return true;
  return call_connection_lost(gil, Py_None);
}

}  // namespace cxxloop::python
