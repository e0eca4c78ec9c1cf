// SPDX-License-Identifier: MIT
//
// web/python/web_server.h: _web.Server: a server of the core on a loop, whose requests are calls of an ASGI application.
//
// Thread: loop thread.  Owns: the core's server, and the calls that have not finished.
// Dies: with its Python object, which the loop keeps alive from listen() until the core has let go.
#pragma once

#include <optional>

#include "base/task.h"
#include "python/loop/loop_access.h"
#include "web/core/server.h"
#include "web/python/asgi_call.h"
#include "web/python/object_pool.h"
#include "web/python/scope.h"
#include "web/python/tls_server.h"

namespace cxxloop::python {

// Runs nothing: of an exchange for which no call could be made.
class NoUser final : public web::ExchangeUser {
 public:
  void on_body() noexcept override {}
  void on_disconnect() noexcept override {}
  void on_drained() noexcept override {}
  void on_end(const web::Ending&) noexcept override {}
};

// Dead objects for the next request; they lie in the server, which each of them keeps alive.
struct WebPools {
  ObjectPool calls;
  ObjectPool callables;
  ObjectPool ops;
  ObjectPool handler_scopes;
};

// What Server() is given besides the loop; all borrowed.
struct WebServerArgs {
  PyObject* app;
  PyObject* options;    // a dict
  PyObject* state;      // a dict or None
  PyObject* on_idle;
  PyObject* on_access;  // or None
  PyObject* on_error;
};

class WebServer final : public web::Application, public LoopGuest {
 public:
  WebServer(PyObject* self_object, const WebState& state, PyObject* loop) noexcept;
  ~WebServer();

  // False: the indicator is set.
  [[nodiscard]] bool open(Gil gil, const WebServerArgs& args) noexcept;

  // --- what the methods of the Python type do; false or null: the indicator is set -------------------------------
  [[nodiscard]] bool listen(Gil gil, int fd) noexcept;
  void stop_listening() noexcept;
  void drain() noexcept;
  void close(Gil gil) noexcept;
  [[nodiscard]] bool set_limits(Gil gil, PyObject* changes) noexcept;
  [[nodiscard]] Ref counters(Gil gil) const noexcept;
  [[nodiscard]] Ref tasks(Gil gil) const noexcept;

  // --- for calls -------------------------------------------------------------------------------------------------
  [[nodiscard]] const WebState& state() const noexcept { return state_; }
  [[nodiscard]] WebPools& pools() noexcept { return pools_; }
  [[nodiscard]] PyObject* app() const noexcept { return app_.get(); }  // null: the collector has cleared the server
  [[nodiscard]] PyObject* loop() const noexcept { return loop_.get(); }
  [[nodiscard]] std::span<const web::Header> default_headers() const noexcept { return default_headers_.view(); }
  [[nodiscard]] const web::Limits& limits() const noexcept { return limits_; }
  [[nodiscard]] bool wants_access() const noexcept { return static_cast<bool>(on_access_); }
  // Of an exchange whose user is not made yet.
  [[nodiscard]] NoUser& no_user() noexcept { return no_user_; }
  [[nodiscard]] ScopeMaker& scopes() noexcept { return scopes_; }
  // The scope of a request; null: the indicator is set.
  [[nodiscard]] Ref make_scope(Gil gil, const web::Request& request) noexcept { return scopes_.make(gil, request, trusted_, tls_); }
  // Of a request; null: the indicator is set.
  [[nodiscard]] Ref make_context(Gil gil) noexcept;
  // A task that runs the coroutine `call` in a context. Null: the indicator is set. Runs Python: its first step.
  [[nodiscard]] Ref make_task(Gil gil, PyObject* call, PyObject* context) noexcept;
  void add_call(AsgiCall& call) noexcept { calls_.push_back(call); }
  // The two callbacks; what they raise goes to the loop's exception handler. Run Python.
  void tell_access(Gil gil, PyObject* scope, const web::Ending& ending, int64_t duration_ns) noexcept;
  void tell_error(Gil gil, PyObject* message, PyObject* exception) noexcept;
  void tell_error(Gil gil, const char* message, PyObject* exception) noexcept;
  // What an application raises to end the program. A SystemExit is none, as in uvicorn: the application failed to keep it to
  // itself (argparse raises one), and no request may end a server. That of a forked child ends the child.
  [[nodiscard]] bool is_interrupt(PyObject* exception) const noexcept;
  // The indicator is set, in a callback of the core.
  void report(Gil gil, const char* message) noexcept;

  // --- web::Application ------------------------------------------------------------------------------------------
  void* on_connect(int fd, const io::Address& peer) noexcept override;
  void on_connection_end(void* connection) noexcept override { delete static_cast<Peer*>(connection); }
  void on_request(web::Exchange& exchange, const web::Request& request) noexcept override;
  bool is_proxy(int fd, const io::Address& peer) noexcept override;
  void on_accept_error(Errno error) noexcept override;
  void on_idle() noexcept override;

  // --- LoopGuest -------------------------------------------------------------------------------------------------
  [[nodiscard]] PyObject* object() const noexcept override { return self_; }
  [[nodiscard]] bool is_pinned() const noexcept override { return is_pinned_; }
  [[nodiscard]] bool on_loop_close(Gil gil) noexcept override;
  void on_backend_drained(Gil gil) noexcept override;

  // tp_clear
  void clear(Gil gil) noexcept;

  template <class F>
  void each_ref(F& f) noexcept {
    f(app_, handlers_, on_idle_, on_access_, on_error_, context_, task_type_, task_keywords_);
    scopes_.each_ref(f);
    tls_.each_ref(f);
  }
  template <class F>
  void each_kept_ref(F& f) noexcept {
    f(loop_);
    calls_.each([&f](AsgiCall& call) {
      f(call.object());
      if (call.channel().is_open()) f(call.object());  // the core's exchange, which lies in the server, has another
    });
  }

 private:
  // open -> closed; open -> lingering (the kernel has not let go) -> closed.
  enum class Life : uint8_t { open, lingering, closed };

  // Run in the turn after close().
  struct ReleaseTask : Task {
    explicit ReleaseTask(WebServer& its_server) noexcept : server(its_server) { run = on_release; }

    WebServer& server;
  };

  [[nodiscard]] bool find_handlers(Gil gil) noexcept;
  static void on_release(Task& task) noexcept {
    WebServer& server = static_cast<ReleaseTask&>(task).server;
    if (!server.is_closing_) server.unpin();
  }
  [[nodiscard]] bool prepare_tasks(Gil gil) noexcept;
  [[nodiscard]] Ref make_task_by_loop(Gil gil, PyObject* call, PyObject* context) noexcept;
  void close_core() noexcept;
  void drop_calls(Gil gil) noexcept;
  void unpin() noexcept;

  PyObject* const self_;
  const WebState& state_;
  Ref loop_;
  Ref app_;
  Ref handlers_;       // the HandlerTable of an App; null: all requests go to app_
  Ref on_idle_;
  Ref on_access_;  // null: nobody asks
  Ref on_error_;
  Ref context_;        // the one the server was made in: each request has a copy
  Ref task_type_;      // asyncio.Task
  Ref task_keywords_;  // of each task: loop, eager_start; "context" is set for each
  Ref server_header_;  // a str, or null
  Ref health_path_;    // likewise
  HeaderList default_headers_;
  TrustedPeers trusted_;  // whose headers are believed
  TrustedPeers proxies_;  // whose connections are those of many
  ScopeMaker scopes_;
  TlsServer tls_{*this};
  WebPools pools_;
  IntrusiveList<AsgiCall> calls_;  // a reference to each is owned
  web::Limits limits_;
  net::Engine* engine_ = nullptr;  // null: the loop has closed
  web::MetricsBlock metrics_;
  std::optional<web::Server> core_;
  NoUser no_user_;
  ReleaseTask release_task_{*this};
  Life life_ = Life::open;
  bool is_pinned_ = false;  // True exactly when the loop owns a reference
  bool is_closing_ = false;  // True exactly when the loop has closed and on_backend_drained() will follow
};

struct WebServerObject {
  PyObject_HEAD
  alignas(WebServer) unsigned char storage[sizeof(WebServer)];

  WebServer& native() noexcept { return *reinterpret_cast<WebServer*>(storage); }
};

[[nodiscard]] bool add_server_type(Gil gil, PyObject* module, WebState& state) noexcept;

}  // namespace cxxloop::python
