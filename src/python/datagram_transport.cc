// SPDX-License-Identifier: MIT
//
// python/datagram_transport.cc: opening, receiving, closing. Sending is in datagram_transport_send.cc.
#include "python/datagram_transport.h"

#include "python/error.h"

namespace cxxloop::python {
namespace {

void release_owner(void* owner) noexcept { Py_DECREF(static_cast<PyObject*>(owner)); }

}  // namespace

DatagramTransport::DatagramTransport(DatagramTransportObject& self, LoopCore& core, int fd_of_sock,
                                     const int* owner_fd) noexcept
    : loop(Ref::borrow(as_object(core.self))),
      fd(fd_of_sock),
      self_(self),
      state_(core.state),
      core_(&core),
      datagram_(*core.backend, fd_of_sock, *this, release_owner, header_bytes, owner_fd),
      flow_(core.state) {}

PyObject* DatagramTransport::self_object() const noexcept { return reinterpret_cast<PyObject*>(&self_); }

bool DatagramTransport::open(Gil gil, const DatagramArgs& args) noexcept {
  const Ref family = Ref::steal(PyObject_GetAttr(args.sock, state_.names.family));
  family_ = family ? static_cast<int>(PyLong_AsLong(family.get())) : -1;
  if (PyErr_Occurred() != nullptr) return false;
  PyObject* const peername = PyDict_GetItemWithError(args.extra, state_.names.peername);  // borrowed
  if (peername == nullptr && PyErr_Occurred() != nullptr) return false;
  const int connected = peername != nullptr ? PyObject_IsTrue(peername) : 0;
  if (connected < 0) return false;
  connected_ = connected == 1;
  self_.extra = Py_NewRef(args.extra);
  sock = Ref::borrow(args.sock);
  protocol = Ref::borrow(args.protocol);
  address = Ref::borrow(args.address);
  register_datagram(*core_, fd, &self_);
  return schedule_callbacks(gil, args);
}

// connection_made() first; receiving starts only after it, the waiter wakes only after that.
bool DatagramTransport::schedule_callbacks(Gil gil, const DatagramArgs& args) noexcept {
  const Ref made = Ref::steal(PyObject_GetAttr(protocol.get(), state_.names.connection_made));
  const Ref start = Ref::steal(PyObject_GetAttr(self_object(), state_.names._start_reading));
  if (!made || !start) return false;
  PyObject* const made_args[] = {self_object()};
  if (!schedule(gil, *core_, made.get(), made_args, 1, nullptr)) return false;
  if (!schedule(gil, *core_, start.get(), nullptr, 0, nullptr)) return false;
  if (args.waiter == Py_None) return true;
  PyObject* const waiter_args[] = {args.waiter, Py_None};
  return schedule(gil, *core_, state_.imports.set_result_unless_cancelled, waiter_args, 2, nullptr);
}

// --- receiving ------------------------------------------------------------------------------------------------

// Captures the current context for the callbacks to come, as asyncio's reader handle does.
bool DatagramTransport::start_receiving(Gil gil) noexcept {
  if (closing_ || paused_ || !is_open()) return true;
  receive_context_ = Ref::steal(PyContext_CopyCurrent());
  if (!receive_context_) return false;
  expect_io(*core_);
  const Errno error = datagram_.start_receiving();
  if (error != Errno::ok) {
    raise_errno(gil, error);
    return false;
  }
  update_pin();
  return true;
}

bool DatagramTransport::pause_reading(Gil gil) noexcept {
  if (closing_ || paused_) return true;
  paused_ = true;
  if (is_open()) datagram_.stop_receiving();
  update_pin();
  return log_debug(gil, "%r pauses reading");
}

bool DatagramTransport::resume_reading(Gil gil) noexcept {
  if (closing_ || !paused_) return true;
  paused_ = false;
  return start_receiving(gil) && log_debug(gil, "%r resumes reading");
}

// asyncio receives one datagram a turn. The next one may come now exactly when a turn would begin with it: nothing that
// the last one caused, nothing that is due, and nothing that has arrived waits to be run.
bool DatagramTransport::on_may_receive_more() noexcept {
  return core_ != nullptr && core_->ready.empty() && core_->backend->collected() == 0 && core_->inbox.empty() &&
         core_->cork.empty() && !core_->stopping && !core_->exit_exception;
}

void DatagramTransport::on_datagram(std::span<const std::byte> data, const io::Address& sender) noexcept {
  if (conn_lost > 0) return;
  const Gil gil = Gil::in_slot();
  const Ref pin = Ref::borrow(self_object());
  const ContextScope scope(gil, receive_context_.get());
  const Ref bytes = Ref::steal(PyBytes_FromStringAndSize(reinterpret_cast<const char*>(data.data()),
                                                         static_cast<Py_ssize_t>(data.size())));
  const Ref name = core_->addresses.object_of(gil, sender);
  if (!bytes || !name || !scope.entered()) return fail(gil, "Fatal read error on datagram transport");
  const Ref receiver = Ref::borrow(protocol.get());
  PyObject* const args[] = {receiver.get(), bytes.get(), name.get()};
  // Runs Python: the protocol may send, close or abort us, stop the loop, or raise.
  if (Ref::steal(PyObject_VectorcallMethod(state_.names.datagram_received, args, 3, nullptr))) return;
  report(gil, "Exception in callback DatagramTransport._read_ready()");
}

void DatagramTransport::on_receive_error(Errno error) noexcept {
  const Gil gil = Gil::in_slot();
  const Ref pin = Ref::borrow(self_object());
  if (conn_lost == 0) {
    const ContextScope scope(gil, receive_context_.get());
    const bool told = scope.entered() && tell_error(gil, make_os_error(gil, error));
    if (!told) report(gil, "Exception in callback DatagramTransport._read_ready()");
  }
  update_pin();
}

// protocol.error_received(exception). False: the indicator is set.
bool DatagramTransport::tell_error(Gil, Ref exception) noexcept {
  if (!exception) return false;
  const Ref receiver = Ref::borrow(protocol.get());
  // Runs Python: the protocol may do anything, as in on_datagram().
  return static_cast<bool>(
      Ref::steal(PyObject_CallMethodOneArg(receiver.get(), state_.names.error_received, exception.get())));
}

// --- closing --------------------------------------------------------------------------------------------------

bool DatagramTransport::close(Gil gil) noexcept {
  if (closing_) return true;
  closing_ = true;
  if (is_open()) datagram_.stop_receiving();
  bool scheduled = true;
  if (datagram_.is_queue_empty()) {
    if (is_open()) datagram_.drop_queue();
    scheduled = schedule_connection_lost(gil, Py_None);
  }
  update_pin();
  return scheduled;
}

bool DatagramTransport::force_close(Gil gil, PyObject* exception) noexcept {
  if (conn_lost > 0) return true;
  closing_ = true;
  if (is_open()) {
    datagram_.stop_receiving();
    datagram_.drop_queue();
  }
  const bool scheduled = schedule_connection_lost(gil, exception);
  update_pin();
  return scheduled;
}

bool DatagramTransport::schedule_connection_lost(Gil gil, PyObject* exception) noexcept {
  ++conn_lost;
  LoopCore& core = core_of(loop.get());
  if (!check_closed(gil, core)) return false;
  const Ref callback = Ref::steal(PyObject_GetAttr(self_object(), state_.names._call_connection_lost));
  if (!callback) return false;
  PyObject* const args[] = {exception};
  return schedule(gil, core, callback.get(), args, 1, nullptr);
}

bool DatagramTransport::call_connection_lost(Gil gil, PyObject* exception) noexcept {
  if (!sock) return true;
  const Ref pin = Ref::borrow(self_object());
  const Ref receiver = Ref::borrow(protocol.get());
  // Runs Python: the protocol may do anything but bring us back.
  const Ref outcome = Ref::steal(PyObject_CallMethodOneArg(receiver.get(), state_.names.connection_lost, exception));
  Ref error = outcome ? Ref() : take_exception(gil);
  if (!is_open() || datagram_.release()) {
    close_socket(gil);
  } else {
    close_when_released_ = true;
  }
  update_pin();
  if (!error) return true;
  set_exception(gil, std::move(error));
  return false;
}

void DatagramTransport::on_released() noexcept {
  const Gil gil = Gil::in_slot();
  const Ref pin = Ref::borrow(self_object());
  if (close_when_released_) close_socket(gil);
  update_pin();
}

// The socket object owns the descriptor: closing through it keeps both of one mind.
void DatagramTransport::close_socket(Gil) noexcept {
  if (core_ != nullptr) unregister_datagram(*core_, fd, &self_);
  const Ref old_sock = sock.take();
  const Ref old_protocol = protocol.take();
  // Runs Python: socket.close().
  const Ref closed = old_sock ? Ref::steal(PyObject_CallMethodNoArgs(old_sock.get(), state_.names.close)) : Ref();
  if (!closed && PyErr_Occurred() != nullptr) PyErr_WriteUnraisable(self_object());
}

bool DatagramTransport::fatal_error(Gil gil, PyObject* exception, PyObject* message) noexcept {
  if (is_exit(exception)) {
    set_exception(gil, Ref::borrow(exception));
    return false;
  }
  const bool os_error = PyErr_GivenExceptionMatches(exception, PyExc_OSError) != 0;
  if (!os_error) {
    const ReportField fields[] = {{state_.names.transport, self_object()}, {state_.names.protocol, protocol.get()}};
    if (!report_to_loop(gil, state_, loop.get(), message, exception, fields, 2)) return false;
  } else if (core_of(loop.get()).debug) {
    const Ref format = Ref::steal(PyUnicode_FromString("%r: %s"));
    const Ref keywords = Ref::steal(PyTuple_Pack(1, state_.names.exc_info));
    if (!format || !keywords) return false;
    PyObject* const args[] = {state_.imports.logger, format.get(), self_object(), message, exception};
    if (!Ref::steal(PyObject_VectorcallMethod(state_.names.debug, args, 4, keywords.get()))) return false;
  }
  return force_close(gil, exception);
}

// The indicator is set: report it as asyncio does and close.
void DatagramTransport::fail(Gil gil, const char* message) noexcept {
  LoopCore& core = core_of(loop.get());
  Ref exception = take_exception(gil);
  const Ref text = Ref::steal(PyUnicode_FromString(message));
  if (!text || !fatal_error(gil, exception.get(), text.get())) leave_run_forever(gil, core);
}

// The indicator is set by a callback of the protocol: report it as asyncio's handle does and go on.
void DatagramTransport::report(Gil gil, const char* message) noexcept {
  LoopCore& core = core_of(loop.get());
  Ref exception = take_exception(gil);
  const Ref text = is_exit(exception.get()) ? Ref() : Ref::steal(PyUnicode_FromString(message));
  const ReportField fields[] = {{state_.names.transport, self_object()}, {state_.names.protocol, protocol.get()}};
  if (text && report_to_loop(gil, state_, as_object(core.self), text.get(), exception.get(), fields, 2)) return;
  if (!text) set_exception(gil, std::move(exception));
  leave_run_forever(gil, core);
}

bool DatagramTransport::log_debug(Gil, const char* format) noexcept {
  if (!core_of(loop.get()).debug) return true;
  const Ref text = Ref::steal(PyUnicode_FromString(format));
  PyObject* const args[] = {state_.imports.logger, text.get(), self_object()};
  return text && Ref::steal(PyObject_VectorcallMethod(state_.names.debug, args, 3, nullptr));
}

PyObject* DatagramTransport::repr(Gil) noexcept {
  const char* const state = !sock ? " closed" : closing_ ? " closing" : "";
  if (core_ == nullptr || core_->closed) return PyUnicode_FromFormat("<DatagramTransport%s fd=%d>", state, fd);
  return PyUnicode_FromFormat("<DatagramTransport%s fd=%d read=%s write=<%s, bufsize=%zu>>", state, fd,
                              is_open() && datagram_.is_receiving() ? "polling" : "idle",
                              is_open() && datagram_.is_waiting() ? "polling" : "idle", write_buffer_size());
}

void DatagramTransport::finalize(Gil gil) noexcept {
  if (!sock) return;
  if (PyErr_ResourceWarning(self_object(), 1, "unclosed transport %R", self_object()) < 0) {
    PyErr_WriteUnraisable(self_object());
  }
  if (is_open()) (void)datagram_.release();
  close_socket(gil);
  update_pin();  // the garbage collector finalizes pinned transports too, with a loop that nobody closed
}

void DatagramTransport::detach_from_loop(Gil) noexcept {
  const Ref pin = Ref::borrow(self_object());
  if (is_open()) {
    queue_lost_ = !datagram_.is_queue_empty();
    (void)datagram_.release();
  }
  if (core_ != nullptr) unregister_datagram(*core_, fd, &self_);
  update_pin();
  core_ = nullptr;
}

void DatagramTransport::update_pin() noexcept {
  const bool wanted = is_open() ? datagram_.is_receiving() || datagram_.is_waiting()
                                : datagram_.state() == net::Datagram::State::releasing;
  if (wanted == pinned_) return;
  pinned_ = wanted;
  if (wanted) {
    Py_INCREF(self_object());
  } else {
    Py_DECREF(self_object());
  }
}

// --- the loop's table -----------------------------------------------------------------------------------------

void register_datagram(LoopCore& core, int fd, DatagramTransportObject* transport) noexcept {
  const size_t index = static_cast<size_t>(fd);
  if (index >= core.datagrams.size()) core.datagrams.resize(index + 1 + index / 2);
  core.datagrams[index] = transport;
}

void unregister_datagram(LoopCore& core, int fd, DatagramTransportObject* transport) noexcept {
  if (datagram_of_fd(core, fd) == transport) core.datagrams[static_cast<size_t>(fd)] = nullptr;
}

DatagramTransportObject* datagram_of_fd(LoopCore& core, int fd) noexcept {
  const size_t index = static_cast<size_t>(fd);
  return fd >= 0 && index < core.datagrams.size() ? core.datagrams[index] : nullptr;
}

}  // namespace cxxloop::python
