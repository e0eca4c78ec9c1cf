// SPDX-License-Identifier: MIT
//
// python/loop/sock_ops.cc: sock_recv, sock_recv_into and sock_sendall: the system call first, the poller only when it would
// block. The coroutines around them are in cxxloop/_loop.py; a SockOp is what one of them waits for.
#include <Python.h>
#include <structmember.h>

#include <cstddef>

#include "io/socket.h"
#include "python/handle/call_args.h"
#include "python/interp/error.h"
#include "python/interp/fd_witness.h"
#include "python/loop/loop.h"

namespace cxxloop::python {
namespace {

using net::Direction;

enum class SockOpKind : uint8_t { recv, recv_into, sendall };

// waiting -> done (result, error, release, or its watch went to another).
struct SockOpObject {
  PyObject_HEAD
  LoopObject* loop;   // owned
  PyObject* sock;     // owned: keeps the descriptor open
  PyObject* future;   // owned: what the coroutine waits for
  Py_buffer buffer;   // recv_into, sendall: what the program gave; obj is null for recv
  size_t size;        // recv: bytes wanted at most
  size_t sent;        // sendall: bytes sent so far
  const int* fd_witness;  // as io::Op's
  int fd;
  SockOpKind kind;
  bool waiting;       // True exactly while the loop's watch on fd is this op

  template <class F>
  void each_ref(F& f) noexcept {
    f(buffer, future, sock, loop);
  }
};

SockOpObject& as_op(PyObject* object) noexcept { return *reinterpret_cast<SockOpObject*>(object); }
Direction direction_of(SockOpKind kind) noexcept {
  return kind == SockOpKind::sendall ? Direction::write : Direction::read;
}

std::span<std::byte> buffer_span(const SockOpObject& op) noexcept {
  return {static_cast<std::byte*>(op.buffer.buf), static_cast<size_t>(op.buffer.len)};
}

// Up to `size` bytes at their exact size; more than the loop's buffer holds are received in place.
Ref receive_bytes(Gil gil, LoopCore& core, int fd, size_t size, Errno* error) noexcept {
  Ref bytes;
  std::span<std::byte> target;
  if (size == 0) return Ref::steal(PyBytes_FromStringAndSize(nullptr, 0));  // as socket.recv(), which makes no system call then
  if (size > LoopCore::read_buffer_size) {
    bytes = Ref::steal(PyBytes_FromStringAndSize(nullptr, static_cast<Py_ssize_t>(size)));
    if (!bytes) return {};
    target = {reinterpret_cast<std::byte*>(PyBytes_AS_STRING(bytes.get())), size};
  } else {
    const std::span<std::byte> buffer = read_buffer(gil, core);
    if (buffer.empty()) return {};
    target = buffer.first(size);
  }
  Result<size_t> received = io::receive(fd, target);
  if (!received.ok()) {
    *error = received.error();
    if (*error != Errno::again) raise_errno(gil, *error);
    return {};
  }
  const Py_ssize_t count = static_cast<Py_ssize_t>(received.value());
  if (!bytes) return Ref::steal(PyBytes_FromStringAndSize(reinterpret_cast<char*>(target.data()), count));
  PyObject* resized = bytes.release();
  _PyBytes_Resize(&resized, count);
  return Ref::steal(resized);
}

// One attempt. The result; or null with *error == again; or null with the indicator set.
Ref attempt(Gil gil, LoopCore& core, SockOpObject& op, Errno* error) noexcept {
  const bool still_owned = op.fd_witness == nullptr || *op.fd_witness == op.fd;
  *error = still_owned ? Errno::ok : Errno::bad_fd;
  if (!still_owned) {
    raise_errno(gil, Errno::bad_fd);
    return {};
  }
  if (op.kind == SockOpKind::recv) return receive_bytes(gil, core, op.fd, op.size, error);
  if (op.kind == SockOpKind::recv_into) {
    if (op.buffer.len == 0) return Ref::steal(PyLong_FromLong(0));  // as socket.recv_into(), which makes no system call then
    Result<size_t> received = io::receive(op.fd, buffer_span(op));
    if (received.ok()) return Ref::steal(PyLong_FromSize_t(received.value()));
    *error = received.error();
  } else {
    do {  // one send() even of nothing: its error is asyncio's, and an empty datagram is one
      Result<size_t> sent = io::send(op.fd, std::span<const std::byte>(buffer_span(op)).subspan(op.sent));
      if (!sent.ok()) {
        *error = sent.error();
        break;
      }
      op.sent += sent.value();
    } while (op.sent < static_cast<size_t>(op.buffer.len));
    if (*error == Errno::ok) return Ref::borrow(Py_None);
  }
  if (*error != Errno::again) raise_errno(gil, *error);
  return {};
}

void stop_waiting(Gil gil, LoopCore& core, SockOpObject& op) noexcept {
  if (!op.waiting) return;
  op.waiting = false;
  if (core.watches != nullptr) unwatch_fd(gil, core, op.fd, direction_of(op.kind));
}

// Runs Python: the future's callbacks are scheduled, a subclass of Future may do more.
void settle_future(Gil gil, LoopCore& core, PyObject* future, const Ref& result, const Ref& exception) noexcept {
  const Names& names = core.state.names;
  const Ref done = Ref::steal(PyObject_CallMethodNoArgs(future, names.done));
  if (!done) return report_or_leave(gil, core, "Exception in a sock_* operation");
  if (done.get() == Py_True) return;
  PyObject* const method = result ? names.set_result : names.set_exception;
  PyObject* const value = result ? result.get() : exception.get();
  if (Ref::steal(PyObject_CallMethodOneArg(future, method, value))) return;
  report_or_leave(gil, core, "Exception in a sock_* operation");
}

SockOpObject* new_op(Gil, LoopCore& core, SockOpKind kind, PyObject* sock) noexcept {
  const Ref number = Ref::steal(PyObject_CallMethodNoArgs(sock, core.state.names.fileno));
  if (!number) return nullptr;
  const long fd = PyLong_AsLong(number.get());
  if (fd == -1 && PyErr_Occurred() != nullptr) return nullptr;
  SockOpObject* const op = PyObject_GC_New(SockOpObject, core.state.sock_op_type);
  if (op == nullptr) return nullptr;
  op->loop = reinterpret_cast<LoopObject*>(Py_NewRef(as_object(core.self)));
  op->sock = Py_NewRef(sock);
  op->future = nullptr;
  op->size = 0;
  op->sent = 0;
  op->fd = static_cast<int>(fd);
  op->fd_witness = fd_witness_of(core.state, sock, op->fd);
  op->kind = kind;
  op->buffer.obj = nullptr;
  op->waiting = false;
  return op;
}

// The optimistic attempt; if it would block, the op with its future, watched.
PyObject* start_op(Gil gil, LoopCore& core, Ref owner) noexcept {
  SockOpObject& op = as_op(owner.get());
  Errno error = Errno::ok;
  Ref result = attempt(gil, core, op, &error);
  if (result || error != Errno::again) return result.release();
  const Ref number = Ref::steal(PyLong_FromLong(op.fd));
  if (!number || !ensure_fd_no_transport(gil, core, number.get())) return nullptr;
  op.future = create_future(gil, core).release();
  if (op.future == nullptr) return nullptr;
  op.waiting = true;
  // Runs Python: a destructor of what the former watch held may close the loop, or give the watch to another, whereupon the op
  // does not wait any more.
  if (!watch_fd(gil, core, op.fd, direction_of(op.kind), owner.get())) {
    op.waiting = false;
    return nullptr;
  }
  if (PyObject_GC_IsTracked(owner.get()) == 0) PyObject_GC_Track(owner.get());
  return owner.release();
}

bool hold_buffer(SockOpObject& op, PyObject* object, int flags) noexcept {
  if (PyObject_GetBuffer(object, &op.buffer, flags) < 0) {
    if ((flags & PyBUF_WRITABLE) == 0) return false;
    // The TypeError of socket.recv_into(), which is what asyncio meets.
    PyErr_Clear();
    const Ref args = Ref::steal(PyTuple_Pack(1, object));
    if (!args || PyArg_ParseTuple(args.get(), "w*:recv_into", &op.buffer) == 0) return false;
  }
  return true;
}

PyObject* loop_sock_recv(PyObject* self, PyObject* const* args, Py_ssize_t nargs) {
  const Gil gil = Gil::in_slot();
  LoopCore& core = core_of(self);
  if (!check_count("_native_sock_recv", nargs, 2)) return nullptr;
  const Ref number = Ref::steal(PyNumber_Index(args[1]));
  const Py_ssize_t size = number ? PyLong_AsSsize_t(number.get()) : -1;
  if (size == -1 && PyErr_Occurred() != nullptr) return nullptr;
  if (size < 0) {
    PyErr_SetString(PyExc_ValueError, "negative buffersize in recv");
    return nullptr;
  }
  if (!check_closed(gil, core)) return nullptr;
  SockOpObject* const op = new_op(gil, core, SockOpKind::recv, args[0]);
  if (op == nullptr) return nullptr;
  op->size = static_cast<size_t>(size);
  return start_op(gil, core, Ref::steal(reinterpret_cast<PyObject*>(op)));
}

PyObject* start_buffer_op(PyObject* self, PyObject* const* args, SockOpKind kind, int flags) noexcept {
  const Gil gil = Gil::in_slot();
  LoopCore& core = core_of(self);
  if (!check_closed(gil, core)) return nullptr;
  SockOpObject* const op = new_op(gil, core, kind, args[0]);
  if (op == nullptr) return nullptr;
  Ref owner = Ref::steal(reinterpret_cast<PyObject*>(op));
  if (!hold_buffer(*op, args[1], flags)) return nullptr;
  return start_op(gil, core, std::move(owner));
}

PyObject* loop_sock_recv_into(PyObject* self, PyObject* const* args, Py_ssize_t nargs) {
  if (!check_count("_native_sock_recv_into", nargs, 2)) return nullptr;
  return start_buffer_op(self, args, SockOpKind::recv_into, PyBUF_WRITABLE);
}

PyObject* loop_sock_sendall(PyObject* self, PyObject* const* args, Py_ssize_t nargs) {
  if (!check_count("_native_sock_sendall", nargs, 2)) return nullptr;
  return start_buffer_op(self, args, SockOpKind::sendall, PyBUF_SIMPLE);
}

PyObject* loop_is_plain_socket(PyObject* self, PyObject* sock) {
  bool plain = false;
  return is_plain_socket(Gil::in_slot(), core_of(self), sock, &plain) ? PyBool_FromLong(plain) : nullptr;
}

// --- the type -------------------------------------------------------------------------------------------------

PyObject* op_release(PyObject* self, PyObject*) {
  SockOpObject& op = as_op(self);
  stop_waiting(Gil::in_slot(), op.loop->core(), op);
  Py_RETURN_NONE;
}

PyObject* op_get_future(PyObject* self, void*) { return Py_NewRef(as_op(self).future); }

constexpr Method op_methods[] = {
    {"release", op_release, METH_NOARGS,
     "release($self, /)\n--\n\nStop waiting; another operation's watch on the descriptor is left alone."},
    {},
};

constexpr Attribute op_attributes[] = {
    {"future", op_get_future, nullptr, "The asyncio.Future of the result."},
    {},
};

}  // namespace

std::span<std::byte> read_buffer(Gil, LoopCore& core) noexcept {
  const std::span<std::byte> buffer = core.read_buffer.get(LoopCore::read_buffer_size);
  if (buffer.empty()) PyErr_NoMemory();
  return buffer;
}

// The descriptor is ready: try again.
void run_sock_op(Gil gil, LoopCore& core, PyObject* object) noexcept {
  SockOpObject& op = as_op(object);
  Errno error = Errno::ok;
  Ref result = attempt(gil, core, op, &error);
  if (!result && error == Errno::again) return;
  const Ref exception = result ? Ref() : take_exception(gil);
  stop_waiting(gil, core, op);
  settle_future(gil, core, op.future, result, exception);
}

void abandon_sock_op(Gil, PyObject* op) noexcept { as_op(op).waiting = false; }

constexpr Method sock_methods[] = {
    {"_is_plain_socket", loop_is_plain_socket, METH_O, nullptr},
    {"_native_sock_recv", loop_sock_recv, nullptr},
    {"_native_sock_recv_into", loop_sock_recv_into, nullptr},
    {"_native_sock_sendall", loop_sock_sendall, nullptr},
    {},
};

bool add_sock_op_type(Gil gil, PyObject* module, ModuleState& state) noexcept {
  state.sock_op_type = make_heap_type(gil, module, {
      .name = "cxxloop._core.SockOp",
      .object_bytes = sizeof(SockOpObject),
      .flags = Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
      .doc = "A sock_* operation that waits for its descriptor.",
      .methods = {op_methods},
      .attributes = {op_attributes},
      .traverse = traverse<as_op>,
      .dealloc = dealloc<as_op>,
      .is_public = false,
  });
  return state.sock_op_type != nullptr;
}

}  // namespace cxxloop::python
