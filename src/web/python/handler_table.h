// SPDX-License-Identifier: MIT
//
// web/python/handler_table.h: _web.HandlerTable: the routes of a cxxloop.web.App, and what the App says of its requests and
// responses.
//
// Thread: loop thread.  Owns: references to the handlers and to what the App has given.
// Dies: with its Python object, which the App and the servers of it keep alive.
#pragma once

#include <array>
#include <deque>
#include <vector>

#include "web/python/handler_router.h"
#include "web/python/web_state.h"

namespace cxxloop::python {

struct HandlerRoute {
  Ref handler;
  Ref path;             // of a route without parameters: that of its requests; else null
  std::vector<Ref> names;  // of the parameters
  bool is_async;
  bool is_native;       // False exactly when the App must call the handler itself: in a thread, or while the body comes
};

// What App.native_handlers() gives; all owned.
struct HandlerKinds {
  Ref request_type;
  Ref response_type;        // and next the one of JSON: their slots are read at once
  Ref json_type;
  Ref response_send;        // Response.send: of a subclass that has it the attributes say all
  Ref http_error;
  Ref client_disconnected;
  Ref response_of;          // App._response_of(): what it makes of other results
  Ref state;
  Ref dumps;
  Ref loads;

  template <class F>
  void each_ref(F& f) noexcept {
    f(request_type, response_type, json_type, response_send, http_error, client_disconnected, response_of, state, dumps, loads);
  }
};

// Where the slots of the Python classes lie.
enum class RequestSlot : uint8_t { body, headers, loads, query, receive, scope, method, path, path_params, state, size };
enum class ResponseSlot : uint8_t { body, headers, status, size };

class HandlerTable {
 public:
  static HandlerTable& of(PyObject* object) noexcept;

  // False: the indicator is set.
  [[nodiscard]] bool open(Gil gil, HandlerKinds kinds, Py_ssize_t body_bytes_max) noexcept;
  [[nodiscard]] bool add(Gil gil, PyObject* method, PyObject* path, HandlerRoute route) noexcept;
  void set_has_mounts() noexcept { has_mounts_ = true; }
  void set_state(PyObject* state) noexcept { kinds_.state = Ref::borrow(state); }
  [[nodiscard]] bool has_mounts() const noexcept { return has_mounts_; }

  [[nodiscard]] const HandlerRouter& router() const noexcept { return router_; }
  // For the request that is being served.
  [[nodiscard]] HandlerRouter::Match& match() noexcept { return match_; }
  [[nodiscard]] const HandlerRoute& route(size_t target) const noexcept { return routes_[target]; }
  [[nodiscard]] const HandlerKinds& kinds() const noexcept { return kinds_; }
  [[nodiscard]] size_t body_bytes_max() const noexcept { return body_bytes_max_; }
  // The parameters of a route that was found, a dict; null: the indicator is set.
  [[nodiscard]] Ref make_params(Gil gil, const HandlerRouter::Match& match) const noexcept;
  // Where a slot of a Request lies, or of a Response, JSON included.
  [[nodiscard]] Ref& slot(PyObject* request, RequestSlot which) const noexcept {
    return slot_at(request, request_slots_[static_cast<size_t>(which)]);
  }
  [[nodiscard]] Ref& slot(PyObject* response, ResponseSlot which) const noexcept {
    return slot_at(response, response_slots_[static_cast<size_t>(which)]);
  }

  template <class F>
  void each_ref(F& f) noexcept {
    kinds_.each_ref(f);
    for (HandlerRoute& route : routes_) f(route.handler);
  }

 private:
  static Ref& slot_at(PyObject* object, Py_ssize_t offset) noexcept {
    static_assert(sizeof(Ref) == sizeof(PyObject*), "a slot is a reference, or null");
    return *reinterpret_cast<Ref*>(reinterpret_cast<char*>(object) + offset);
  }

  HandlerKinds kinds_;
  HandlerRouter router_;
  HandlerRouter::Match match_;
  std::deque<HandlerRoute> routes_;  // which stay where they are: the collector may run a program that adds one
  std::array<Py_ssize_t, static_cast<size_t>(RequestSlot::size)> request_slots_{};
  std::array<Py_ssize_t, static_cast<size_t>(ResponseSlot::size)> response_slots_{};
  size_t body_bytes_max_ = 0;
  bool has_mounts_ = false;
};

struct HandlerTableObject {
  PyObject_HEAD
  alignas(HandlerTable) unsigned char storage[sizeof(HandlerTable)];

  HandlerTable& native() noexcept { return *reinterpret_cast<HandlerTable*>(storage); }
};

inline HandlerTable& HandlerTable::of(PyObject* object) noexcept { return reinterpret_cast<HandlerTableObject*>(object)->native(); }

[[nodiscard]] bool add_handler_table_type(Gil gil, PyObject* module, WebState& state) noexcept;

}  // namespace cxxloop::python
