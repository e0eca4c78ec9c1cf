// SPDX-License-Identifier: MIT
//
// python/datagram_transport_send.cc: sendto(), the queue behind it, flow control.
//
// An address that needs a look-up, or that is none, is "foreign": the socket object sends to it or says what is wrong.
#include "python/datagram_transport.h"
#include "python/error.h"
#include "python/sockaddr.h"

namespace cxxloop::python {
namespace {

bool is_bytes_like(PyObject* data) noexcept {
  return PyBytes_Check(data) || PyByteArray_Check(data) || PyMemoryView_Check(data);
}

bool raise_not_bytes_like(PyObject* data) noexcept {
  const Ref name = Ref::steal(PyObject_GetAttrString(reinterpret_cast<PyObject*>(Py_TYPE(data)), "__name__"));
  if (name) PyErr_Format(PyExc_TypeError, "data argument must be a bytes-like object, not %R", name.get());
  return false;
}

constexpr Errno indicator_set = Errno::invalid;  // of send_foreign(): the reason is in foreign_error_

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
  if (!is_bytes_like(data)) return raise_not_bytes_like(data);
#if PY_VERSION_HEX < 0x030D0000
  const Py_ssize_t length = PyObject_Size(data);
  if (length <= 0) return length == 0;  // these versions send no empty datagrams
#endif
  if (!check_target(gil, &target)) return false;
  const bool lost = conn_lost > 0 && target == address.get() && target != Py_None;
  if (lost || !sock || !is_open()) return note_lost_datagram(gil);
  io::Address storage;
  const io::Address* resolved = nullptr;
  const Target kind = resolve(gil, target, &resolved, &storage);
  if (datagram_.is_queue_empty()) {
    expect_io(*core_);
    const Errno error = send_now(gil, data, target, kind, resolved);
    if (error == Errno::ok) return true;
    if (error != Errno::again) return tell_send_error(gil, error);
  }
  return queue(gil, data, target, kind, resolved) &&
         flow_.maybe_pause(gil, parties(), write_buffer_size());
}

DatagramTransport::Target DatagramTransport::resolve(Gil gil, PyObject* target, const io::Address** resolved,
                                                     io::Address* storage) noexcept {
  if (connected_) return Target::peer;
  *resolved = core_->addresses.find(target);
  if (*resolved != nullptr && (*resolved)->storage.ss_family == family_) return Target::address;
  *resolved = storage;
  return object_to_sockaddr(gil, family_, target, storage) ? Target::address : Target::foreign;
}

// ok, again, or an error; what the socket object raised is in foreign_error_.
Errno DatagramTransport::send_now(Gil gil, PyObject* data, PyObject* target, Target kind,
                                  const io::Address* resolved) noexcept {
  if (kind == Target::foreign) return send_foreign(gil, data, target);
  const io::Address* const to = kind == Target::address ? resolved : nullptr;
  if (PyBytes_CheckExact(data)) return datagram_.send(span_of(data), to);
  Py_buffer view;
  if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0) {
    foreign_error_ = take_exception(gil);
    return indicator_set;
  }
  const Errno error =
      datagram_.send({static_cast<const std::byte*>(view.buf), static_cast<size_t>(view.len)}, to);
  PyBuffer_Release(&view);
  return error;
}

// socket.sendto(): it looks up names, which blocks, and knows what is wrong with anything else.
Errno DatagramTransport::send_foreign(Gil gil, PyObject* data, PyObject* target) noexcept {
  const Ref pin = Ref::borrow(sock.get());
  PyObject* const args[] = {pin.get(), data, target};
  // Runs Python: codecs for host names.
  if (Ref::steal(PyObject_VectorcallMethod(state_.names.sendto, args, 3, nullptr))) return Errno::ok;
  if (PyErr_ExceptionMatches(PyExc_BlockingIOError) != 0 || PyErr_ExceptionMatches(PyExc_InterruptedError) != 0) {
    PyErr_Clear();
    return Errno::again;
  }
  foreign_error_ = take_exception(gil);
  return indicator_set;
}

// What is queued must not change: anything but bytes is copied.
bool DatagramTransport::queue(Gil gil, PyObject* data, PyObject* target, Target kind,
                              const io::Address* resolved) noexcept {
  const Ref bytes = PyBytes_CheckExact(data) ? Ref::borrow(data) : Ref::steal(PyBytes_FromObject(data));
  if (!bytes) return false;
  Ref owner = kind == Target::foreign ? Ref::steal(PyTuple_Pack(2, bytes.get(), target)) : Ref::borrow(bytes.get());
  if (!owner) return false;
  if (!datagram_.is_waiting()) {
    send_context_ = Ref::steal(PyContext_CopyCurrent());
    if (!send_context_) return false;
  }
  net::QueuedDatagram datagram{span_of(bytes.get()), owner.get(), kind, {}};
  if (kind == Target::address) datagram.address = *resolved;
  if (const Errno error = datagram_.append(datagram); error != Errno::ok) {
    raise_errno(gil, error);
    return false;
  }
  (void)owner.release();
  update_pin();
  return true;
}

bool DatagramTransport::note_lost_datagram(Gil) noexcept {
  const Ref threshold =
      Ref::steal(PyObject_GetAttrString(state_.imports.constants_module, "LOG_THRESHOLD_FOR_CONNLOST_WRITES"));
  if (!threshold) return false;
  const long limit = PyLong_AsLong(threshold.get());
  if (limit == -1 && PyErr_Occurred() != nullptr) return false;
  if (static_cast<long>(conn_lost) >= limit) {
    const Ref text = Ref::steal(PyUnicode_FromString("socket.send() raised exception."));
    PyObject* const args[] = {state_.imports.logger, text.get()};
    if (!text || !Ref::steal(PyObject_VectorcallMethod(state_.names.warning, args, 2, nullptr))) return false;
  }
  ++conn_lost;
  return true;
}

// OSErrors are the protocol's, everything else is fatal.
bool DatagramTransport::tell_send_error(Gil gil, Errno error) noexcept {
  Ref exception = foreign_error_.take();
  if (!exception) exception = make_os_error(gil, error);
  if (!exception) return false;
  if (PyErr_GivenExceptionMatches(exception.get(), PyExc_OSError) != 0) return tell_error(gil, std::move(exception));
  const Ref message = Ref::steal(PyUnicode_FromString("Fatal write error on datagram transport"));
  return message && fatal_error(gil, exception.get(), message.get());
}

// --- the queue ------------------------------------------------------------------------------------------------

Errno DatagramTransport::on_send_foreign(void* owner) noexcept {
  const Ref pin = Ref::borrow(static_cast<PyObject*>(owner));
  return send_foreign(Gil::in_slot(), PyTuple_GET_ITEM(pin.get(), 0), PyTuple_GET_ITEM(pin.get(), 1));
}

void DatagramTransport::on_send_error(Errno error) noexcept {
  const Gil gil = Gil::in_slot();
  const Ref pin = Ref::borrow(self_object());
  if (conn_lost == 0) {
    const ContextScope scope(gil, send_context_.get());
    const bool told = scope.entered() && tell_send_error(gil, error);
    if (!told) report(gil, "Exception in callback DatagramTransport._sendto_ready()");
  }
  update_pin();
}

void DatagramTransport::on_sent() noexcept {
  const Gil gil = Gil::in_slot();
  const Ref pin = Ref::borrow(self_object());
  if (conn_lost == 0) {
    const ContextScope scope(gil, send_context_.get());
    const bool done = scope.entered() && finish_sending(gil);
    if (!done) report(gil, "Exception in callback DatagramTransport._sendto_ready()");
  }
  update_pin();
}

bool DatagramTransport::finish_sending(Gil gil) noexcept {
  if (!flow_.maybe_resume(gil, parties(), write_buffer_size())) return false;  // may send more, close or abort
  if (!closing_ || conn_lost > 0 || !datagram_.is_queue_empty()) return true;
  ++conn_lost;
  return call_connection_lost(gil, Py_None);
}

bool DatagramTransport::set_write_limits(Gil gil, PyObject* high, PyObject* low) noexcept {
  return flow_.set_limits(gil, high, low) && flow_.maybe_pause(gil, parties(), write_buffer_size());
}

}  // namespace cxxloop::python
