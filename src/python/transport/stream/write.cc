// SPDX-License-Identifier: MIT
//
// python/transport/stream/write.cc: write(), flow control, half-close.
#include <algorithm>

#include "python/interp/bytes_like.h"
#include "python/interp/error.h"
#include "python/transport/stream/stream_transport.h"

namespace cxxloop::python {
namespace {

constexpr const char* write_failure = "Fatal write error on socket transport";

constexpr const char* not_bytes_like =
#if PY_VERSION_HEX >= 0x030E0000
    "data argument must be a bytes, bytearray, or memoryview object, not %R";
#else
    "data argument must be a bytes-like object, not %R";
#endif

#if PY_VERSION_HEX >= 0x030C0000
// True if a view of `data` is one of the memory that `data` has shown before: no __buffer__() of the program makes it.
bool exports_same_memory(PyObject* data) noexcept {
  const getbufferproc get = Py_TYPE(data)->tp_as_buffer->bf_getbuffer;
  return PyMemoryView_Check(data) || get == PyByteArray_Type.tp_as_buffer->bf_getbuffer ||
         get == PyBytes_Type.tp_as_buffer->bf_getbuffer;
}

// Of a chunk whose owner is a view: ends the export that append_view() has made.
void release_view(void* owner) noexcept {
  Py_buffer bytes{};
  bytes.obj = static_cast<PyObject*>(owner);
  PyBuffer_Release(&bytes);
}

// A view that keeps the bytes of `data` in place. Null without an exception: they do not lie side by side.
// Runs Python: __buffer__() of the program, unless exports_same_memory().
Ref hold_bytes(Gil, PyObject* data) noexcept {
  Ref view = Ref::steal(PyMemoryView_FromObject(data));
  if (view && PyBuffer_IsContiguous(PyMemoryView_GET_BUFFER(view.get()), 'C') == 0) return {};
  return view;
}
#endif

}  // namespace

// asyncio's checks before anything is queued. *drop: the connection is lost, the data goes nowhere.
bool StreamTransport::check_writable(Gil gil, const char* method, bool* drop) noexcept {
  *drop = false;
  if (eof_written) {
    PyErr_Format(PyExc_RuntimeError, "Cannot call %s() after write_eof()", method);
    return false;
  }
  if (empty_waiter) {
    PyErr_Format(PyExc_RuntimeError, "unable to %s; sendfile is in progress", method);
    return false;
  }
  if (is_lost()) {
    *drop = true;
    return note_lost_write(gil);
  }
  // In a forked child the new bytes must not go out behind a copy of the parent's.
  if (stream_.is_linked() && core_->engine.cork().is_inherited()) core_->engine.cork().pull_early(stream_);
  return true;
}

bool StreamTransport::write(Gil gil, PyObject* data) noexcept {
  if (!is_bytes_like(data)) return raise_not_bytes_like(gil, data, not_bytes_like);
  const Py_ssize_t length = PyBytes_CheckExact(data) ? PyBytes_GET_SIZE(data) : PyObject_Size(data);
  if (length < 0) return false;
  if (length == 0 && !eof_written && !empty_waiter) return true;
  bool drop = false;
  if (!is_plainly_writable() && !check_writable(gil, "write", &drop)) return false;
  if (drop || length == 0) return true;
  if (!is_attached()) return send_after_loop_closed(gil, data);
  return PyBytes_CheckExact(data) ? append_owned(gil, Ref::borrow(data)) && after_append(gil) : write_buffer(gil, data);
}

// After loop.close() asyncio still sends, and raises only if the send would have to wait.
bool StreamTransport::send_after_loop_closed(Gil gil, PyObject* data) noexcept {
  if (queue_lost_) return true;
  if (is_lingering()) raise_errno(gil, Errno::bad_fd);  // the socket is closed as soon as it can be
  const Ref sent = is_lingering() ? Ref() : Ref::steal(PyObject_CallMethodOneArg(sock.get(), state_.names.send, data));
  if (sent) {
    const Ref length = Ref::steal(PyLong_FromSsize_t(PyObject_Length(data)));
    const int all = length ? PyObject_RichCompareBool(sent.get(), length.get(), Py_GE) : -1;
    return all == 1 || (all == 0 && check_closed(gil, core_of(loop.get())));
  }
  Ref exception = take_exception(gil);
  if (PyErr_GivenExceptionMatches(exception.get(), PyExc_BlockingIOError) != 0) {
    return check_closed(gil, core_of(loop.get()));
  }
  const Ref message = Ref::steal(PyUnicode_FromString(write_failure));
  return fatal_error(gil, exception.get(), message.get());
}

// Queues exact bytes by reference. An empty chunk could never be sent.
bool StreamTransport::append_owned(Gil, Ref bytes) noexcept {
  const size_t size = static_cast<size_t>(PyBytes_GET_SIZE(bytes.get()));
  if (size == 0) return true;
  if (!stream_.append({reinterpret_cast<const std::byte*>(PyBytes_AS_STRING(bytes.get())), size, bytes.get()})) {
    PyErr_NoMemory();
    return false;
  }
  (void)bytes.release();
  return true;
}

// Anything but bytes may change after write(). The kernel is offered what is large before it is copied or kept.
bool StreamTransport::write_buffer(Gil gil, PyObject* data) noexcept {
  Py_buffer view;
  if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0) {
    fail(gil, write_failure);  // asyncio's send() meets the same error
    return true;
  }
  if (!is_attached()) {  // a __buffer__() of the program has closed the loop
    PyBuffer_Release(&view);
    return send_after_loop_closed(gil, data);
  }
  const std::span<const std::byte> bytes(static_cast<const std::byte*>(view.buf), static_cast<size_t>(view.len));
  const bool is_large = bytes.size() >= send_before_copy_bytes;
  const bool offered = is_large && !stream_.is_send_waiting() && stream_.queue().chunks() < io::SendOp::iov_max;
  const size_t left = is_large ? stream_.flush_with(bytes) : bytes.size();
  const bool appended = left == 0 || append_rest(gil, data, bytes.last(left), offered);
  PyBuffer_Release(&view);
  if (!appended) return false;
  if (!is_attached()) return left == 0 || check_closed(gil, core_of(loop.get()));  // a __release_buffer__() has closed the loop
  return left > 0 && offered ? send_appended(gil) : after_append(gil);
}

// `rest`: the end of the bytes of `data`, not sent yet. `offered`: they stood first, and the kernel was full.
bool StreamTransport::append_rest(Gil gil, PyObject* data, std::span<const std::byte> rest, bool offered) noexcept {
#if PY_VERSION_HEX >= 0x030C0000
  // asyncio keeps a view of what the kernel was offered and has not taken. Behind other data it keeps the object itself:
  // a bytearray there can still be resized, so it is copied.
  const bool waits_unseen = stream_.is_send_waiting() && PyMemoryView_Check(data);
  if (rest.size() >= send_before_copy_bytes && exports_same_memory(data) && (offered || waits_unseen)) {
    const Ref view = hold_bytes(gil, data);
    return view && append_view(gil, view.get(), rest.size());
  }
#else
  (void)data, (void)offered;
#endif
  Ref copy = Ref::steal(
      PyBytes_FromStringAndSize(reinterpret_cast<const char*>(rest.data()), static_cast<Py_ssize_t>(rest.size())));
  return copy && append_owned(gil, std::move(copy));
}

#if PY_VERSION_HEX < 0x030C0000
// asyncio's writelines() of 3.11: joined, with the errors of join() and write().
bool StreamTransport::write_lines(Gil gil, PyObject* list_of_data) noexcept {
  const Ref separator = Ref::steal(PyBytes_FromStringAndSize(nullptr, 0));
  if (!separator) return false;
  const Ref joined = Ref::steal(PyObject_CallMethod(separator.get(), "join", "(O)", list_of_data));
  return joined && write(gil, joined.get());
}
#else
bool StreamTransport::write_lines(Gil gil, PyObject* list_of_data) noexcept {
  bool drop = false;
  if (eof_written || empty_waiter) return check_writable(gil, "writelines", &drop);
  if (!PyList_CheckExact(list_of_data)) {  // asyncio's `if not list_of_data`
    // Runs Python: __bool__(), which may do what an iterator of lines may do.
    const int is_true = PyObject_IsTrue(list_of_data);
    if (is_true <= 0) return is_true == 0;
  }
  const Ref lines = Ref::steal(PySequence_List(list_of_data));
  if (!lines) return false;
  const Py_ssize_t count = PyList_GET_SIZE(lines.get());
  bool holds_views = false;
  for (Py_ssize_t i = 0; i < count; ++i) {  // all of them are taken, or none
    PyObject* const line = PyList_GET_ITEM(lines.get(), i);
    if (PyBytes_CheckExact(line)) continue;
    Ref kept = keep_line(gil, line);
    if (!kept) return false;
    holds_views = holds_views || PyMemoryView_Check(kept.get());
    if (PyList_SetItem(lines.get(), i, kept.release()) < 0) return false;
  }
  if (count == 0) return true;
  if (!check_writable(gil, "writelines", &drop)) return false;
  if (drop) return true;
  if (!is_attached()) {
    for (Py_ssize_t i = 0; i < count; ++i) {
      if (!send_after_loop_closed(gil, PyList_GET_ITEM(lines.get(), i))) return false;
    }
    return true;
  }
  if (!stream_.reserve(static_cast<size_t>(count))) return PyErr_NoMemory() != nullptr;
  for (Py_ssize_t i = 0; i < count; ++i) {
    if (!append_line(gil, PyList_GET_ITEM(lines.get(), i))) return false;
  }
  // Memory that may change is offered to the kernel now, as asyncio does.
  return holds_views && !stream_.is_send_waiting() ? send_appended(gil) : after_append(gil);
}

// Queues the last `size` bytes of a view, and an export of it: a program that finds the view (gc.get_referents()) could
// release it, while the queue sends from its memory. When the view ends, the exporter behind it may call the program.
bool StreamTransport::append_view(Gil, PyObject* view, size_t size) noexcept {
  Py_buffer bytes;
  if (PyObject_GetBuffer(view, &bytes, PyBUF_SIMPLE) < 0) return false;
  CXL_ASSERT(bytes.obj == view && size > 0 && size <= static_cast<size_t>(bytes.len));
  const std::byte* const end = static_cast<const std::byte*>(bytes.buf) + bytes.len;
  if (stream_.append({end - size, size, view, release_view})) return true;
  PyBuffer_Release(&bytes);
  PyErr_NoMemory();
  return false;
}

// A view of a large buffer, a copy of any other.
Ref StreamTransport::keep_line(Gil gil, PyObject* line) noexcept {
  Ref view = hold_bytes(gil, line);
  const Py_ssize_t size = view ? PyMemoryView_GET_BUFFER(view.get())->len : 0;
  if (size >= static_cast<Py_ssize_t>(send_before_copy_bytes)) return view;
  return PyErr_Occurred() == nullptr ? Ref::steal(PyBytes_FromObject(view ? view.get() : line)) : Ref();
}

bool StreamTransport::append_line(Gil gil, PyObject* line) noexcept {
  if (PyBytes_CheckExact(line)) return append_owned(gil, Ref::borrow(line));
  return append_view(gil, line, static_cast<size_t>(PyMemoryView_GET_BUFFER(line)->len));
}

#endif

// What the program does with the descriptor itself must come behind what it wrote to us before, as with asyncio.
bool StreamTransport::is_shared() const noexcept {
  constexpr Py_ssize_t own_references = 2;  // ours and our TransportSocket's
  return descriptor_given_out_ || Py_REFCNT(sock.get()) > own_references;
}

// Sends when the callback ends, or now if the queue is over the cork's limit or the high mark.
bool StreamTransport::after_append(Gil gil) noexcept {
  const size_t queued = stream_.queued_bytes();
  if (queued == 0) return true;
  if (!stream_.is_send_waiting()) {
    if (core_->engine.cork().may_hold(queued, flow_.marks().high_bytes()) && !is_shared()) {
      core_->engine.cork().add(stream_);
      return true;
    }
    return send_appended(gil);
  }
  return flow_.maybe_pause(gil, parties(), stream_.queued_bytes());
}

bool StreamTransport::send_appended(Gil gil) noexcept {
  LoopCore& core = core_of(loop.get());
  core.engine.expect_io();
  stream_.flush();
  release_sent(gil);
  if (core.exit_exception) return true;
  return flow_.maybe_pause(gil, parties(), stream_.queued_bytes());
}

void StreamTransport::release_sent(Gil gil) noexcept {
  if (!stream_.queue().has_spent()) return;
  Ref exception = take_exception(gil);
  stream_.release_spent();
  if (exception) set_exception(gil, std::move(exception));
}

void StreamTransport::send_held_back() noexcept {
  if (!is_attached() || !stream_.is_held_back()) return;
  core_->engine.cork().pull_early(stream_);
}

void StreamTransport::share_descriptor() noexcept {
  descriptor_given_out_ = true;
  send_held_back();
}

size_t StreamTransport::write_buffer_size() noexcept {
  send_held_back();
  return stream_.queued_bytes();
}

PyObject* StreamTransport::copy_write_buffer(Gil) noexcept {
  const size_t queued = write_buffer_size();
  size_t dropped = stream_.queue().bytes() - queued;
  const Ref chunks = Ref::steal(PyList_New(0));
  for (size_t i = 0; chunks && i < stream_.queue().chunks(); ++i) {
    std::span<const std::byte> bytes = stream_.queue().chunk(i);
    const size_t skip = std::min(dropped, bytes.size());
    dropped -= skip;
    bytes = bytes.subspan(skip);
    if (bytes.empty()) continue;
    const Ref chunk = Ref::steal(PyBytes_FromStringAndSize(reinterpret_cast<const char*>(bytes.data()),
                                                           static_cast<Py_ssize_t>(bytes.size())));
    if (!chunk || PyList_Append(chunks.get(), chunk.get()) < 0) return nullptr;
  }
  if (!chunks) return nullptr;
#if PY_VERSION_HEX >= 0x030C0000
  const Ref collections = Ref::steal(PyImport_ImportModule("collections"));
  return collections ? PyObject_CallMethod(collections.get(), "deque", "O", chunks.get()) : nullptr;
#else
  const Ref nothing = Ref::steal(PyByteArray_FromStringAndSize("", 0));
  return nothing ? PyObject_CallMethod(nothing.get(), "join", "O", chunks.get()) : nullptr;
#endif
}

// Captures the context for resume_writing(), as asyncio's writer handle does. When the callback that wrote has ended, the
// context of its write() is gone; resume_writing() then runs in the connection's.
void StreamTransport::on_send_waiting(bool is_late) noexcept {
  if (call_context) {
    write_context_ = Ref::borrow(call_context.get());
  } else if (is_late && read_context_) {
    write_context_ = Ref::borrow(read_context_.get());
  } else {
    write_context_ = Ref::steal(PyContext_CopyCurrent());
    if (!write_context_) {  // the data is queued and will be sent; only resume_writing() sees another context
      PyErr_WriteUnraisable(self_object());
      write_context_ = Ref::borrow(read_context_.get());
    }
  }
}

// A send that had to wait went through: asyncio's _write_ready().
void StreamTransport::on_sent() noexcept {
  const Gil gil = Gil::in_slot();
  const Ref pin = Ref::borrow(self_object());
  LoopCore& core = core_of(loop.get());
  const ContextScope scope(gil, write_context_.get());
  release_sent(gil);
  if (!is_lost()) {
    const bool resumed = scope.entered() && flow_.maybe_resume(gil, parties(), stream_.queued_bytes());
    // Even if resume_writing() raised KeyboardInterrupt, finish what follows a drained queue (shutdown or connection_lost):
    // no later event would trigger it.
    if (!resumed) report_or_leave(gil, core, "Exception in callback StreamTransport.on_sent()");
    // Send what resume_writing() wrote now: a closing transport ends when its queue is empty, and no later event follows.
    if (life_ == Life::draining && is_attached()) core_->engine.cork().pull_early(stream_);
    if (!is_lost() && is_attached() && stream_.queued_bytes() == 0 && !on_drained(gil)) {
      report_or_leave(gil, core, "Exception in callback StreamTransport.on_sent()");
    }
  }
}

bool StreamTransport::on_drained(Gil gil) noexcept {
  if (empty_waiter) {
    const Ref set = Ref::steal(PyObject_CallMethodOneArg(empty_waiter.get(), state_.names.set_result, Py_None));
    if (!set) return false;
  }
  if (life_ == Life::draining) {
#if PY_VERSION_HEX >= 0x030E0000
    enter(Life::losing);  // since 3.14 asyncio loses what connection_lost() writes
#endif
    if (call_connection_lost(gil, Py_None)) return true;
    return report(gil, state_, loop.get(), "Exception in callback StreamTransport._call_connection_lost()",
                  {{state_.names.transport, self_object()}});
  }
  if (!eof_written) return true;
  const Errno error = stream_.shutdown_write();
  if (error != Errno::ok) raise_errno(gil, error);
  return error == Errno::ok;
}

void StreamTransport::on_write_error(Errno error) noexcept {
  const Gil gil = Gil::in_slot();
  const Ref pin = Ref::borrow(self_object());
  release_sent(gil);
  if (is_lost()) return;
  Ref exception = make_os_error(gil, error);
  const Ref waiter = Ref::borrow(empty_waiter.get());
  set_exception(gil, Ref::borrow(exception.get()));
  fail(gil, write_failure);
  if (waiter) {
    empty_waiter.reset();
    const Ref set = Ref::steal(PyObject_CallMethodOneArg(waiter.get(), state_.names.set_exception, exception.get()));
    if (!set) PyErr_WriteUnraisable(self_object());
  }
}

bool StreamTransport::write_eof(Gil gil) noexcept {
  if (is_closing() || eof_written) return true;
  eof_written = true;
  if (!is_attached()) return queue_lost_ || shutdown_after_loop_closed(gil);
  send_held_back();
  if (is_lost() || stream_.queued_bytes() > 0) return true;
  const Errno error = stream_.shutdown_write();
  if (error != Errno::ok) raise_errno(gil, error);
  return error == Errno::ok;
}

bool StreamTransport::shutdown_after_loop_closed(Gil gil) noexcept {
  if (is_lingering()) return raise_errno(gil, Errno::bad_fd) != nullptr;
  return static_cast<bool>(Ref::steal(PyObject_CallMethod(sock.get(), "shutdown", "i", SHUT_WR)));
}

PyObject* StreamTransport::make_empty_waiter(Gil gil) noexcept {
  if (empty_waiter) {
    PyErr_SetString(PyExc_RuntimeError, "Empty waiter is already set");
    return nullptr;
  }
  const size_t queued = write_buffer_size();
  empty_waiter = create_future(gil, core_of(loop.get()));
  if (!empty_waiter) return nullptr;
  if (queued == 0) {
    const Ref set = Ref::steal(PyObject_CallMethodOneArg(empty_waiter.get(), state_.names.set_result, Py_None));
    if (!set) {
      empty_waiter.reset();  // or nobody could write any more
      return nullptr;
    }
  }
  return Py_NewRef(empty_waiter.get());
}

}  // namespace cxxloop::python
