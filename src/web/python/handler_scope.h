// SPDX-License-Identifier: MIT
//
// web/python/handler_scope.h: _web.HandlerScope: the scope of a handler's request, of which only that is made that somebody
// looks at.
//
// Decision: a handler that looks at its path only pays for nothing else. What the core's request says is valid inside
// Application::on_request() only, so whoever keeps a request longer pays for the whole scope then.
// Thread: loop thread; others may look while a handler runs there.  Owns: the scope once it is made, a reference to the server.
// Dies: with its Python object, which the request, and who answers it, keep alive.
#pragma once

#include "web/core/application.h"
#include "web/python/web_state.h"

namespace cxxloop::python {

class WebServer;

class HandlerScope {
 public:
  // `request`: valid until detach(). Null: the indicator is set.
  [[nodiscard]] static Ref make(Gil gil, WebServer& server, const web::Request& request) noexcept;
  static HandlerScope& of(PyObject* object) noexcept;

  // The whole scope, a dict; null: the indicator is set.
  [[nodiscard]] Ref whole(Gil gil) noexcept;
  // As scope[key]; null: the indicator is set.
  [[nodiscard]] Ref find(Gil gil, PyObject* key) noexcept;
  // The headers as pairs of str, names in lower case; the parameters of the query as urllib.parse.parse_qsl() has them. Lists;
  // null: the indicator is set.
  [[nodiscard]] Ref text_headers(Gil gil) noexcept;
  [[nodiscard]] Ref query_pairs(Gil gil) noexcept;
  // The core's request is valid no longer: makes the scope, if somebody besides the caller may look at it yet.
  void detach(Gil gil) noexcept;
  [[nodiscard]] bool is_head() const noexcept { return is_head_; }
  [[nodiscard]] WebServer& server() const noexcept { return server_; }

  template <class F>
  void each_ref(F& f) noexcept {
    f(scope_);
  }
  template <class F>
  void each_kept_ref(F& f) noexcept {
    f(server_object_);
  }

 private:
  HandlerScope(WebServer& server, const web::Request& request) noexcept;

  WebServer& server_;
  PyObject* server_object_;       // owned
  const web::Request* request_;   // null: detached
  Ref scope_;                     // null: not made
  bool is_head_;
};

struct HandlerScopeObject {
  PyObject_HEAD
  alignas(HandlerScope) unsigned char storage[sizeof(HandlerScope)];

  HandlerScope& native() noexcept { return *reinterpret_cast<HandlerScope*>(storage); }
};

inline HandlerScope& HandlerScope::of(PyObject* object) noexcept { return reinterpret_cast<HandlerScopeObject*>(object)->native(); }

[[nodiscard]] bool add_handler_scope_type(Gil gil, PyObject* module, WebState& state) noexcept;

}  // namespace cxxloop::python
