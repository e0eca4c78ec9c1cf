// SPDX-License-Identifier: MIT
//
// python/loop/watches.cc: add_reader, add_writer and their removal, on watches registered with the poller.
#include "io/socket.h"
#include "python/handle/call_args.h"
#include "python/interp/error.h"
#include "python/loop/loop.h"

namespace cxxloop::python {
namespace {

using net::Direction;

// The former file. A row that is gone, because only numbers were watched, takes none.
Ref exchange_watched_file(LoopCore& core, int fd, Direction direction, Ref file) noexcept {
  FdRow* const row = core.fd_rows.find(fd);
  if (row == nullptr) return file;
  return Ref::steal(std::exchange(row->watched_files[static_cast<size_t>(direction)], file.release()));
}

// A socket that was closed while it was watched has no descriptor any more: find it by identity, as selectors does.
int find_watched_file(LoopCore& core, PyObject* fileobj) noexcept {
  int found = -1;
  core.watches->each([&](int fd, Direction direction, void*) {
    const FdRow* const row = core.fd_rows.find(fd);
    if (found < 0 && row != nullptr && row->watched_files[static_cast<size_t>(direction)] == fileobj) found = fd;
  });
  return found;
}

// Called when a token loses its watch. Cancels a handle, as asyncio cancels a reader that is removed or replaced.
void release_token(Gil gil, LoopCore& core, PyObject* token) noexcept {
  if (token == nullptr) return;
  if (Py_TYPE(token) == core.state.sock_op_type) {
    abandon_sock_op(gil, token);
  } else {
    if (!cancel_handle(gil, *reinterpret_cast<HandleObject*>(token))) PyErr_WriteUnraisable(token);
  }
  drop_loops_reference(token);
}

// fd, callback, *args (and context on 3.15): the handle that now watches. New reference.
PyObject* add_watch(Gil gil, LoopCore& core, Direction direction, const char* method, PyObject* const* args,
                    Py_ssize_t nargs, PyObject* kwnames) noexcept {
  ScheduleArgs parsed;
  if (!parse_schedule_args(gil, method, "fd", args, nargs, kwnames, &parsed)) return nullptr;
  if (!check_closed(gil, core) || !check_forked(gil, core)) return nullptr;
  const int fd = parse_fileobj(gil, core, parsed.leading);
  if (fd < 0) return nullptr;
  HandleObject* const handle = make_handle(gil, core, parsed.handle);
  if (handle == nullptr) return nullptr;
  Ref result = Ref::steal(as_object(handle));
  track_unless_running(core, handle);
  core.has_untracked_watches = true;
  // Runs Python: a destructor of what the former handle held may close the loop.
  if (!watch_fd(gil, core, fd, direction, result.get())) return nullptr;
  if (core.closed) return result.release();
  PyObject* const file = PyLong_CheckExact(parsed.leading) ? nullptr : parsed.leading;
  const Ref former = exchange_watched_file(core, fd, direction, Ref::borrow(file));
  return result.release();
}

PyObject* remove_watch(Gil gil, LoopCore& core, Direction direction, PyObject* fileobj) noexcept {
  if (core.closed || core.backend == nullptr) Py_RETURN_FALSE;
  // Runs Python: fileno() may close the loop.
  int fd = parse_fileobj(gil, core, fileobj);
  if (fd < 0) {
    if (PyErr_ExceptionMatches(PyExc_OverflowError) != 0) {  // a number that nobody can have watched
      PyErr_Clear();
      Py_RETURN_FALSE;
    }
    if (core.closed || PyErr_ExceptionMatches(PyExc_ValueError) == 0) return nullptr;
    const int found = find_watched_file(core, fileobj);
    if (found < 0) return nullptr;
    PyErr_Clear();
    fd = found;
  }
  if (core.closed) Py_RETURN_FALSE;
  return PyBool_FromLong(unwatch_fd(gil, core, fd, direction));
}

// The public methods refuse the descriptors of transports; asyncio's own code uses the private ones.
PyObject* add_public_watch(Direction direction, const char* method, PyObject* self, PyObject* const* args,
                           Py_ssize_t nargs, PyObject* kwnames) noexcept {
  const Gil gil = Gil::in_slot();
  LoopCore& core = core_of(self);
  ScheduleArgs parsed;
  if (!parse_schedule_args(gil, method, "fd", args, nargs, kwnames, &parsed)) return nullptr;
  if (!ensure_fd_no_transport(gil, core, parsed.leading)) return nullptr;
  const Ref handle = Ref::steal(add_watch(gil, core, direction, method, args, nargs, kwnames));
  if (!handle) return nullptr;
  Py_RETURN_NONE;
}

PyObject* remove_public_watch(Direction direction, PyObject* self, PyObject* fileobj) noexcept {
  const Gil gil = Gil::in_slot();
  LoopCore& core = core_of(self);
  if (!ensure_fd_no_transport(gil, core, fileobj)) return nullptr;
  return remove_watch(gil, core, direction, fileobj);
}

PyObject* loop_add_reader(PyObject* self, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames) {
  return add_public_watch(Direction::read, "add_reader", self, args, nargs, kwnames);
}
PyObject* loop_add_writer(PyObject* self, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames) {
  return add_public_watch(Direction::write, "add_writer", self, args, nargs, kwnames);
}

PyObject* loop_remove_reader(PyObject* self, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames) {
  PyObject* const fd = only_argument("remove_reader", "fd", args, nargs, kwnames);
  return fd != nullptr ? remove_public_watch(Direction::read, self, fd) : nullptr;
}
PyObject* loop_remove_writer(PyObject* self, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames) {
  PyObject* const fd = only_argument("remove_writer", "fd", args, nargs, kwnames);
  return fd != nullptr ? remove_public_watch(Direction::write, self, fd) : nullptr;
}

PyObject* loop_add_reader_private(PyObject* self, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames) {
  return add_watch(Gil::in_slot(), core_of(self), Direction::read, "_add_reader", args, nargs, kwnames);
}
PyObject* loop_add_writer_private(PyObject* self, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames) {
  return add_watch(Gil::in_slot(), core_of(self), Direction::write, "_add_writer", args, nargs, kwnames);
}
PyObject* loop_remove_reader_private(PyObject* self, PyObject* fd) {
  return remove_watch(Gil::in_slot(), core_of(self), Direction::read, fd);
}
PyObject* loop_remove_writer_private(PyObject* self, PyObject* fd) {
  return remove_watch(Gil::in_slot(), core_of(self), Direction::write, fd);
}

PyObject* loop_ensure_fd_no_transport(PyObject* self, PyObject* fileobj) {
  if (!ensure_fd_no_transport(Gil::in_slot(), core_of(self), fileobj)) return nullptr;
  Py_RETURN_NONE;
}

// For repr() of asyncio's transports: a bit mask as of selectors.EVENT_READ and EVENT_WRITE.
PyObject* loop_watched_events(PyObject* self, PyObject* fileobj) {
  LoopCore& core = core_of(self);
  const int fd = parse_fileobj(Gil::in_slot(), core, fileobj);
  if (fd < 0) return nullptr;
  if (core.watches == nullptr) return PyLong_FromLong(0);
  return PyLong_FromLong((core.watches->token(fd, Direction::read) != nullptr ? 1 : 0) |
                         (core.watches->token(fd, Direction::write) != nullptr ? 2 : 0));
}

}  // namespace

int parse_fileobj(Gil, LoopCore& core, PyObject* fileobj) noexcept {
  Ref number = PyLong_Check(fileobj) ? Ref::borrow(fileobj) : Ref();
  if (!number) {
    const Ref method = Ref::steal(PyObject_GetAttr(fileobj, core.state.names.fileno));
    if (method) number = Ref::steal(PyObject_CallNoArgs(method.get()));
    if (number) number = Ref::steal(PyNumber_Long(number.get()));
    if (!number) {
      if (PyErr_ExceptionMatches(PyExc_AttributeError) == 0 && PyErr_ExceptionMatches(PyExc_TypeError) == 0 &&
          PyErr_ExceptionMatches(PyExc_ValueError) == 0) {
        return -1;
      }
      PyErr_Clear();
      PyErr_Format(PyExc_ValueError, "Invalid file object: %R", fileobj);
      return -1;
    }
  }
  int overflow = 0;
  const long fd = PyLong_AsLongAndOverflow(number.get(), &overflow);
  if (fd == -1 && PyErr_Occurred() != nullptr) return -1;
  if (overflow > 0 || fd > INT32_MAX) {  // the error of asyncio's poller
    PyErr_SetString(PyExc_OverflowError, "Python int too large to convert to C int");
    return -1;
  }
  if (fd >= 0) return static_cast<int>(fd);
  PyErr_Format(PyExc_ValueError, "Invalid file descriptor: %S", number.get());
  return -1;
}

bool ensure_fd_no_transport(Gil gil, LoopCore& core, PyObject* fileobj) noexcept {
  const int fd = parse_fileobj(gil, core, fileobj);
  if (fd < 0) {
    if (PyErr_ExceptionMatches(PyExc_OverflowError) != 0) {  // no transport has such a number
      PyErr_Clear();
      return true;
    }
    // As in asyncio, a closed file is an error of the poller; an object that is no file is refused here.
    if (PyErr_ExceptionMatches(PyExc_ValueError) == 0) return false;
    Ref exception = take_exception(gil);
    const Ref method = Ref::steal(PyObject_GetAttr(fileobj, core.state.names.fileno));
    PyErr_Clear();
    if (PyLong_Check(fileobj) || method) return true;
    set_exception(gil, std::move(exception));
    return false;
  }
  const Served* const transport = transport_of_fd(core, fd);
  if (transport == nullptr || !transport->keeps_descriptor()) return true;
  PyErr_Format(PyExc_RuntimeError, "File descriptor %R is used by transport %R", fileobj, transport->object());
  return false;
}

FdRow* make_fd_row(Gil gil, LoopCore& core, int fd) noexcept {
  FdRow* row = core.fd_rows.find(fd);
  if (row != nullptr) return row;
  if (!io::is_open(fd)) {  // before the table grows by a number that is no descriptor
    raise_errno(gil, Errno::bad_fd);
    return nullptr;
  }
  row = core.fd_rows.find_or_make(fd);
  if (row == nullptr) PyErr_NoMemory();
  return row;
}

bool watch_fd(Gil gil, LoopCore& core, int fd, Direction direction, PyObject* token) noexcept {
  if (!check_closed(gil, core) || make_fd_row(gil, core, fd) == nullptr) return false;  // a __buffer__() may close the loop
  core.engine.expect_io();
  void* replaced = nullptr;
  const Errno error = core.watches->watch(fd, direction, token, &replaced);
  if (error == Errno::ok) Py_INCREF(token);
  Ref lost_file;
  if (error != Errno::ok && replaced != nullptr) {
    lost_file = exchange_watched_file(core, fd, direction, Ref());
  }
  release_token(gil, core, static_cast<PyObject*>(replaced));
  if (error == Errno::ok) return true;
  raise_errno(gil, error);
  return false;
}

bool unwatch_fd(Gil gil, LoopCore& core, int fd, Direction direction) noexcept {
  void* const token = core.watches->unwatch(fd, direction);
  if (token == nullptr) return false;
  const Ref file = exchange_watched_file(core, fd, direction, Ref());
  release_token(gil, core, static_cast<PyObject*>(token));
  return true;
}

void release_watches(Gil gil, LoopCore& core) noexcept {
  if (core.watches == nullptr) return;
  core.watches->each([&](int fd, Direction direction, void*) { unwatch_fd(gil, core, fd, direction); });
}

void on_watch_ready(void* context, void* token, int fd, Direction direction) noexcept {
  const Gil gil = Gil::in_slot();
  LoopCore& core = *static_cast<LoopCore*>(context);
  const Ref pin = Ref::borrow(static_cast<PyObject*>(token));
  if (Py_TYPE(pin.get()) == core.state.sock_op_type) return run_sock_op(gil, core, pin.get());
  if (reinterpret_cast<HandleObject*>(token)->cancelled) {
    unwatch_fd(gil, core, fd, direction);
    return;
  }
  // Runs Python: the callback may remove or replace the watch, close the loop, or raise.
  const bool go_on = core.debug ? run_timed(gil, core, pin.get()) : run_any_handle(gil, core, pin.get());
  if (!go_on) leave_run_forever(gil, core);
}

constexpr Method watch_methods[] = {
    {"add_reader", loop_add_reader,
     "add_reader($self, fd, callback, *args)\n--\n\n"
     "Call callback(*args) whenever fd (a descriptor or an object with fileno()) is readable; see asyncio.loop.add_reader().\n\n"
     "Raises RuntimeError if a transport uses the descriptor, OSError if it cannot be polled."},
    {"add_writer", loop_add_writer,
     "add_writer($self, fd, callback, *args)\n--\n\n"
     "Call callback(*args) whenever fd (a descriptor or an object with fileno()) is writable; see asyncio.loop.add_writer().\n\n"
     "Raises RuntimeError if a transport uses the descriptor, OSError if it cannot be polled."},
    {"remove_reader", loop_remove_reader,
     "remove_reader($self, fd)\n--\n\nStop watching fd for reading. Returns True if it was watched."},
    {"remove_writer", loop_remove_writer,
     "remove_writer($self, fd)\n--\n\nStop watching fd for writing. Returns True if it was watched."},
    {"_add_reader", loop_add_reader_private, nullptr},
    {"_add_writer", loop_add_writer_private, nullptr},
    {"_remove_reader", loop_remove_reader_private, METH_O, nullptr},
    {"_remove_writer", loop_remove_writer_private, METH_O, nullptr},
    {"_ensure_fd_no_transport", loop_ensure_fd_no_transport, METH_O, nullptr},
    {"_watched_events", loop_watched_events, METH_O, nullptr},
    {},
};

}  // namespace cxxloop::python
