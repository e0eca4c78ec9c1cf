// SPDX-License-Identifier: MIT
#include "web/python/asgi_call.h"

#include <new>

#include "python/interp/error.h"
#include "web/python/coroutine_step.h"
#include "web/python/web_server.h"

namespace cxxloop::python {
namespace {

// The iterator behind `await awaitable`. Null: the indicator is set.
Ref iterator_of(Gil, PyObject* awaitable) noexcept {
  if (PyCoro_CheckExact(awaitable)) [[likely]] return Ref::borrow(awaitable);
  if (PyGen_CheckExact(awaitable)) {  // of types.coroutine()
    const Ref code = Ref::steal(PyObject_GetAttrString(awaitable, "gi_code"));
    if (code && (reinterpret_cast<PyCodeObject*>(code.get())->co_flags & CO_ITERABLE_COROUTINE) != 0) {
      return Ref::borrow(awaitable);
    }
  }
  const PyAsyncMethods* const methods = Py_TYPE(awaitable)->tp_as_async;
  if (methods == nullptr || methods->am_await == nullptr) {
    PyErr_Format(PyExc_TypeError, "object %.100s can't be used in 'await' expression", Py_TYPE(awaitable)->tp_name);
    return {};
  }
  Ref iterator = Ref::steal(methods->am_await(awaitable));
  if (!iterator || PyIter_Check(iterator.get()) != 0) return iterator;
  PyErr_Format(PyExc_TypeError, "__await__() returned non-iterator of type '%.100s'", Py_TYPE(iterator.get())->tp_name);
  return {};
}

bool all_come_from_disconnect(const WebState& state, PyObject* group, int depth) noexcept;

// True exactly when the exception is what send() raised because the client had gone, or came up while that was handled, or is
// a group of such exceptions.
bool comes_from_disconnect(const WebState& state, PyObject* exception, int depth = 0) noexcept {
  constexpr int links_max = 32;
  Ref link = Ref::borrow(exception);
  for (int i = 0; link && i < links_max; ++i) {
    if (PyErr_GivenExceptionMatches(link.get(), state.client_disconnected) != 0) return true;
    if (PyErr_GivenExceptionMatches(link.get(), PyExc_BaseExceptionGroup) != 0) return all_come_from_disconnect(state, link.get(), depth);
    Ref cause = Ref::steal(PyException_GetCause(link.get()));
    link = cause ? std::move(cause) : Ref::steal(PyException_GetContext(link.get()));
  }
  return false;
}

// Task groups raise what their tasks have raised in groups.
bool all_come_from_disconnect(const WebState& state, PyObject* group, int depth) noexcept {
  constexpr int depth_max = 8;
  // Runs Python if a subclass has a property of this name: it may do anything, and nothing here is kept across the call.
  const Ref members = depth < depth_max ? Ref::steal(PyObject_GetAttrString(group, "exceptions")) : Ref();
  if (!members || PyTuple_Check(members.get()) == 0) {
    PyErr_Clear();
    return false;
  }
  const Py_ssize_t count = PyTuple_GET_SIZE(members.get());
  for (Py_ssize_t i = 0; i < count; ++i) {
    if (!comes_from_disconnect(state, PyTuple_GET_ITEM(members.get(), i), depth + 1)) return false;
  }
  return count > 0;
}

}  // namespace

AsgiCall::AsgiCall(WebServer& server) noexcept
    : server_(server),
      server_object_(Py_NewRef(server.object())),
      exchange_(reinterpret_cast<PyObject*>(reinterpret_cast<char*>(this) - offsetof(CallObject, storage)), server) {}

PyObject* AsgiCall::make(Gil gil, WebServer& server) noexcept {
  CallObject* const object = server.pools().calls.make<CallObject>(gil, server.state().call_type);
  if (object == nullptr) return nullptr;
  new (object->storage) AsgiCall(server);
  PyObject_GC_Track(object);
  return reinterpret_cast<PyObject*>(object);
}

PyObject* AsgiCall::object() noexcept {
  return reinterpret_cast<PyObject*>(reinterpret_cast<char*>(this) - offsetof(CallObject, storage));
}

bool AsgiCall::make_websocket(Gil) noexcept {
  websocket_.reset(new (std::nothrow) AsgiWebSocket(object(), server_));
  if (websocket_ == nullptr) PyErr_NoMemory();
  return websocket_ != nullptr;
}

void AsgiCall::begin(Gil gil, web::Exchange& exchange, Ref app, Ref scope, Ref context) noexcept {
  Ref scope_of_log = server_.wants_access() ? Ref::borrow(scope.get()) : Ref();
  websocket_ != nullptr ? websocket_->open(exchange, std::move(scope_of_log)) : exchange_.open(exchange, std::move(scope_of_log));
  app_ = std::move(app);
  scope_ = std::move(scope);
  run(gil, std::move(context));
}

void AsgiCall::run(Gil gil, Ref context) noexcept {
  Py_INCREF(object());  // of the server's list: finish() drops it
  server_.add_call(*this);
  // Runs Python: the application's first step, if the loop runs.
  Ref task = server_.make_task(gil, object(), context.get());
  if (state_ == State::finished) {
    if (!task) server_.report(gil, "Exception in an ASGI application");  // a KeyboardInterrupt, say
    return;
  }
  if (task) {
    task_ = std::move(task);
    return;
  }
  server_.report(gil, "Exception while a task was made for an ASGI application");
  finish(gil);
  static_cast<void>(channel().end_unfinished(false));
}

// --- a step ---------------------------------------------------------------------------------------------------

bool AsgiCall::check_not_running(Gil) noexcept {
  if (state_ == State::running) {
    PyErr_SetString(PyExc_ValueError, "coroutine already executing");
  } else if (state_ == State::finished || (state_ == State::suspended && !coroutine_)) {  // the collector has cleared it
    PyErr_SetString(PyExc_RuntimeError, "cannot reuse already awaited coroutine");
  } else {
    return true;
  }
  return false;
}

// Null: the indicator is set.
Ref AsgiCall::call_application(Gil gil) noexcept {
  const Ref app = app_.take();
  const Ref scope = scope_.take();
  if (!app) {  // the collector has cleared it
    PyErr_SetString(PyExc_RuntimeError, "the server has gone");
    return {};
  }
  CallObject& self = *reinterpret_cast<CallObject*>(object());
  const Ref receive = make_receive(gil, self);
  const Ref send = receive ? make_send(gil, self) : Ref();
  if (!send) return {};
  PyObject* const args[] = {nullptr, scope.get(), receive.get(), send.get()};
  // Runs Python: an application that is no coroutine function may do anything here.
  return Ref::steal(PyObject_Vectorcall(app.get(), args + 1, 3 | PY_VECTORCALL_ARGUMENTS_OFFSET, nullptr));
}

bool AsgiCall::call(Gil gil) noexcept {
  // Runs Python: see there.
  const Ref awaitable = is_of_handler() ? work_.call(gil) : call_application(gil);
  coroutine_ = awaitable ? iterator_of(gil, awaitable.get()) : Ref();
  return static_cast<bool>(coroutine_);
}

PySendResult AsgiCall::resume(Gil gil, PyObject* value, PyObject** result) noexcept {
  *result = nullptr;
  if (!check_not_running(gil)) return PYGEN_ERROR;
  const bool is_first = state_ == State::created;
  state_ = State::running;
  if (is_first && !call(gil)) return failed(gil, result);
  const Ref coroutine = Ref::borrow(coroutine_.get());
  CXL_ASSERT(coroutine);
  // Runs Python: the application.
  return after_step(gil, PyIter_Send(coroutine.get(), value, result), result);
}

PySendResult AsgiCall::after_step(Gil gil, PySendResult how, PyObject** result) noexcept {
  if (how == PYGEN_NEXT) {
    state_ = State::suspended;
    return how;
  }
  return how == PYGEN_RETURN ? returned(gil, result) : failed(gil, result);
}

PySendResult AsgiCall::throw_into(Gil gil, PyObject* const* args, Py_ssize_t nargs, PyObject** result) noexcept {
  *result = nullptr;
  if (!check_not_running(gil)) return PYGEN_ERROR;
  const bool is_first = state_ == State::created;
  state_ = State::running;
  if (is_first) {  // cancelled before its first step
    raise_thrown(gil, args, nargs);
    return failed(gil, result);
  }
  const Ref coroutine = Ref::borrow(coroutine_.get());
  const Ref throw_method = Ref::steal(PyObject_GetAttr(coroutine.get(), server_.state().name(Name::throw_into)));
  if (throw_method) {
    // Runs Python: the application.
    *result = PyObject_Vectorcall(throw_method.get(), args, static_cast<size_t>(nargs), nullptr);
  } else if (PyErr_ExceptionMatches(PyExc_AttributeError) != 0) {  // an iterator that is no generator
    PyErr_Clear();
    raise_thrown(gil, args, nargs);
  }
  return after_step(gil, step_of_result(gil, result), result);
}

// The order is uvicorn's: what went wrong is logged before the client is answered.
PySendResult AsgiCall::returned(Gil gil, PyObject** result) noexcept {
  if (is_of_handler()) return handler_returned(gil, result);
  const Ref value = Ref::steal(std::exchange(*result, nullptr));
  finish(gil);
  if (value.get() != Py_None) {
    const Ref message = Ref::steal(PyUnicode_FromFormat("ASGI callable should return None, but returned '%S'.", value.get()));
    if (message) server_.tell_error(gil, message.get(), Py_None);
    if (!message) server_.report(gil, "Exception in an ASGI application");
    static_cast<void>(channel().end_unfinished(false));
  } else if (const char* const left_out = channel().end_unfinished(false)) {
    server_.tell_error(gil, left_out, Py_None);
  }
  *result = Py_NewRef(Py_None);
  return PYGEN_RETURN;
}

// A task whose application fails has done its work; one that was cancelled or interrupted says so.
PySendResult AsgiCall::failed(Gil gil, PyObject** result) noexcept {
  if (is_of_handler()) return handler_failed(gil, result);
  const WebState& state = server_.state();
  Ref exception = take_exception(gil);
  finish(gil);
  if (!server_.is_interrupt(exception.get()) && !comes_from_disconnect(state, exception.get())) {
    server_.tell_error(gil, "Exception in ASGI application", exception.get());
  }
  static_cast<void>(channel().end_unfinished(true));
  if (server_.is_interrupt(exception.get()) || PyErr_GivenExceptionMatches(exception.get(), state.cancelled_error) != 0) {
    set_exception(gil, std::move(exception));
    return PYGEN_ERROR;
  }
  *result = Py_NewRef(Py_None);
  return PYGEN_RETURN;
}

// The caller holds a reference. Runs Python: what dies with the application's coroutine.
void AsgiCall::finish(Gil) noexcept {
  if (state_ == State::finished) return;
  state_ = State::finished;
  const bool was_listed = is_linked();
  unlink();
  const Ref coroutine = coroutine_.take();
  const Ref task = task_.take();
  if (was_listed) Py_DECREF(object());
}

bool AsgiCall::close(Gil gil) noexcept {
  if (state_ == State::running) return check_not_running(gil);
  const Ref pin = Ref::borrow(object());
  const Ref coroutine = Ref::borrow(coroutine_.get());
  const bool was_suspended = state_ == State::suspended;
  finish(gil);
  Ref closed = Ref::borrow(Py_None);
  if (was_suspended && coroutine && PyObject_HasAttrString(coroutine.get(), "close") != 0) {
    // Runs Python: the application's finally blocks.
    closed = Ref::steal(PyObject_CallMethodNoArgs(coroutine.get(), server_.state().name(Name::close)));
  }
  Ref exception = closed ? Ref() : take_exception(gil);
  static_cast<void>(channel().end_unfinished(true));
  if (exception) set_exception(gil, std::move(exception));
  return static_cast<bool>(closed);
}

}  // namespace cxxloop::python
