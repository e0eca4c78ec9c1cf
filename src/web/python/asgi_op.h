// SPDX-License-Identifier: MIT
//
// web/python/asgi_op.h: what receive() and send() return: an awaitable that is complete unless it has to wait.
//
// As a coroutine it does nothing until it is awaited, takes one event or message when it is, and cannot be awaited twice.
// It waits on a future of the loop, so that whatever drives it (a task, wait_for(), an eager task) sees what it knows.
// Thread: loop thread.  Owns: references to its call and its message.  Dies: with its Python object.
#pragma once

#include <cstdint>

#include "base/intrusive_list.h"
#include "web/python/web_state.h"

namespace cxxloop::python {

struct CallObject;

class AsgiOp : public ListNode {
 public:
  enum class Kind : uint8_t { receive, send };

  // `message`: of send(); null: a receive(). Null: the indicator is set.
  [[nodiscard]] static PyObject* make(Gil gil, CallObject& call, PyObject* message) noexcept;
  static AsgiOp& of(PyObject* object) noexcept;

  // What the Python object does; see Coroutine in collections.abc.
  [[nodiscard]] PySendResult resume(Gil gil, PyObject** result) noexcept;
  [[nodiscard]] PySendResult throw_into(Gil gil, PyObject* const* args, Py_ssize_t nargs, PyObject** result) noexcept;
  [[nodiscard]] bool check_not_awaited(Gil gil) noexcept;
  [[nodiscard]] bool close(Gil gil) noexcept;
  void warn_if_never_awaited(Gil gil) noexcept;
  // Takes it out of its channel's list: nobody wakes it any more.
  void end_wait() noexcept;
  [[nodiscard]] bool is_running() const noexcept { return is_running_; }
  [[nodiscard]] bool is_waiting() const noexcept { return static_cast<bool>(future_); }
  [[nodiscard]] PyObject* future() const noexcept { return future_.get(); }
  [[nodiscard]] const char* name() const noexcept { return kind_ == Kind::receive ? "receive" : "send"; }
  [[nodiscard]] CallObject& call() const noexcept { return *call_; }

  // There is something for it. Runs Python: the loop's call_soon(), if the program has replaced that.
  void wake(Gil gil) noexcept;

  template <class F>
  void each_ref(F& f) noexcept {
    f(message_, future_, iterator_);
  }
  template <class F>
  void each_kept_ref(F& f) noexcept {
    f(call_);
  }

 private:
  // created -> sent -> finished, created -> finished; it may wait in created (for its turn) and in sent (for a file).
  enum class State : uint8_t { created, sent, finished };

  AsgiOp(CallObject& call, PyObject* message) noexcept;
  [[nodiscard]] bool check_not_running(Gil gil) noexcept;
  [[nodiscard]] PySendResult step(Gil gil, PyObject** result) noexcept;
  [[nodiscard]] PySendResult throw_step(Gil gil, PyObject* const* args, Py_ssize_t nargs, PyObject** result) noexcept;
  [[nodiscard]] PySendResult advance(Gil gil, PyObject** result) noexcept;
  [[nodiscard]] PySendResult receive(Gil gil, PyObject** result) noexcept;
  [[nodiscard]] PySendResult send(Gil gil, PyObject** result) noexcept;
  [[nodiscard]] PySendResult begin_wait(Gil gil, PyObject** future) noexcept;
  [[nodiscard]] PySendResult finish(PySendResult how) noexcept;
  [[nodiscard]] PySendResult finish_with_none(PyObject** result) noexcept;

  CallObject* const call_;  // owned
  Ref message_;
  Ref future_;    // null: it does not wait
  Ref iterator_;  // of the future's __await__()
  const Kind kind_;
  State state_ = State::created;
  bool is_running_ = false;  // True exactly inside resume() and throw_into(): Python that runs there may call them again
};

struct OpObject {
  PyObject_HEAD
  alignas(AsgiOp) unsigned char storage[sizeof(AsgiOp)];

  AsgiOp& native() noexcept { return *reinterpret_cast<AsgiOp*>(storage); }
};

inline AsgiOp& AsgiOp::of(PyObject* object) noexcept { return reinterpret_cast<OpObject*>(object)->native(); }

[[nodiscard]] bool add_op_type(Gil gil, PyObject* module, WebState& state) noexcept;

}  // namespace cxxloop::python
