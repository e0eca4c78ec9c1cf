// SPDX-License-Identifier: MIT
//
// python/stream_transport.cc: opening, reading, closing. Writing is in stream_transport_write.cc.
#include "python/stream_transport.h"

#include <netinet/in.h>
#include <netinet/tcp.h>

#include "python/error.h"
#include "python/sockaddr.h"
#include "python/tls_protocol.h"

namespace cxxloop::python {
namespace {

void release_chunk(void* owner) noexcept { Py_DECREF(static_cast<PyObject*>(owner)); }

bool is_given(PyObject* object) noexcept { return object != nullptr && object != Py_None; }

// getsockname() or getpeername(); None where the kernel has no answer, as asyncio stores it.
Ref socket_name(Gil gil, const ModuleState& state, PyObject* sock, int fd, bool peer, sa_family_t* family) noexcept {
  sockaddr_storage address{};
  socklen_t size = sizeof(address);
  sockaddr* const target = reinterpret_cast<sockaddr*>(&address);
  if ((peer ? getpeername(fd, target, &size) : getsockname(fd, target, &size)) < 0) return Ref::borrow(Py_None);
  *family = address.ss_family;
  Ref name = sockaddr_to_object(gil, address, size);
  if (name || PyErr_Occurred() != nullptr) return name;
  return Ref::steal(PyObject_CallMethodNoArgs(sock, peer ? state.names.getpeername : state.names.getsockname));
}

// What keeps the memory of `buffer` in place while bytes are received into it, when no Python code runs meanwhile: the
// object itself if it owns its memory, else an export, because the memory may be gone with the export (PEP 688).
Ref hold_memory(Gil, Ref buffer) noexcept {
  if (PyByteArray_CheckExact(buffer.get()) || PyMemoryView_Check(buffer.get())) return buffer;
  return Ref::steal(PyMemoryView_FromObject(buffer.get()));
}

// The TypeError of socket.recv_into(), which is what asyncio meets.
void raise_not_writable(Gil, PyObject* buffer) noexcept {
  PyErr_Clear();
  const Ref args = Ref::steal(PyTuple_Pack(1, buffer));
  Py_buffer view;
  if (args && PyArg_ParseTuple(args.get(), "w*:recv_into", &view) != 0) PyBuffer_Release(&view);
}

}  // namespace

StreamTransport::StreamTransport(StreamTransportObject& self, LoopCore& core, int fd_of_sock,
                                 const int* owner_fd) noexcept
    : loop(Ref::borrow(as_object(core.self))),
      fd(fd_of_sock),
      self_(self),
      state_(core.state),
      core_(&core),
      stream_(*core.backend, fd_of_sock, *this, release_chunk, owner_fd) {}

PyObject* StreamTransport::self_object() const noexcept { return reinterpret_cast<PyObject*>(&self_); }

bool StreamTransport::open(Gil gil, const TransportArgs& args) noexcept {
  sock = Ref::borrow(args.sock);
  if (is_given(args.context)) call_context = Ref::borrow(args.context);
  if (!fill_extra(gil, args) || !set_protocol(gil, args.protocol)) return false;
  protocol_connected = true;
  if (is_given(args.server)) {
    // Runs Python: Server._attach().
#if PY_VERSION_HEX >= 0x030D0000
    const Ref attached = Ref::steal(PyObject_CallMethodOneArg(args.server, state_.names._attach, self_object()));
#else
    const Ref attached = Ref::steal(PyObject_CallMethodNoArgs(args.server, state_.names._attach));
#endif
    if (!attached) return false;
    server = Ref::borrow(args.server);
  }
  register_transport(*core_, fd, &self_);
  return schedule_callbacks(gil, args);
}

bool StreamTransport::fill_extra(Gil gil, const TransportArgs& args) noexcept {
  const Names& names = state_.names;
  Ref extra = is_given(args.extra) ? Ref::borrow(args.extra) : Ref::steal(PyDict_New());
  if (!extra) return false;
  sa_family_t family = AF_UNSPEC;
  const Ref wrapped = Ref::steal(PyObject_CallOneArg(state_.imports.transport_socket, args.sock));
  const Ref sockname = socket_name(gil, state_, args.sock, fd, false, &family);
  if (!wrapped || !sockname || PyDict_SetItem(extra.get(), names.socket, wrapped.get()) < 0 ||
      PyDict_SetItem(extra.get(), names.sockname, sockname.get()) < 0) {
    return false;
  }
  if (family == AF_INET || family == AF_INET6) {
    const int on = 1;  // a socket that is no TCP socket refuses, which is fine
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  }
  if (PyDict_Contains(extra.get(), names.peername) == 0) {
    const Ref peername = socket_name(gil, state_, args.sock, fd, true, &family);
    if (!peername || PyDict_SetItem(extra.get(), names.peername, peername.get()) < 0) return false;
  }
  self_.extra = extra.release();
  return true;
}

// connection_made() first; reading starts only after it, the waiter wakes only after that.
bool StreamTransport::schedule_callbacks(Gil gil, const TransportArgs& args) noexcept {
  const Ref made = Ref::steal(PyObject_GetAttr(protocol.get(), state_.names.connection_made));
  const Ref start = Ref::steal(PyObject_GetAttr(self_object(), state_.names._start_reading));
  if (!made || !start) return false;
  PyObject* const context = call_context.get();
  PyObject* const made_args[] = {self_object()};
  if (!schedule(gil, *core_, made.get(), made_args, 1, context)) return false;
  if (!schedule(gil, *core_, start.get(), nullptr, 0, context)) return false;
  if (!is_given(args.waiter)) return true;
  PyObject* const waiter_args[] = {args.waiter, Py_None};
  return schedule(gil, *core_, state_.imports.set_result_unless_cancelled, waiter_args, 2, context);
}

bool StreamTransport::set_protocol(Gil, PyObject* new_protocol) noexcept {
  const int buffered = PyObject_IsInstance(new_protocol, state_.imports.buffered_protocol);
  if (buffered < 0) return false;
  tls_protocol_ = tls_protocol_of(state_, new_protocol);
  buffered_protocol_ = buffered == 1 && tls_protocol_ == nullptr;
  protocol = Ref::borrow(new_protocol);
  protocol_connected = true;
  return true;
}

// --- reading --------------------------------------------------------------------------------------------------

bool StreamTransport::start_reading(Gil gil) noexcept {
  if (!is_reading()) return true;
  return resume_stream(gil);
}

// Each start captures the current context for the callbacks to come, as asyncio's reader handles do.
bool StreamTransport::resume_stream(Gil gil) noexcept {
  if (!stream_is_open()) return check_closed(gil, core_of(loop.get()));
  read_context_ = call_context ? Ref::borrow(call_context.get()) : Ref::steal(PyContext_CopyCurrent());
  if (!read_context_) return false;
  expect_io(*core_);
  const Errno error = stream_.start_reading();
  if (error != Errno::ok) {
    raise_errno(gil, error);
    return false;
  }
  update_pin();
  return true;
}

bool StreamTransport::pause_reading(Gil gil) noexcept {
  if (!is_reading()) return true;
  paused_ = true;
  if (stream_is_open()) stream_.stop_reading();
  update_pin();
  return log_debug(gil, "%r pauses reading");
}

bool StreamTransport::resume_reading(Gil gil) noexcept {
  if (closing_ || !paused_) return true;
  paused_ = false;
  return resume_stream(gil) && log_debug(gil, "%r resumes reading");
}

std::optional<std::span<std::byte>> StreamTransport::on_read_target() noexcept {
  if (!buffered_protocol_ && !read_buffer_) return std::span<std::byte>();
  const Gil gil = Gil::in_slot();
  const Ref pin = Ref::borrow(self_object());
  read_buffer_.reset();  // left by a read that found nothing; the protocol may be another one now
  if (!buffered_protocol_) return std::span<std::byte>();
  const ContextScope scope(gil, read_context_.get());
  const Ref hint = Ref::steal(PyLong_FromLong(-1));
  const Ref receiver = Ref::borrow(protocol.get());
  PyObject* const args[] = {receiver.get(), hint.get()};
  Ref buffer;
  if (hint && scope.entered()) {
    // Runs Python: get_buffer() may pause, close or abort us, or raise.
    buffer = Ref::steal(PyObject_VectorcallMethod(state_.names.get_buffer, args, 2, nullptr));
    if (buffer && PyObject_Size(buffer.get()) == 0) {
      PyErr_SetString(PyExc_RuntimeError, "get_buffer() returned an empty buffer");
    }
  }
  if (PyErr_Occurred() != nullptr) {
    fail(gil, "Fatal error: protocol.get_buffer() call failed.");
    return std::nullopt;
  }
  Ref memory = hold_memory(gil, Ref::borrow(buffer.get()));
  Py_buffer view;
  if (!memory || PyObject_GetBuffer(memory.get(), &view, PyBUF_WRITABLE) < 0) {
    raise_not_writable(gil, buffer.get());
    fail(gil, "Fatal read error on socket transport");
    return std::nullopt;
  }
  const std::span<std::byte> target(static_cast<std::byte*>(view.buf), static_cast<size_t>(view.len));
  // This export ends here so that no error path can forget it; no Python code runs before the bytes are in it.
  PyBuffer_Release(&view);
  read_buffer_ = std::move(memory);
  // asyncio goes on with the read whatever get_buffer() did to the transport; so do we while somebody holds us.
  if (!stream_is_open() || Py_REFCNT(self_object()) == 1) return std::nullopt;
  return target;
}

void StreamTransport::on_data(std::span<const std::byte> data) noexcept {
  const Gil gil = Gil::in_slot();
  const Ref pin = Ref::borrow(self_object());
  if (tls_protocol_ != nullptr) return deliver_to_tls(gil, data);
  const Py_ssize_t size = static_cast<Py_ssize_t>(data.size());
  if (read_buffer_) {
    read_buffer_.reset();
    const Ref count = Ref::steal(PyLong_FromSsize_t(size));
    deliver(gil, state_.names.buffer_updated, count.get(), "Fatal error: protocol.buffer_updated() call failed.");
    return;
  }
  const Ref bytes = Ref::steal(PyBytes_FromStringAndSize(reinterpret_cast<const char*>(data.data()), size));
  deliver(gil, state_.names.data_received, bytes.get(), "Fatal error: protocol.data_received() call failed.");
}

// A protocol of ours takes the bytes from where they are; to the program it is a BufferedProtocol as asyncio's.
void StreamTransport::deliver_to_tls(Gil gil, std::span<const std::byte> data) noexcept {
  const Ref buffer = read_buffer_.take();  // of a protocol that was replaced in its get_buffer()
  const ContextScope scope(gil, read_context_.get());
  const Ref receiver = Ref::borrow(protocol.get());
  // Runs Python: as in deliver().
  if (!scope.entered() || !tls_protocol_->on_data(gil, data)) {
    fail(gil, "Fatal error: protocol.buffer_updated() call failed.");
  }
}

// protocol.method(argument) in the reading context. A null argument: its creation failed, the indicator is set.
void StreamTransport::deliver(Gil gil, PyObject* method, PyObject* argument, const char* failure) noexcept {
  const ContextScope scope(gil, read_context_.get());
  Ref result;
  if (argument != nullptr && scope.entered()) {
    const Ref receiver = Ref::borrow(protocol.get());
    PyObject* const args[] = {receiver.get(), argument};
    // Runs Python: the protocol may close or abort us, replace itself, write, stop the loop, or raise.
    result = Ref::steal(PyObject_VectorcallMethod(method, args, 2, nullptr));
  }
  if (!result) fail(gil, failure);
}

void StreamTransport::on_eof() noexcept {
  const Gil gil = Gil::in_slot();
  const Ref pin = Ref::borrow(self_object());
  if (conn_lost > 0 && !read_buffer_) return update_pin();
  read_buffer_.reset();
  const ContextScope scope(gil, read_context_.get());
  Ref keep_open;
  if (scope.entered() && log_debug(gil, "%r received EOF")) {
    const Ref receiver = Ref::borrow(protocol.get());
    // Runs Python: as in deliver().
    keep_open = Ref::steal(PyObject_CallMethodNoArgs(receiver.get(), state_.names.eof_received));
  }
  const int keep = keep_open ? PyObject_IsTrue(keep_open.get()) : -1;
  if (keep < 0) {
    fail(gil, "Fatal error: protocol.eof_received() call failed.");
    // KeyboardInterrupt has left us open: asyncio's reader would meet the end of the stream again in the next run.
    if (is_reading() && stream_is_open()) (void)stream_.start_reading();
  } else if (keep == 0 && !close(gil)) {
    leave_run_forever(gil, *core_);
  }
  update_pin();
}

void StreamTransport::on_read_error(Errno error) noexcept {
  const Gil gil = Gil::in_slot();
  const Ref pin = Ref::borrow(self_object());
  if (conn_lost == 0) {
    const ContextScope scope(gil, read_context_.get());
    raise_errno(gil, error);
    fail(gil, "Fatal read error on socket transport");
  }
  update_pin();
}

// --- closing --------------------------------------------------------------------------------------------------

bool StreamTransport::close(Gil gil) noexcept {
  if (closing_) return true;
  closing_ = true;
  if (stream_is_open()) {
    stream_.stop_reading();
    flush_corked();
  }
  const bool drained = conn_lost == 0 && stream_.queued_bytes() == 0;
  const bool scheduled = !drained || schedule_connection_lost(gil, Py_None);
  update_pin();
  return scheduled;
}

// asyncio has sent at once what we still hold back for the end of the callback.
bool StreamTransport::abort(Gil gil) noexcept {
  if (stream_is_open()) flush_corked();
  return force_close(gil, Py_None);
}

bool StreamTransport::force_close(Gil gil, PyObject* exception) noexcept {
  if (conn_lost > 0) return true;
  closing_ = true;
  if (stream_is_open()) {
    stream_.stop_reading();
    stream_.drop_writes();
  }
  const bool scheduled = schedule_connection_lost(gil, exception);
  update_pin();
  return scheduled;
}

bool StreamTransport::schedule_connection_lost(Gil gil, PyObject* exception) noexcept {
  ++conn_lost;
  LoopCore& core = core_of(loop.get());
  if (!check_closed(gil, core)) return false;
  const Ref callback = Ref::steal(PyObject_GetAttr(self_object(), state_.names._call_connection_lost));
  if (!callback) return false;
  PyObject* const args[] = {exception};
  return schedule(gil, core, callback.get(), args, 1, call_context.get());
}

bool StreamTransport::call_connection_lost(Gil gil, PyObject* exception) noexcept {
  if (!sock) return true;
  const Ref pin = Ref::borrow(self_object());
  Ref outcome = Ref::borrow(Py_None);
  if (protocol_connected) {
    const Ref receiver = Ref::borrow(protocol.get());
    // Runs Python: the protocol may do anything but bring us back.
    outcome = Ref::steal(PyObject_CallMethodOneArg(receiver.get(), state_.names.connection_lost, exception));
  }
  Ref error = outcome ? Ref() : take_exception(gil);
  if (empty_waiter) {
    const Ref lost = Ref::steal(PyObject_CallFunction(PyExc_ConnectionError, "s", "Connection is closed by peer"));
    const Ref set = Ref::steal(PyObject_CallMethodOneArg(empty_waiter.get(), state_.names.set_exception, lost.get()));
    if (!set) PyErr_WriteUnraisable(self_object());
  }
  if (!stream_is_open() || stream_.release()) {
    close_socket(gil);
  } else {
    close_when_released_ = true;
  }
  update_pin();
  if (!error) return true;
  set_exception(gil, std::move(error));
  return false;
}

void StreamTransport::on_released() noexcept {
  const Gil gil = Gil::in_slot();
  const Ref pin = Ref::borrow(self_object());
  if (close_when_released_) close_socket(gil);
  update_pin();
}

// The socket object owns the descriptor: closing through it keeps both of one mind.
void StreamTransport::close_socket(Gil) noexcept {
  if (core_ != nullptr) unregister_transport(*core_, fd, &self_);
  const Ref old_sock = sock.take();
  const Ref old_server = server.take();
  const Ref old_protocol = protocol.take();
  tls_protocol_ = nullptr;
  // Runs Python: socket.close() and Server._detach().
  const Ref closed = old_sock ? Ref::steal(PyObject_CallMethodNoArgs(old_sock.get(), state_.names.close)) : Ref();
  if (!closed && PyErr_Occurred() != nullptr) PyErr_WriteUnraisable(self_object());
  if (!old_server) return;
#if PY_VERSION_HEX >= 0x030D0000
  const Ref detached = Ref::steal(PyObject_CallMethodOneArg(old_server.get(), state_.names._detach, self_object()));
#else
  const Ref detached = Ref::steal(PyObject_CallMethodNoArgs(old_server.get(), state_.names._detach));
#endif
  if (!detached) PyErr_WriteUnraisable(self_object());
}

bool StreamTransport::fatal_error(Gil gil, PyObject* exception, PyObject* message) noexcept {
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
void StreamTransport::fail(Gil gil, const char* message) noexcept {
  LoopCore& core = core_of(loop.get());
  Ref exception = take_exception(gil);
  const Ref text = Ref::steal(PyUnicode_FromString(message));
  if (!text || !fatal_error(gil, exception.get(), text.get())) leave_run_forever(gil, core);
}

bool StreamTransport::log_debug(Gil, const char* format) noexcept {
  if (!core_of(loop.get()).debug) return true;
  const Ref text = Ref::steal(PyUnicode_FromString(format));
  PyObject* const args[] = {state_.imports.logger, text.get(), self_object()};
  return text && Ref::steal(PyObject_VectorcallMethod(state_.names.debug, args, 3, nullptr));
}

void StreamTransport::finalize(Gil gil) noexcept {
  if (!sock) return;
  if (PyErr_ResourceWarning(self_object(), 1, "unclosed transport %R", self_object()) < 0) {
    PyErr_WriteUnraisable(self_object());
  }
  if (stream_is_open()) {
    flush_corked();
    (void)stream_.release();
  }
  close_socket(gil);
  update_pin();  // the garbage collector finalizes pinned transports too, with a loop that nobody closed
}

void StreamTransport::detach_from_loop(Gil) noexcept {
  const Ref pin = Ref::borrow(self_object());
  if (stream_is_open()) {
    flush_corked();
    queue_lost_ = stream_.queued_bytes() > 0;
    (void)stream_.release();
  }
  if (core_ != nullptr) unregister_transport(*core_, fd, &self_);
  update_pin();
  core_ = nullptr;
}

void StreamTransport::update_pin() noexcept {
  const bool wanted = stream_is_open() ? stream_.is_reading() || stream_.is_send_waiting()
                                       : stream_.state() == net::Stream::State::releasing;
  if (wanted == pinned_) return;
  pinned_ = wanted;
  if (wanted) {
    Py_INCREF(self_object());
  } else {
    Py_DECREF(self_object());
  }
}

}  // namespace cxxloop::python
