// SPDX-License-Identifier: MIT
#include "python/transport/pipe/pipe_transport.h"

#include <array>

#include "io/pipe.h"
#include "python/handle/call_args.h"
#include "python/interp/bytes_like.h"
#include "python/interp/error.h"
#include "python/interp/fd_witness.h"
#include "python/interp/heap_type.h"
#include "python/loop/loop.h"
#include "python/transport/pipe/pipe_buffer.h"

namespace cxxloop::python {
namespace {

// Pieces given to the kernel at once: a pipe holds 64 KiB.
constexpr size_t iov_max = 64;

bool call_method(PyObject* self, PyObject* name) noexcept {
  return static_cast<bool>(Ref::steal(PyObject_CallMethodNoArgs(self, name)));
}

// self.name(OSError of `error`): reported and closed as asyncio does. False: the indicator is set.
bool call_with_error(Gil gil, PyObject* self, PyObject* name, Errno error) noexcept {
  const Ref exception = make_os_error(gil, error);
  return exception && Ref::steal(PyObject_CallMethodOneArg(self, name, exception.get()));
}

constexpr int pipe_closed = -2;

// The descriptor as the pipe object reports it: if the program has closed the pipe, transport._fileno may be the number of
// another file by now. pipe_closed: the program has closed the pipe. -1: the indicator is set.
int fd_of(const ModuleState& state, PyObject* self) noexcept {
  const Ref pipe = Ref::steal(PyObject_GetAttr(self, state.names._pipe));
  if (!pipe) return -1;
  if (const int* const field = number_field(state, pipe.get())) return *field >= 0 ? *field : pipe_closed;
  // Runs Python: fileno() of any object.
  const Ref number = Ref::steal(PyObject_CallMethodNoArgs(pipe.get(), state.names.fileno));
  const long fd = number ? PyLong_AsLong(number.get()) : -1;
  if (fd >= 0) return static_cast<int>(fd);
  if (PyErr_Occurred() != nullptr && PyErr_ExceptionMatches(PyExc_Exception) == 0) return -1;
  PyErr_Clear();  // fileno() of a closed file raises
  return pipe_closed;
}

// Null for a closed transport, which has dropped its loop; the program may still call its methods.
LoopCore* core_of_transport(const ModuleState& state, PyObject* self, Ref* loop) noexcept {
  *loop = Ref::steal(PyObject_GetAttr(self, state.names._loop));
  if (!*loop) return nullptr;
  if (PyObject_TypeCheck(loop->get(), state.loop_type)) return &core_of(loop->get());
  PyErr_SetString(PyExc_RuntimeError, "the transport is closed");
  return nullptr;
}

// 1, 0, or -1 with the indicator set.
int is_true(PyObject* self, PyObject* name) noexcept {
  const Ref value = Ref::steal(PyObject_GetAttr(self, name));
  return value ? PyObject_IsTrue(value.get()) : -1;
}

// --- reading --------------------------------------------------------------------------------------------------

PyObject* read_pipe_read_ready(PyObject* self, PyObject*) {
  const Gil gil = Gil::in_slot();
  const ModuleState& state = *state_of_type(Py_TYPE(self));
  Ref loop;
  LoopCore* const core = core_of_transport(state, self, &loop);
  const int fd = core != nullptr ? fd_of(state, self) : -1;
  if (fd == pipe_closed) return none_if(call_with_error(gil, self, state.names._read_failed, Errno::bad_fd));
  if (fd < 0) return nullptr;
  const std::span<std::byte> buffer = read_buffer(gil, *core);
  if (buffer.empty()) return nullptr;
  Result<size_t> count = io::read(fd, buffer);
  if (!count.ok()) {
    return none_if(count.error() == Errno::again || call_with_error(gil, self, state.names._read_failed, count.error()));
  }
  if (count.value() == 0) return none_if(call_method(self, state.names._end_of_file));
  const Ref data = Ref::steal(
      PyBytes_FromStringAndSize(reinterpret_cast<const char*>(buffer.data()), static_cast<Py_ssize_t>(count.value())));
  const Ref protocol = data ? Ref::steal(PyObject_GetAttr(self, state.names._protocol)) : Ref();
  if (!protocol) {  // what was read is lost, and the protocol must not take what comes next for its continuation
    const Ref exception = take_exception(gil);
    return PyObject_CallMethodOneArg(self, state.names._read_failed, exception.get());
  }
  // Runs Python: the protocol may pause or close us, or raise into the handle that runs us.
  return none_if(
      static_cast<bool>(Ref::steal(PyObject_CallMethodOneArg(protocol.get(), state.names.data_received, data.get()))));
}

// --- writing --------------------------------------------------------------------------------------------------

// self._buffer as the native buffer it is, or null with the indicator set.
PipeBufferObject* buffer_of(const ModuleState& state, PyObject* self, Ref* owner) noexcept {
  *owner = Ref::steal(PyObject_GetAttr(self, state.names._buffer));
  if (!*owner) return nullptr;
  if (Py_IS_TYPE(owner->get(), state.pipe_buffer_type)) return reinterpret_cast<PipeBufferObject*>(owner->get());
  PyErr_SetString(PyExc_TypeError, "the transport's _buffer must be a PipeBuffer");
  return nullptr;
}

// asyncio's assertion. False: the indicator is set.
bool assert_bytes_like(PyObject* data) noexcept {
  if (is_bytes_like(data)) return true;
  const Ref text = Ref::steal(PyObject_Repr(data));
  if (text) PyErr_SetObject(PyExc_AssertionError, text.get());
  return false;
}

// The pipe is full: queue the rest, watch the pipe, and pause the protocol above the high mark.
bool wait_writable(const ModuleState& state, PyObject* self, PyObject* loop, int fd) noexcept {
  const Ref callback = Ref::steal(PyObject_GetAttr(self, state.names._write_ready));
  const Ref number = Ref::steal(PyLong_FromLong(fd));
  if (!callback || !number) return false;
  PyObject* const args[] = {loop, number.get(), callback.get()};
  return static_cast<bool>(Ref::steal(PyObject_VectorcallMethod(state.names._add_writer, args, 3, nullptr)));
}

// Objects other than exact bytes may change after write(), so copy their rest.
Ref owned_rest(PyObject* data, std::span<const std::byte> bytes, size_t* written) noexcept {
  if (PyBytes_CheckExact(data)) return Ref::borrow(data);
  const std::span<const std::byte> rest = bytes.subspan(std::exchange(*written, 0));
  return Ref::steal(
      PyBytes_FromStringAndSize(reinterpret_cast<const char*>(rest.data()), static_cast<Py_ssize_t>(rest.size())));
}

// `bytes` are those of `data`, never empty, on a transport that is not closing.
bool write_bytes(Gil gil, const ModuleState& state, PyObject* self, PyObject* data,
                 std::span<const std::byte> bytes) noexcept {
  Ref loop;
  Ref owner;
  const LoopCore* const core = core_of_transport(state, self, &loop);
  PipeBufferObject* const buffer = core != nullptr ? buffer_of(state, self, &owner) : nullptr;
  const int fd = buffer != nullptr ? fd_of(state, self) : -1;
  if (fd == pipe_closed) return call_with_error(gil, self, state.names._write_failed, Errno::bad_fd);
  if (fd < 0) return false;
  size_t written = 0;
  const bool is_first = buffer->queue().empty();
  if (is_first) {
    Result<size_t> count = io::write(fd, bytes);
    if (!count.ok() && count.error() != Errno::again) {
      return call_with_error(gil, self, state.names._write_failed, count.error());
    }
    if (count.ok()) written = count.value();
    if (written == bytes.size()) return true;
  }
  Ref rest = owned_rest(data, bytes, &written);
  if (!rest || (is_first && !wait_writable(state, self, loop.get(), fd))) return false;
  // Runs Python: pause_writing().
  return append_to_buffer(gil, *buffer, std::move(rest), written) && call_method(self, state.names._maybe_pause_protocol);
}

PyObject* write_pipe_write(PyObject* self, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames) {
  const Gil gil = Gil::in_slot();
  PyObject* const data = only_argument("write", "data", args, nargs, kwnames);
  if (data == nullptr) return nullptr;
  const ModuleState& state = *state_of_type(Py_TYPE(self));
  if (!assert_bytes_like(data)) return nullptr;
  const int closing = is_true(self, state.names._closing);
  const int lost = closing == 0 ? is_true(self, state.names._conn_lost) : 0;
  if (closing < 0 || lost < 0) return nullptr;
  if (closing + lost > 0) return PyObject_CallMethodOneArg(self, state.names._write_lost, data);
  Py_buffer view;
  if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0) {
    // A view with gaps: os.write() refuses it as well, and asyncio closes the transport unless it only had to queue.
    Ref exception = take_exception(gil);
    Ref owner;
    PipeBufferObject* const buffer = buffer_of(state, self, &owner);
    if (buffer == nullptr || !buffer->queue().empty()) {
      set_exception(gil, std::move(exception));
      return nullptr;
    }
    return PyObject_CallMethodOneArg(self, state.names._write_failed, exception.get());
  }
  const std::span<const std::byte> bytes(static_cast<const std::byte*>(view.buf), static_cast<size_t>(view.len));
  const bool succeeded = bytes.empty() || write_bytes(gil, state, self, data, bytes);
  PyBuffer_Release(&view);
  return none_if(succeeded);
}

PyObject* write_pipe_write_ready(PyObject* self, PyObject*) {
  const Gil gil = Gil::in_slot();
  const ModuleState& state = *state_of_type(Py_TYPE(self));
  Ref owner;
  PipeBufferObject* const buffer = buffer_of(state, self, &owner);
  const int fd = buffer != nullptr ? fd_of(state, self) : -1;
  if (fd == pipe_closed) return none_if(call_with_error(gil, self, state.names._write_failed, Errno::bad_fd));
  if (fd < 0) return nullptr;
  std::array<iovec, iov_max> iov;
  const size_t pieces = buffer->queue().peek(iov);
  if (pieces > 0) {
    Result<size_t> count = io::write_vector(fd, {iov.data(), pieces});
    if (!count.ok()) {
      return none_if(count.error() == Errno::again ||
                     call_with_error(gil, self, state.names._write_failed, count.error()));
    }
    buffer->queue().consume(count.value());
  }
  if (!buffer->queue().empty()) Py_RETURN_NONE;
  return none_if(call_method(self, state.names._drained));
}

// --- the types ------------------------------------------------------------------------------------------------

constexpr Method read_pipe_methods[] = {
    {"_read_ready", read_pipe_read_ready, METH_NOARGS, nullptr},
    {},
};

constexpr Method write_pipe_methods[] = {
    {"write", write_pipe_write,
     "write($self, data)\n--\n\nWrite data, a bytes-like object, without blocking; see asyncio.WriteTransport.write()."},
    {"_write_ready", write_pipe_write_ready, METH_NOARGS, nullptr},
    {},
};

bool add_fieldless_type(Gil gil, PyObject* module, const char* name, const char* doc, const Method* methods) noexcept {
  const Ref type = Ref::steal(reinterpret_cast<PyObject*>(make_heap_type(gil, module, {
      .name = name,
      .object_bytes = sizeof(PyObject),
      .flags = Py_TPFLAGS_BASETYPE | Py_TPFLAGS_IMMUTABLETYPE,
      .doc = doc,
      .methods = {methods},
  })));
  return static_cast<bool>(type);
}

}  // namespace

bool add_pipe_types(Gil gil, PyObject* module, ModuleState& state) noexcept {
  return add_pipe_buffer_type(gil, module, state) &&
         add_fieldless_type(gil, module, "cxxloop._core.ReadPipe", "The native half of a read pipe's transport.",
                            read_pipe_methods) &&
         add_fieldless_type(gil, module, "cxxloop._core.WritePipe", "The native half of a write pipe's transport.",
                            write_pipe_methods);
}

}  // namespace cxxloop::python
