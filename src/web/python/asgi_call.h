// SPDX-License-Identifier: MIT
//
// web/python/asgi_call.h: one call of an ASGI application, or of a handler: the coroutine that a task drives, and its exchange.
//
// Decision: an object of ours and not the application's coroutine is what the task runs. It calls the application inside
// the task, so that current_task() and the context are right in a plain function too, and it learns of the end without a
// callback. Introspection (cr_frame and its kin) is the application's coroutine's.
// A call of a handler becomes one of an application if the handler has returned a response that is one: a stream, a file.
// Thread: loop thread.  Owns: the application's coroutine, and a reference to the task while that is not done.
// Dies: with its Python object, which the task, the server (until it has finished) and the exchange keep alive.
#pragma once

#include <cstdint>
#include <memory>

#include "web/python/asgi_exchange.h"
#include "web/python/asgi_websocket.h"
#include "web/python/handler_response.h"
#include "web/python/handler_work.h"

namespace cxxloop::python {

class AsgiCall final : public ListNode {
 public:
  // Null: the indicator is set.
  [[nodiscard]] static PyObject* make(Gil gil, WebServer& server) noexcept;
  static AsgiCall& of(PyObject* object) noexcept;

  // The request asks for a WebSocket. False: the indicator is set.
  [[nodiscard]] bool make_websocket(Gil gil) noexcept;
  // Both make the task, whose first step may run at once, in this context. Run Python: the application.
  void begin(Gil gil, web::Exchange& exchange, Ref app, Ref scope, Ref context) noexcept;
  void begin_handler(Gil gil, web::Exchange& exchange, HandlerWork work, Ref context) noexcept;

  // What the Python object does; see Coroutine in collections.abc.
  [[nodiscard]] PySendResult resume(Gil gil, PyObject* value, PyObject** result) noexcept;
  [[nodiscard]] PySendResult throw_into(Gil gil, PyObject* const* args, Py_ssize_t nargs, PyObject** result) noexcept;
  [[nodiscard]] bool close(Gil gil) noexcept;
  [[nodiscard]] bool is_running() const noexcept { return state_ == State::running; }
  [[nodiscard]] bool is_suspended() const noexcept { return state_ == State::suspended; }
  [[nodiscard]] PyObject* coroutine() const noexcept { return coroutine_.get(); }

  [[nodiscard]] PyObject* object() noexcept;
  [[nodiscard]] PyObject* task() const noexcept { return task_.get(); }  // null: not made yet, or done
  [[nodiscard]] WebServer& server() const noexcept { return server_; }
  [[nodiscard]] AsgiChannel& channel() noexcept {
    if (websocket_ != nullptr) return *websocket_;
    return exchange_;
  }

  template <class F>
  void each_ref(F& f) noexcept {
    f(app_, scope_, coroutine_, task_);
    work_.each_ref(f);
    exchange_.each_ref(f);
    if (websocket_ != nullptr) websocket_->each_ref(f);
  }
  template <class F>
  void each_kept_ref(F& f) noexcept {
    f(server_object_);
  }

 private:
  // created -> running <-> suspended; any -> finished.
  enum class State : uint8_t { created, running, suspended, finished };

  explicit AsgiCall(WebServer& server) noexcept;
  friend struct CallObject;
  void run(Gil gil, Ref context) noexcept;
  [[nodiscard]] bool call(Gil gil) noexcept;
  [[nodiscard]] Ref call_application(Gil gil) noexcept;
  [[nodiscard]] bool check_not_running(Gil gil) noexcept;
  [[nodiscard]] PySendResult after_step(Gil gil, PySendResult how, PyObject** result) noexcept;
  [[nodiscard]] PySendResult returned(Gil gil, PyObject** result) noexcept;
  [[nodiscard]] PySendResult failed(Gil gil, PyObject** result) noexcept;
  void finish(Gil gil) noexcept;

  // handler_call.cc
  [[nodiscard]] bool is_of_handler() const noexcept { return static_cast<bool>(work_.handler); }
  [[nodiscard]] PySendResult handler_returned(Gil gil, PyObject** result) noexcept;
  [[nodiscard]] PySendResult handler_failed(Gil gil, PyObject** result) noexcept;
  [[nodiscard]] PySendResult answer(Gil gil, HandlerResponse& response, PyObject** result) noexcept;

  WebServer& server_;
  PyObject* server_object_;  // owned
  AsgiExchange exchange_;
  std::unique_ptr<AsgiWebSocket> websocket_;  // null: an ordinary request
  Ref app_;                  // this and the next: until the application is called
  Ref scope_;
  HandlerWork work_;         // until the handler has returned; empty: the call is one of an application
  Ref coroutine_;            // the application's or the handler's, or the iterator of another awaitable
  Ref task_;
  State state_ = State::created;
};

struct CallObject {
  PyObject_HEAD
  alignas(AsgiCall) unsigned char storage[sizeof(AsgiCall)];

  AsgiCall& native() noexcept { return *reinterpret_cast<AsgiCall*>(storage); }
};

inline AsgiCall& AsgiCall::of(PyObject* object) noexcept { return reinterpret_cast<CallObject*>(object)->native(); }

[[nodiscard]] bool add_call_type(Gil gil, PyObject* module, WebState& state) noexcept;

// The functions receive and send that an application is given: `receive` and `send` of a call.
struct CallableObject {
  PyObject_HEAD
  vectorcallfunc vectorcall;
  CallObject* call;  // owned

  template <class F>
  void each_kept_ref(F& f) noexcept {
    f(call);
  }
  template <class F>
  void each_ref(F&) noexcept {}
};
[[nodiscard]] Ref make_receive(Gil gil, CallObject& call) noexcept;
[[nodiscard]] Ref make_send(Gil gil, CallObject& call) noexcept;
[[nodiscard]] bool add_callable_types(Gil gil, PyObject* module, WebState& state) noexcept;

}  // namespace cxxloop::python
