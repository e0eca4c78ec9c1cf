// SPDX-License-Identifier: MIT
#include "web/python/asgi_op.h"

#include <new>

#include "python/interp/error.h"
#include "web/python/asgi_call.h"
#include "web/python/coroutine_step.h"
#include "web/python/web_server.h"

namespace cxxloop::python {

AsgiOp::AsgiOp(CallObject& call, PyObject* message) noexcept
    : call_(&call), message_(Ref::borrow(message)), kind_(message == nullptr ? Kind::receive : Kind::send) {
  Py_INCREF(call_);
}

PyObject* AsgiOp::make(Gil gil, CallObject& call, PyObject* message) noexcept {
  WebServer& server = call.native().server();
  OpObject* const object = server.pools().ops.make<OpObject>(gil, server.state().op_type);
  if (object == nullptr) return nullptr;
  new (object->storage) AsgiOp(call, message);
  PyObject_GC_Track(object);
  return reinterpret_cast<PyObject*>(object);
}

// --- a step ---------------------------------------------------------------------------------------------------

bool AsgiOp::check_not_running(Gil) noexcept {
  if (is_running_) PyErr_SetString(PyExc_ValueError, "coroutine already executing");
  return !is_running_;
}

PySendResult AsgiOp::resume(Gil gil, PyObject** result) noexcept {
  *result = nullptr;
  if (!check_not_running(gil)) return PYGEN_ERROR;
  is_running_ = true;
  const PySendResult how = step(gil, result);
  is_running_ = false;
  return how;
}

PySendResult AsgiOp::step(Gil gil, PyObject** result) noexcept {
  if (state_ == State::finished) {
    PyErr_SetString(PyExc_RuntimeError, "cannot reuse already awaited coroutine");
    return PYGEN_ERROR;
  }
  if (future_) {
    const Ref iterator = Ref::borrow(iterator_.get());
    // Runs Python: the future, if the program has replaced create_future().
    const PySendResult how = PyIter_Send(iterator.get(), Py_None, result);
    if (how == PYGEN_NEXT) return how;
    end_wait();
    if (how == PYGEN_ERROR) return finish(how);
    Ref::steal(std::exchange(*result, nullptr)).reset();
  }
  return advance(gil, result);
}

PySendResult AsgiOp::advance(Gil gil, PyObject** result) noexcept {
  return kind_ == Kind::receive ? receive(gil, result) : send(gil, result);
}

PySendResult AsgiOp::receive(Gil gil, PyObject** result) noexcept {
  AsgiChannel& channel = call_->native().channel();
  *result = channel.take_event(gil).release();
  if (*result != nullptr) return finish(PYGEN_RETURN);
  if (PyErr_Occurred() != nullptr) return finish(PYGEN_ERROR);
  channel.wait_to_receive(*this);
  return begin_wait(gil, result);
}

PySendResult AsgiOp::send(Gil gil, PyObject** result) noexcept {
  AsgiChannel& channel = call_->native().channel();
  if (state_ == State::created && !channel.is_full() && !channel.is_sending_file()) {
    const Ref message = message_.take();
    // Runs Python: the message's own methods.
    if (!channel.send(gil, message.get())) return finish(PYGEN_ERROR);
    state_ = State::sent;
  }
  if (state_ == State::sent && !channel.is_sending_file()) return finish_with_none(result);
  channel.wait_to_send(*this);
  return begin_wait(gil, result);
}

PySendResult AsgiOp::finish(PySendResult how) noexcept {
  unlink();
  state_ = State::finished;
  message_.reset();
  return how;
}

PySendResult AsgiOp::finish_with_none(PyObject** result) noexcept {
  *result = Py_NewRef(Py_None);
  return finish(PYGEN_RETURN);
}

// --- waiting --------------------------------------------------------------------------------------------------

// What a coroutine would do with `await future`, whose first step hands the future to the task. The op stands in the list of
// its channel already.
PySendResult AsgiOp::begin_wait(Gil gil, PyObject** future) noexcept {
  const WebServer& server = call_->native().server();
  // Runs Python: the loop's create_future(), if the program has replaced that.
  Ref made = Ref::steal(PyObject_CallMethodNoArgs(server.loop(), server.state().name(Name::create_future)));
  const PyAsyncMethods* const methods = made ? Py_TYPE(made.get())->tp_as_async : nullptr;
  if (made && (methods == nullptr || methods->am_await == nullptr)) {
    PyErr_Format(PyExc_TypeError, "create_future() has returned %R, which cannot be awaited", made.get());
  }
  Ref iterator = PyErr_Occurred() == nullptr ? Ref::steal(methods->am_await(made.get())) : Ref();
  if (!iterator) return finish(PYGEN_ERROR);
  const PySendResult how = PyIter_Send(iterator.get(), Py_None, future);
  if (how != PYGEN_NEXT) {
    if (how == PYGEN_RETURN) PyErr_SetString(PyExc_RuntimeError, "create_future() has returned a future that is done");
    Ref::steal(std::exchange(*future, nullptr)).reset();
    return finish(PYGEN_ERROR);
  }
  future_ = std::move(made);
  iterator_ = std::move(iterator);
  if (!is_linked()) wake(gil);  // create_future() has closed the server, say
  return PYGEN_NEXT;
}

void AsgiOp::end_wait() noexcept {
  unlink();
  future_.reset();
  iterator_.reset();
}

void AsgiOp::wake(Gil gil) noexcept {
  const Ref future = Ref::borrow(future_.get());
  if (!future) return;
  const WebServer& server = call_->native().server();
  const WebState& state = server.state();
  const Ref call = Ref::borrow(reinterpret_cast<PyObject*>(call_));
  const Ref is_done = Ref::steal(PyObject_CallMethodNoArgs(future.get(), state.name(Name::done)));
  if (is_done && is_done.get() == Py_True) return;  // it was cancelled, and its task has not run since
  const Ref set =
      is_done ? Ref::steal(PyObject_CallMethodOneArg(future.get(), state.name(Name::set_result), Py_None)) : Ref();
  if (set) return;
  // The loop is closed: nobody can run what waits.
  if (PyErr_ExceptionMatches(PyExc_RuntimeError) != 0) return PyErr_Clear();
  state.access->report_or_leave(gil, server.loop(), "Exception in a callback of a web server");
}

// --- the rest of a coroutine ----------------------------------------------------------------------------------

PySendResult AsgiOp::throw_into(Gil gil, PyObject* const* args, Py_ssize_t nargs, PyObject** result) noexcept {
  *result = nullptr;
  if (!check_not_running(gil)) return PYGEN_ERROR;
  is_running_ = true;
  const PySendResult how = throw_step(gil, args, nargs, result);
  is_running_ = false;
  return how;
}

PySendResult AsgiOp::throw_step(Gil gil, PyObject* const* args, Py_ssize_t nargs, PyObject** result) noexcept {
  if (future_) {
    const Ref iterator = Ref::borrow(iterator_.get());
    const Ref throw_method =
        Ref::steal(PyObject_GetAttr(iterator.get(), call_->native().server().state().name(Name::throw_into)));
    // Runs Python: the future, if the program has replaced create_future().
    *result = throw_method ? PyObject_Vectorcall(throw_method.get(), args, static_cast<size_t>(nargs), nullptr) : nullptr;
    if (*result != nullptr) return PYGEN_NEXT;
    end_wait();
    return finish(PYGEN_ERROR);
  }
  if (state_ == State::finished) {
    PyErr_SetString(PyExc_RuntimeError, "cannot reuse already awaited coroutine");
    return PYGEN_ERROR;
  }
  raise_thrown(gil, args, nargs);
  return finish(PYGEN_ERROR);
}

bool AsgiOp::check_not_awaited(Gil) noexcept {
  if (future_) PyErr_SetString(PyExc_RuntimeError, "coroutine is being awaited already");
  return !future_;
}

bool AsgiOp::close(Gil gil) noexcept {
  if (!check_not_running(gil)) return false;
  end_wait();
  static_cast<void>(finish(PYGEN_RETURN));
  return true;
}

// As CPython does for a coroutine: most often an "await" was forgotten.
void AsgiOp::warn_if_never_awaited(Gil gil) noexcept {
  if (state_ != State::created || future_) return;
  Ref exception = take_exception(gil);
  if (PyErr_WarnFormat(PyExc_RuntimeWarning, 1, "coroutine '%s' was never awaited", name()) < 0) {
    PyErr_WriteUnraisable(nullptr);
  }
  if (exception) set_exception(gil, std::move(exception));
}

namespace {

AsgiOp& native_of(PyObject* self) noexcept { return AsgiOp::of(self); }

PySendResult op_am_send(PyObject* self, PyObject*, PyObject** result) {
  return native_of(self).resume(Gil::in_slot(), result);
}

PyObject* op_next(PyObject* self) {
  PyObject* result = nullptr;
  const PySendResult how = native_of(self).resume(Gil::in_slot(), &result);
  return next_of_step(how, result);
}

PyObject* op_await(PyObject* self) {
  return native_of(self).check_not_awaited(Gil::in_slot()) ? Py_NewRef(self) : nullptr;
}

PyObject* op_send(PyObject* self, PyObject*) {
  PyObject* result = nullptr;
  const PySendResult how = native_of(self).resume(Gil::in_slot(), &result);
  return result_of_step(how, result);
}

PyObject* op_throw(PyObject* self, PyObject* const* args, Py_ssize_t nargs) {
  PyObject* result = nullptr;
  const PySendResult how = native_of(self).throw_into(Gil::in_slot(), args, nargs, &result);
  return result_of_step(how, result);
}

PyObject* op_close(PyObject* self, PyObject*) { return none_if(native_of(self).close(Gil::in_slot())); }

PyObject* get_name(PyObject* self, void*) { return PyUnicode_FromString(native_of(self).name()); }
PyObject* get_running(PyObject* self, void*) { return PyBool_FromLong(native_of(self).is_running()); }
PyObject* get_suspended(PyObject* self, void*) { return PyBool_FromLong(native_of(self).is_waiting()); }
PyObject* get_state(PyObject* self, void*) {
  return PyUnicode_FromString(native_of(self).is_waiting() ? "CORO_SUSPENDED" : "CORO_CLOSED");
}
PyObject* get_none(PyObject*, void*) { Py_RETURN_NONE; }
PyObject* get_awaited(PyObject* self, void*) {
  PyObject* const future = native_of(self).future();
  return Py_NewRef(future != nullptr ? future : Py_None);
}

constexpr Method op_methods[] = {
    {"send", op_send, METH_O, "send($self, value, /)\n--\n\nGo on until the next future to wait for; see coroutine.send()."},
    {"throw", op_throw, "throw($self, *exception)\n--\n\nRaise an exception where it waits; see coroutine.throw()."},
    {"close", op_close, METH_NOARGS, "close($self, /)\n--\n\nWait no longer; what it would have taken stays."},
    {},
};

// What inspect.getcoroutinestate() (of 3.15: cr_state) and asyncio's texts ask of a coroutine.
constexpr Attribute op_attributes[] = {
    {"__name__", get_name},        {"__qualname__", get_name}, {"cr_running", get_running},
    {"cr_suspended", get_suspended}, {"cr_frame", get_none},     {"cr_await", get_awaited},
    {"cr_state", get_state},       {},
};

int op_clear(PyObject* self) {
  native_of(self).end_wait();
  return clear<native_of>(self);
}

// The collector, and what wakes ops, must not meet this one while the warning and the destructors run Python.
void op_dealloc(PyObject* self) {
  const Gil gil = Gil::in_slot();
  AsgiOp& op = native_of(self);
  PyObject_GC_UnTrack(self);
  op.unlink();
  op.warn_if_never_awaited(gil);
  const Ref call = Ref::steal(reinterpret_cast<PyObject*>(&op.call()));  // keeps the pool
  std::destroy_at(&op);
  AsgiCall::of(call.get()).server().pools().ops.recycle(self);
}

}  // namespace

bool add_op_type(Gil gil, PyObject* module, WebState& state) noexcept {
  state.op_type = make_heap_type(gil, module, {
      .name = "cxxloop._web.Operation",
      .object_bytes = sizeof(OpObject),
      .flags = Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
      .doc = "What receive() and send() of an ASGI application return; to be awaited once.",
      .methods = {op_methods},
      .attributes = {op_attributes},
      .traverse = traverse<native_of>,
      .clear = op_clear,
      .dealloc = op_dealloc,
      .await = op_await,
      .send = op_am_send,
      .iter = PyObject_SelfIter,
      .next = op_next,
      .is_public = false,
  });
  return state.op_type != nullptr;
}

}  // namespace cxxloop::python
