// SPDX-License-Identifier: MIT
//
// python/tls/tls_protocol.cc: what reading and writing share: failures, flow control, the way to asyncio's own code.
#include "python/tls/tls_protocol.h"

#include "python/interp/error.h"
#include "python/interp/report.h"

namespace cxxloop::python {
namespace {

// `number` is an int or a float of the program's.
bool is_at_least(Py_ssize_t size, PyObject* number) noexcept {
  const double value = PyFloat_AsDouble(number);
  if (value == -1.0 && PyErr_Occurred() != nullptr) PyErr_Clear();  // an int beyond every double
  return static_cast<double>(size) >= value;
}

bool is_at_most(Py_ssize_t size, PyObject* number) noexcept {
  const double value = PyFloat_AsDouble(number);
  if (value == -1.0 && PyErr_Occurred() != nullptr) PyErr_Clear();
  return static_cast<double>(size) <= value;
}

}  // namespace

PyObject* TlsProtocol::self_object() const noexcept { return reinterpret_cast<PyObject*>(&self_); }

// True if every part is assigned and of a type whose layout this file relies on.
bool TlsProtocol::parts_are_known() const noexcept {
  return raw_sslobj && loop && PyObject_TypeCheck(loop.get(), state_.loop_type) != 0 && incoming &&
         Py_TYPE(incoming.get()) == state_.imports.ssl_memory_bio && outgoing &&
         Py_TYPE(outgoing.get()) == state_.imports.ssl_memory_bio && transport && app_protocol && backlog &&
         outgoing_high && outgoing_low && incoming_high && incoming_low;
}

bool TlsProtocol::set_sslobj(Gil, PyObject* object) noexcept {
  const Ref old_raw = raw_sslobj.take();
  if (reinterpret_cast<PyObject*>(Py_TYPE(object)) == state_.imports.ssl_object) {
    raw_sslobj = Ref::steal(PyObject_GetAttr(object, state_.names._sslobj));
    if (!raw_sslobj) return false;
  }
  sslobj = Ref::borrow(object);
  return true;
}

bool TlsProtocol::call_own(Gil, PyObject* method) noexcept {
  return static_cast<bool>(Ref::steal(PyObject_CallMethodNoArgs(self_object(), method)));
}

// asyncio's SSLProtocol.method(self[, argument]).
bool TlsProtocol::call_base(Gil, PyObject* method, PyObject* argument) noexcept {
  const Ref function = Ref::steal(PyObject_GetAttr(state_.imports.ssl_protocol, method));
  PyObject* const args[] = {self_object(), argument};
  return function &&
         Ref::steal(PyObject_Vectorcall(function.get(), args, argument != nullptr ? 2 : 1, nullptr));
}

// asyncio's `except Exception`: exceptions close the connection, other BaseExceptions propagate.
bool TlsProtocol::contain_failure(Gil gil) noexcept {
  Ref exception = take_exception(gil);
  if (PyErr_GivenExceptionMatches(exception.get(), PyExc_Exception) == 0) {
    set_exception(gil, std::move(exception));
    return false;
  }
  const Ref message = Ref::steal(PyUnicode_FromString("Fatal error on SSL protocol"));
  if (!message) return false;
  const HandledScope handled(gil, exception.get());  // in debug mode asyncio logs the exception being handled
  PyObject* const args[] = {self_object(), exception.get(), message.get()};
  return static_cast<bool>(Ref::steal(PyObject_VectorcallMethod(state_.names._fatal_error, args, 3, nullptr)));
}

// Callbacks may have reset parts since parts_are_known() was true. False: the indicator is set.
bool TlsProtocol::check_there(Gil, const Ref& part) noexcept {
  if (!part) PyErr_SetString(PyExc_AttributeError, "a part of the SSLProtocol was deleted");
  return static_cast<bool>(part);
}

// MemoryBIO.pending; -1 with the indicator set.
Py_ssize_t TlsProtocol::pending_in(Gil gil, const Ref& bio) noexcept {
  if (!check_there(gil, bio)) return -1;
  const Ref pending = Ref::steal(PyObject_GetAttr(bio.get(), state_.names.pending));
  return pending ? PyLong_AsSsize_t(pending.get()) : -1;
}

// The count of at most `room` that SSLSocket.read() or write() returned, or what its exception means.
Py_ssize_t TlsProtocol::outcome_of(Gil, const Ref& count, Py_ssize_t room) noexcept {
  if (count) {
    const Py_ssize_t value = PyLong_AsSsize_t(count.get());
    if (value >= 0 && value <= room) return value;
    // A program has put an object of its own in the place of the SSLSocket.
    if (PyErr_Occurred() == nullptr) PyErr_Format(PyExc_ValueError, "the SSLSocket counts %zd of %zd bytes", value, room);
    return failed;
  }
  if (PyErr_ExceptionMatches(state_.imports.ssl_again_errors) != 0) {
    PyErr_Clear();
    return again;
  }
  is_broken_ = true;
  return failed;
}

// --- flow control ---------------------------------------------------------------------------------------------

// The last of send_parts(), which has emptied the BIO unless the transport below wants no more.
bool TlsProtocol::control_app_writing(Gil gil) noexcept {
  const Py_ssize_t pending = ssl_writing_paused != 0 ? pending_in(gil, outgoing) : 0;
  if (pending < 0) return false;
  const Py_ssize_t size = pending + backlog_size;
  if (app_writing_paused == 0 && is_at_least(size, outgoing_high.get())) {
    app_writing_paused = 1;
    return tell_app(gil, state_.names.pause_writing, "protocol.pause_writing() failed");
  }
  if (app_writing_paused != 0 && is_at_most(size, outgoing_low.get())) {
    app_writing_paused = 0;
    return tell_app(gil, state_.names.resume_writing, "protocol.resume_writing() failed");
  }
  return true;
}

bool TlsProtocol::tell_app(Gil gil, PyObject* method, const char* failure) noexcept {
  if (!check_there(gil, app_protocol) || !check_there(gil, loop)) return false;
  const Ref receiver = Ref::borrow(app_protocol.get());
  const Ref reporter = Ref::borrow(loop.get());
  // Runs Python: the program may write, close, abort, replace its protocol.
  if (Ref::steal(PyObject_CallMethodNoArgs(receiver.get(), method))) return true;
  return report(gil, state_, reporter.get(), failure,
                {{state_.names.transport, app_transport ? app_transport.get() : Py_None},
                 {state_.names.protocol, self_object()}});
}

// asyncio has OpenSSL swallow the beginning of a record, where it does not count.
Py_ssize_t TlsProtocol::read_buffer_size(Gil gil) noexcept {
  if (counts_records_ && records_ready_ == 0) return 0;
  return pending_in(gil, incoming);
}

bool TlsProtocol::control_ssl_reading(Gil gil) noexcept {
  const Py_ssize_t size = read_buffer_size(gil);
  if (size < 0) return false;
  PyObject* method = nullptr;
  if (ssl_reading_paused == 0 && is_at_least(size, incoming_high.get())) {
    ssl_reading_paused = 1;
    method = state_.names.pause_reading;
  } else if (ssl_reading_paused != 0 && is_at_most(size, incoming_low.get())) {
    ssl_reading_paused = 0;
    method = state_.names.resume_reading;
  }
  if (method == nullptr) return true;
  const Ref below = Ref::borrow(transport.get());
  return static_cast<bool>(Ref::steal(PyObject_CallMethodNoArgs(below.get(), method)));
}

}  // namespace cxxloop::python
