// SPDX-License-Identifier: MIT
//
// python/transport/stream/stream_transport.cc: opening, reading, closing. Writing is in write.cc.
#include "python/transport/stream/stream_transport.h"

#include <netinet/in.h>
#include <netinet/tcp.h>

#include "python/interp/error.h"
#include "python/interp/sockaddr.h"

namespace cxxloop::python {
namespace {

constexpr const char* read_failure = "Fatal read error on socket transport";
constexpr const char* updated_failure = "Fatal error: protocol.buffer_updated() call failed.";

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

// As asyncio's _set_nodelay(): only where the socket object says TCP. One made without a protocol number, and what it
// accepts, says 0. False: the indicator is set.
bool set_nodelay(Gil, const ModuleState& state, PyObject* sock, int fd, sa_family_t family) noexcept {
  if (family != AF_INET && family != AF_INET6) return true;
  const Ref proto = Ref::steal(PyObject_GetAttr(sock, state.names.proto));
  const long number = proto ? PyLong_AsLong(proto.get()) : -1;
  if (number == -1 && PyErr_Occurred() != nullptr) return false;
  const int on = 1;
  if (number == IPPROTO_TCP) (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  return true;
}

// The TypeError of socket.recv_into(), which is what asyncio meets, in place of another error than MemoryError.
void raise_not_writable(Gil, PyObject* buffer) noexcept {
  if (PyErr_Occurred() != nullptr && PyErr_ExceptionMatches(PyExc_MemoryError) != 0) return;
  PyErr_Clear();
  const Ref args = Ref::steal(PyTuple_Pack(1, buffer));
  Py_buffer view;
  if (!args || PyArg_ParseTuple(args.get(), "w*:recv_into", &view) == 0) return;
  PyBuffer_Release(&view);  // an object that gives its buffer when it is asked again
  PyErr_Format(PyExc_TypeError, "recv_into() argument 1 must be read-write bytes-like object, not %.200s",
               Py_TYPE(buffer)->tp_name);
}

// What keeps the memory of `buffer` in place while bytes are received into it, when no Python code runs meanwhile: the
// object itself if it owns its memory, else an export, because the memory may be gone with the export (PEP 688).
// Null: the buffer is not writable, the indicator is set.
Ref hold_memory(Gil gil, Ref buffer) noexcept {
  if (PyByteArray_CheckExact(buffer.get()) || PyMemoryView_Check(buffer.get())) return buffer;
  // Runs Python: __buffer__(), which may do what get_buffer() may do.
  Ref view = Ref::steal(PyMemoryView_FromObject(buffer.get()));
  const Py_buffer* const bytes = view ? PyMemoryView_GET_BUFFER(view.get()) : nullptr;
  if (bytes != nullptr && bytes->readonly == 0 && PyBuffer_IsContiguous(bytes, 'C') != 0) return view;
  raise_not_writable(gil, buffer.get());
  return {};
}

}  // namespace

StreamTransport::StreamTransport(TransportObject& self, LoopCore& core, int fd_of_sock, const int* fd_witness) noexcept
    : SocketTransport(self, core, fd_of_sock), stream_(*core.backend, fd_of_sock, *this, release_owner, fd_witness) {
  channel_ = &stream_;
}

bool StreamTransport::open(Gil gil, const TransportArgs& args) noexcept {
  if (is_given(args.context)) call_context = Ref::borrow(args.context);
  if (!fill_extra(gil, args)) return false;
  sock = Ref::borrow(args.sock);
  if (!set_protocol(gil, args.protocol)) return false;
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
  if (!register_transport(gil, *core_, fd, this)) return false;
  return schedule_start(gil, is_given(args.waiter) ? args.waiter : Py_None);
}

bool StreamTransport::fill_extra(Gil gil, const TransportArgs& args) noexcept {
  const Names& names = state_.names;
  Ref extra = is_given(args.extra) ? Ref::borrow(args.extra) : Ref::steal(PyDict_New());
  if (!extra) return false;
  sa_family_t family = AF_UNSPEC;
  PyObject* const wrapped_args[] = {args.sock, self_object()};
  const Ref wrapped = Ref::steal(PyObject_Vectorcall(state_.imports.transport_socket, wrapped_args, 2, nullptr));
  const Ref sockname = socket_name(gil, state_, args.sock, fd, false, &family);
  if (!wrapped || !sockname || PyDict_SetItem(extra.get(), names.socket, wrapped.get()) < 0 ||
      PyDict_SetItem(extra.get(), names.sockname, sockname.get()) < 0) {
    return false;
  }
  if (!set_nodelay(gil, state_, args.sock, fd, family)) return false;
  if (PyDict_Contains(extra.get(), names.peername) == 0) {
    const Ref peername = socket_name(gil, state_, args.sock, fd, true, &family);
    if (!peername || PyDict_SetItem(extra.get(), names.peername, peername.get()) < 0) return false;
  }
  self_.extra = extra.release();
  return true;
}

bool StreamTransport::set_protocol(Gil, PyObject* new_protocol) noexcept {
  const int buffered = PyObject_IsInstance(new_protocol, state_.imports.buffered_protocol);
  if (buffered < 0) return false;
  native_protocol_ = native_protocol_of(state_, new_protocol);
  buffered_protocol_ = buffered == 1 && native_protocol_ == nullptr;
  protocol = Ref::borrow(new_protocol);
  return true;
}

// --- reading --------------------------------------------------------------------------------------------------

std::optional<std::span<std::byte>> StreamTransport::on_read_target() noexcept {
  if (!buffered_protocol_ && !read_buffer_) return std::span<std::byte>();
  const Gil gil = Gil::in_slot();
  const Ref pin = Ref::borrow(self_object());
  if (read_buffer_) {  // left by a read that found nothing: the protocol may have been replaced since
    // Runs Python: the release of an exporter may stop the reading, as get_buffer() may.
    read_buffer_.reset();
    buffer_context_.reset();
    if (!stream_.is_reading()) return std::nullopt;
    if (!buffered_protocol_) return std::span<std::byte>();
  }
  read_buffer_ = ask_for_buffer(gil);
  if (!read_buffer_) return std::nullopt;
  if (!is_attached()) {
    read_buffer_.reset();
    return std::nullopt;
  }
  // From here to the end of the read no Python code runs that could move the memory.
  const std::optional<std::span<std::byte>> target = memory_of_buffer(gil);
  if (!target) return std::nullopt;
  if (target->empty()) {  // The length of the buffer is not what its len() says. asyncio takes a read of nothing for the end.
    stream_.stop_reading();
    on_eof();
    return std::nullopt;
  }
  // asyncio goes on with the read whatever get_buffer() did to the transport.
  if (!stream_.is_reading()) stream_.take_last_read();
  return target;
}

// What get_buffer() returns, or an export of that which keeps the memory. Null: the failure was reported.
Ref StreamTransport::ask_for_buffer(Gil gil) noexcept {
  Ref context = Ref::borrow(read_context_.get());
  const ContextScope scope(gil, context.get());
  Ref buffer;
  if (scope.entered()) buffer = call_get_buffer(gil);
  if (!buffer) {
    fail(gil, "Fatal error: protocol.get_buffer() call failed.");
    return {};
  }
  Ref memory = hold_memory(gil, std::move(buffer));
  if (!memory) {
    fail(gil, read_failure);
    return {};
  }
  buffer_context_ = std::move(context);
  return memory;
}

Ref StreamTransport::call_get_buffer(Gil) noexcept {
  const Ref hint = Ref::steal(PyLong_FromLong(-1));
  Ref receiver = Ref::borrow(protocol.get());
  PyObject* const args[] = {receiver.get(), hint.get()};
  if (!hint) return {};
  // Runs Python: get_buffer() may pause, close or abort us, or raise; so may the destructor of a protocol that it has replaced.
  Ref buffer = Ref::steal(PyObject_VectorcallMethod(state_.names.get_buffer, args, 2, nullptr));
  receiver.reset();
  const Py_ssize_t size = buffer ? PyObject_Size(buffer.get()) : -1;
  if (size > 0) return buffer;
  if (size == 0) PyErr_SetString(PyExc_RuntimeError, "get_buffer() returned an empty buffer");
  return {};
}

// Nothing: the buffer is not writable, which was reported.
std::optional<std::span<std::byte>> StreamTransport::memory_of_buffer(Gil gil) noexcept {
  Py_buffer view;
  if (PyObject_GetBuffer(read_buffer_.get(), &view, PyBUF_WRITABLE) == 0) {
    // An export that lasts until the end of the read could be forgotten by an error path.
    PyBuffer_Release(&view);
    return std::span<std::byte>(static_cast<std::byte*>(view.buf), static_cast<size_t>(view.len));
  }
  const Ref buffer = read_buffer_.take();
  const ContextScope scope(gil, buffer_context_.take().get());
  raise_not_writable(gil, buffer.get());
  fail(gil, read_failure);
  return std::nullopt;
}

// A release of the protocol's buffer may have called _call_connection_lost(): then asyncio calls a method of None.
Ref StreamTransport::receiver_or_none() const noexcept { return Ref::steal(protocol.new_ref_or_none()); }

void StreamTransport::on_data(std::span<const std::byte> data) noexcept {
  const Gil gil = Gil::in_slot();
  const Ref pin = Ref::borrow(self_object());
  if (read_buffer_) return on_buffer_filled(gil, data);
  if (native_protocol_ != nullptr) return deliver_natively(gil, read_context_.get(), data);
  const Py_ssize_t size = static_cast<Py_ssize_t>(data.size());
  const Ref bytes = Ref::steal(PyBytes_FromStringAndSize(reinterpret_cast<const char*>(data.data()), size));
  deliver(gil, read_context_.get(), state_.names.data_received, bytes.get(),
          "Fatal error: protocol.data_received() call failed.");
}

// `data` lies in the buffer. get_buffer() may have replaced the protocol: one of ours gets a copy, because the program may
// resize its buffer before that protocol has read the last byte.
void StreamTransport::on_buffer_filled(Gil gil, std::span<const std::byte> data) noexcept {
  const Py_ssize_t size = static_cast<Py_ssize_t>(data.size());
  const bool is_native = native_protocol_ != nullptr;
  const Ref argument = is_native ? Ref::steal(PyBytes_FromStringAndSize(reinterpret_cast<const char*>(data.data()), size))
                                 : Ref::steal(PyLong_FromSsize_t(size));
  const Ref context = buffer_context_.take();
  // Runs Python: the release of an exporter, which may do what get_buffer() may do.
  read_buffer_.reset();
  if (!is_native || !argument || native_protocol_ == nullptr) {
    return deliver(gil, context.get(), state_.names.buffer_updated, argument.get(), updated_failure);
  }
  const std::byte* const copy = reinterpret_cast<const std::byte*>(PyBytes_AS_STRING(argument.get()));
  deliver_natively(gil, context.get(), {copy, data.size()});
}

// A protocol of ours takes the bytes from where they are; to the program it is a BufferedProtocol as asyncio's.
void StreamTransport::deliver_natively(Gil gil, PyObject* context, std::span<const std::byte> data) noexcept {
  const ContextScope scope(gil, context);
  const Ref receiver = Ref::borrow(protocol.get());
  // Runs Python: as in deliver().
  if (!scope.entered() || !native_protocol_->on_data(receiver.get(), gil, data)) fail(gil, updated_failure);
}

// protocol.method(argument) in `context`. A null argument: its creation failed, the indicator is set.
void StreamTransport::deliver(Gil gil, PyObject* context, PyObject* method, PyObject* argument,
                              const char* failure) noexcept {
  const ContextScope scope(gil, context);
  Ref result;
  if (argument != nullptr && scope.entered()) {
    const Ref receiver = receiver_or_none();
    PyObject* const args[] = {receiver.get(), argument};
    // Runs Python: the protocol may close or abort us, replace itself, write, stop the loop, or raise.
    result = Ref::steal(PyObject_VectorcallMethod(method, args, 2, nullptr));
  }
  if (!result) fail(gil, failure);
}

// The context of the read that ends. get_buffer() may have started another one.
Ref StreamTransport::take_read_context() noexcept {
  return read_buffer_ ? buffer_context_.take() : Ref::borrow(read_context_.get());
}

void StreamTransport::on_eof() noexcept {
  const Gil gil = Gil::in_slot();
  const Ref pin = Ref::borrow(self_object());
  if (is_lost() && !read_buffer_) return;
  const Ref context = take_read_context();
  read_buffer_.reset();
  const ContextScope scope(gil, context.get());
  Ref keep_open;
  if (scope.entered() && log_debug(gil, "%r received EOF")) {
    const Ref receiver = receiver_or_none();
    // Runs Python: as in deliver().
    keep_open = Ref::steal(PyObject_CallMethodNoArgs(receiver.get(), state_.names.eof_received));
  }
  const int keep = keep_open ? PyObject_IsTrue(keep_open.get()) : -1;
  if (keep < 0) {
    fail(gil, "Fatal error: protocol.eof_received() call failed.");
    // A KeyboardInterrupt left the transport open. asyncio's reader would meet the end of the stream again in the next run.
    if (is_reading() && is_attached()) (void)stream_.start_reading();
  } else if (keep > 0) {
    stream_.stop_reading();  // asyncio removes the reader, which eof_received() may have started again
  } else if (!close(gil)) {
    fail(gil, read_failure);
  }
}

void StreamTransport::on_read_error(Errno error) noexcept {
  const Gil gil = Gil::in_slot();
  const Ref pin = Ref::borrow(self_object());
  const Ref context = take_read_context();
  read_buffer_.reset();
  if (!is_lost()) {
    const ContextScope scope(gil, context.get());
    raise_errno(gil, error);
    fail(gil, read_failure);
  }
}

// --- closing --------------------------------------------------------------------------------------------------

// sendfile may wait for the queue of a connection that is gone. If it waits no longer but sends, this fails, as in asyncio.
bool StreamTransport::after_connection_lost(Gil gil) noexcept {
  detach_from_server(gil);  // now, although the kernel may still have the socket: waiters wake in asyncio's turn
  if (!empty_waiter) return true;
  const Ref lost = Ref::steal(PyObject_CallFunction(PyExc_ConnectionError, "s", "Connection is closed by peer"));
  return lost && Ref::steal(PyObject_CallMethodOneArg(empty_waiter.get(), state_.names.set_exception, lost.get()));
}

void StreamTransport::after_socket_closed(Gil gil) noexcept {
  native_protocol_ = nullptr;
  detach_from_server(gil);
}

void StreamTransport::detach_from_server(Gil) noexcept {
  const Ref old_server = server.take();
  if (!old_server) return;
  // Runs Python: Server._detach().
#if PY_VERSION_HEX >= 0x030D0000
  const Ref detached = Ref::steal(PyObject_CallMethodOneArg(old_server.get(), state_.names._detach, self_object()));
#else
  const Ref detached = Ref::steal(PyObject_CallMethodNoArgs(old_server.get(), state_.names._detach));
#endif
  if (!detached) PyErr_WriteUnraisable(self_object());
}

}  // namespace cxxloop::python
