// SPDX-License-Identifier: MIT
#include "python/transport/socket_transport.h"

#include <cstring>

#include "python/interp/error.h"

namespace cxxloop::python {
namespace {

[[maybe_unused]] constexpr bool may_enter(Life from, Life to) noexcept {
  switch (from) {
    case Life::open: return to == Life::draining || to == Life::ending || to == Life::losing;
    case Life::draining: return to == Life::ending || to == Life::losing;
    case Life::ending: return to == Life::losing || to == Life::releasing;
    case Life::losing: return to == Life::draining || to == Life::releasing;
    case Life::releasing: return to == Life::closed;
    case Life::closed: return false;
  }
  return false;
}

}  // namespace

SocketTransport::SocketTransport(TransportObject& self, LoopCore& core, int fd_of_sock) noexcept
    : loop(Ref::borrow(as_object(core.self))),
      fd(fd_of_sock),
      self_(self),
      state_(core.state),
      core_(&core),
      flow_(core.state) {}

// connection_made() first; reading starts only after it, the waiter wakes only after that.
bool SocketTransport::schedule_start(Gil gil, PyObject* waiter) noexcept {
  const Ref made = Ref::steal(PyObject_GetAttr(protocol.get(), state_.names.connection_made));
  const Ref start = Ref::steal(PyObject_GetAttr(self_object(), state_.names._start_reading));
  if (!made || !start) return false;
  PyObject* const context = callback_context();
  PyObject* const made_args[] = {self_object()};
  if (!schedule(gil, *core_, made.get(), made_args, 1, context)) return false;
  if (!schedule(gil, *core_, start.get(), nullptr, 0, context)) return false;
  if (waiter == Py_None) return true;
  PyObject* const waiter_args[] = {waiter, Py_None};
  return schedule(gil, *core_, state_.imports.set_result_unless_cancelled, waiter_args, 2, context);
}

bool SocketTransport::set_protocol(Gil, PyObject* new_protocol) noexcept {
  protocol = Ref::borrow(new_protocol);
  return true;
}

// --- reading --------------------------------------------------------------------------------------------------

bool SocketTransport::start_reading(Gil gil) noexcept { return !is_reading() || start_channel(gil); }

// Each start captures the current context for the callbacks to come, as asyncio's reader handles do.
bool SocketTransport::start_channel(Gil gil) noexcept {
  if (!is_attached()) {
    if (check_closed(gil, core_of(loop.get()))) raise_errno(gil, Errno::bad_fd);  // after finalize()
    return false;
  }
  PyObject* const context = callback_context();
  read_context_ = context != nullptr ? Ref::borrow(context) : Ref::steal(PyContext_CopyCurrent());
  if (!read_context_) return false;
  core_->engine.expect_io();
  const Errno error = channel_->start_reading();
  if (error != Errno::ok) {
    raise_errno(gil, error);
    return false;
  }
  return true;
}

bool SocketTransport::pause_reading(Gil gil) noexcept {
  if (!is_reading()) return true;
  paused_ = true;
  if (is_attached()) channel_->stop_reading();
  return log_debug(gil, "%r pauses reading");
}

bool SocketTransport::resume_reading(Gil gil) noexcept {
  if (is_closing() || !paused_) return true;
  paused_ = false;
  return start_channel(gil) && log_debug(gil, "%r resumes reading");
}

// --- writing --------------------------------------------------------------------------------------------------

bool SocketTransport::set_write_limits(Gil gil, PyObject* high, PyObject* low) noexcept {
  return flow_.set_limits(gil, high, low) && flow_.maybe_pause(gil, parties(), write_buffer_size());
}

bool SocketTransport::note_lost_write(Gil) noexcept {
  const Ref threshold =
      Ref::steal(PyObject_GetAttrString(state_.imports.constants_module, "LOG_THRESHOLD_FOR_CONNLOST_WRITES"));
  if (!threshold) return false;
  const long limit = PyLong_AsLong(threshold.get());
  if (limit == -1 && PyErr_Occurred() != nullptr) return false;
  if (static_cast<long>(conn_lost()) >= limit) {
    const Ref text = Ref::steal(PyUnicode_FromString("socket.send() raised exception."));
    PyObject* const args[] = {state_.imports.logger, text.get()};
    if (!text || !Ref::steal(PyObject_VectorcallMethod(state_.names.warning, args, 2, nullptr))) return false;
  }
  ++lost_writes_;
  return true;
}

// --- closing --------------------------------------------------------------------------------------------------

void SocketTransport::enter(Life next) noexcept {
  CXL_ASSERT(may_enter(life_, next));
  life_ = next;
}

bool SocketTransport::close(Gil gil) noexcept {
  if (life_ == Life::open) {
    enter(Life::draining);
    if (is_attached()) channel_->stop_reading();
    send_held_back();
  }
  if (life_ != Life::draining || !channel_->is_drained() || queue_lost_) return true;
  return lose(gil, Py_None);
}

// Sends what the cork holds back: asyncio would have sent those bytes inside write().
bool SocketTransport::abort(Gil gil) noexcept {
  send_held_back();
  return force_close(gil, Py_None);
}

bool SocketTransport::force_close(Gil gil, PyObject* exception) noexcept {
  return is_lost() || lose(gil, exception);
}

// Schedules connection_lost(exception), unless it runs. What is queued is dropped; a queue that has just drained would
// still call back.
bool SocketTransport::lose(Gil gil, PyObject* exception) noexcept {
  const bool is_told = life_ == Life::ending;
  enter(Life::losing);
  if (is_attached()) {
    channel_->stop_reading();
    channel_->drop_writes();
  }
  release_sent(gil);
  return is_told || life_ != Life::losing || schedule_connection_lost(gil, exception);
}

bool SocketTransport::schedule_connection_lost(Gil gil, PyObject* exception) noexcept {
  LoopCore& core = core_of(loop.get());
  if (!check_closed(gil, core)) return false;
  const Ref callback = Ref::steal(PyObject_GetAttr(self_object(), state_.names._call_connection_lost));
  PyObject* const args[] = {exception};
  if (callback && schedule(gil, core, callback.get(), args, 1, callback_context())) return true;
  enter(Life::draining);  // no memory
  return false;
}

bool SocketTransport::call_connection_lost(Gil gil, PyObject* exception) noexcept {
  if (life_ == Life::ending || life_ >= Life::releasing || !protocol) return true;
  if (!is_lost()) enter(Life::ending);  // what was queued is sent
  const Ref pin = Ref::borrow(self_object());
  const Ref receiver = Ref::borrow(protocol.get());
  // Runs Python: the protocol may do anything but bring us back.
  const Ref outcome = Ref::steal(PyObject_CallMethodOneArg(receiver.get(), state_.names.connection_lost, exception));
  Ref error = outcome ? Ref() : take_exception(gil);
  if (life_ == Life::losing || life_ == Life::ending) {
    if (is_attached()) {
      send_held_back();
      channel_->drop_writes();  // what connection_lost() has written and the kernel did not take
    }
    enter(Life::releasing);
    detach(gil);
  }
  if (!after_connection_lost(gil)) error = take_exception(gil);
  if (!error) return true;
  set_exception(gil, std::move(error));
  return false;
}

// Takes every op back. on_channel_released() follows: at once, or when the kernel lets go.
void SocketTransport::detach(Gil) noexcept {
  LoopCore* const core = std::exchange(core_, nullptr);
  if (core != nullptr && !channel_->release()) core->lingering.push_back(*this);
  if (!is_lingering()) on_channel_released();
}

void SocketTransport::on_backend_drained(Gil) noexcept { channel_->finish_release(); }

void SocketTransport::on_channel_released() noexcept {
  const Gil gil = Gil::in_slot();
  unlink();
  if (life_ == Life::releasing) {
    let_go(gil);
  } else if (is_abandoned_) {
    // Keep the socket and the protocol: a destructor that runs later may still write to this transport, or close it.
    close_socket(gil, Ref::borrow(sock.get()));
  }
  release_sent(gil);
}

// The end of the connection.
void SocketTransport::let_go(Gil gil) noexcept {
  enter(Life::closed);
  const Ref old_protocol = protocol.take();
  close_socket(gil, sock.take());
}

// Close through the socket object, so that it never refers to a descriptor that is already closed.
void SocketTransport::close_socket(Gil gil, const Ref& owner) noexcept {
  if (loop) unregister_transport(core_of(loop.get()), fd, this);
  // Runs Python: socket.close().
  const Ref closed = owner ? Ref::steal(PyObject_CallMethodNoArgs(owner.get(), state_.names.close)) : Ref();
  if (!closed && PyErr_Occurred() != nullptr) PyErr_WriteUnraisable(self_object());
  after_socket_closed(gil);
}

bool SocketTransport::fatal_error(Gil gil, PyObject* exception, PyObject* message) noexcept {
  if (is_exit(exception)) {
    set_exception(gil, Ref::borrow(exception));
    return false;
  }
  if (report_fatal(gil, exception, message)) return force_close(gil, exception);
  Ref failure = take_exception(gil);
  // Memory was out for the report. The connection must end all the same, because nobody reads from it any more. If memory
  // is out for that as well, the program can call close() or abort() again.
  if (!is_exit(failure.get()) && !force_close(gil, exception)) PyErr_Clear();
  set_exception(gil, std::move(failure));
  return false;
}

bool SocketTransport::report_fatal(Gil gil, PyObject* exception, PyObject* message) noexcept {
  if (PyErr_GivenExceptionMatches(exception, PyExc_OSError) == 0) {
    return report_exception(gil, state_, loop.get(), Ref::borrow(message), exception,
                            {{state_.names.transport, self_object()}, {state_.names.protocol, protocol.get()}});
  }
  if (message == nullptr) return false;
  if (!core_of(loop.get()).debug) return true;
  const Ref format = Ref::steal(PyUnicode_FromString("%r: %s"));
  const Ref keywords = format ? Ref::steal(PyTuple_Pack(1, state_.names.exc_info)) : Ref();
  PyObject* const args[] = {state_.imports.logger, format.get(), self_object(), message, exception};
  return keywords && Ref::steal(PyObject_VectorcallMethod(state_.names.debug, args, 4, keywords.get()));
}

// The indicator is set: report it as asyncio does and close.
void SocketTransport::fail(Gil gil, const char* message) noexcept {
  LoopCore& core = core_of(loop.get());
  Ref exception = take_exception(gil);
  const Ref text = Ref::steal(PyUnicode_FromString(message));
  if (!fatal_error(gil, exception.get(), text.get())) leave_run_forever(gil, core);
}

bool SocketTransport::log_debug(Gil, const char* format) noexcept {
  if (!core_of(loop.get()).debug) return true;
  const Ref text = Ref::steal(PyUnicode_FromString(format));
  PyObject* const args[] = {state_.imports.logger, text.get(), self_object()};
  return text && Ref::steal(PyObject_VectorcallMethod(state_.names.debug, args, 3, nullptr));
}

void SocketTransport::finalize(Gil gil) noexcept {
  if (!sock) return;
  if (PyErr_ResourceWarning(self_object(), 1, "unclosed transport %R", self_object()) < 0) {
    PyErr_WriteUnraisable(self_object());
  }
  send_held_back();
  is_abandoned_ = true;
  detach(gil);
}

void SocketTransport::detach_from_loop(Gil gil) noexcept {
  if (!is_attached()) return;
  const Ref pin = Ref::borrow(self_object());
  send_held_back();
  queue_lost_ = !channel_->is_drained();
  detach(gil);
}

PyObject* SocketTransport::repr(Gil) noexcept {
  const char* const state = !sock ? " closed" : is_closing() ? " closing" : "";
  const char* const name = Py_TYPE(self_object())->tp_name;
  const char* const dot = std::strrchr(name, '.');
  const char* const short_name = dot != nullptr ? dot + 1 : name;
  const bool has_loop = life_ < Life::releasing && loop && !core_of(loop.get()).closed;  // asyncio's drops it when it ends
  if (!has_loop) return PyUnicode_FromFormat("<%s%s fd=%d>", short_name, state, fd);
  const size_t size = write_buffer_size();
  return PyUnicode_FromFormat("<%s%s fd=%d read=%s write=<%s, bufsize=%zu>>", short_name, state, fd,
                              is_attached() && channel_->is_reading() ? "polling" : "idle",
                              is_attached() && channel_->is_send_waiting() ? "polling" : "idle", size);
}

}  // namespace cxxloop::python
