// SPDX-License-Identifier: MIT
//
// web/python/web_state.h: everything the module _web keeps per interpreter.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "python/interp/heap_type.h"
#include "python/loop/loop_access.h"

namespace cxxloop::python {

// Strings that native code looks up or sets, interned once per interpreter; their texts stand in web_state.cc.
enum class Name : uint8_t {
  // keys of a scope
  type, asgi, http_version, server, client, scheme, method, root_path, path, raw_path, query_string, headers, state,
  extensions, subprotocols, tls,
  // keys of messages
  body, more_body, status, trailers, more_trailers, links, file, offset, count, subprotocol, bytes, text, code, reason,
  // methods and keywords
  message, fileno, set_result, done, create_future, create_task, throw_into, close, loop, eager_start, context,
  // values of scopes
  http, https, version_1_0, version_1_1, websocket, ws, wss,
  size,
};

struct WebState {
  static constexpr size_t methods_max = 9;

  std::array<PyObject*, static_cast<size_t>(Name::size)> names;
  std::array<PyObject*, methods_max> methods;  // of HTTP, as web_state.cc lists them
  const LoopAccess* access;
  PyTypeObject* server_type;
  PyTypeObject* call_type;
  PyTypeObject* receive_type;
  PyTypeObject* send_type;
  PyTypeObject* op_type;
  PyTypeObject* handler_scope_type;
  PyTypeObject* handler_table_type;
  PyObject* client_disconnected;  // the exception of that name
  PyObject* cancelled_error;      // asyncio.CancelledError
  PyObject* tasks_module;         // asyncio.tasks: Task is looked up for each server, programs replace it
  PyObject* empty_bytes;
  PyObject* empty_text;
  PyObject* body_event;        // {"type": "http.request", "body": b"", "more_body": False}, to be copied
  PyObject* disconnect_event;  // {"type": "http.disconnect"}, likewise
  PyObject* websocket_connect_event;  // {"type": "websocket.connect"}, likewise
  PyObject* websocket_receive_event;  // {"type": "websocket.receive"}, likewise

  [[nodiscard]] PyObject* name(Name which) const noexcept { return names[static_cast<size_t>(which)]; }

  template <class F>
  void each_ref(F& f) noexcept {
    for (PyObject*& text : names) f(text);
    for (PyObject*& text : methods) f(text);
    f(server_type, call_type, receive_type, send_type, op_type, handler_scope_type, handler_table_type, client_disconnected, cancelled_error, tasks_module, empty_bytes, body_event,
      disconnect_event, empty_text, websocket_connect_event, websocket_receive_event);
  }
};

// False: the indicator is set.
[[nodiscard]] bool init_web_state(Gil gil, PyObject* module, WebState& state) noexcept;

// The str of a method; null: the indicator is set.
[[nodiscard]] Ref method_of(Gil gil, const WebState& state, std::string_view method) noexcept;

inline WebState& web_state_of(PyObject* module) noexcept { return *static_cast<WebState*>(PyModule_GetState(module)); }

}  // namespace cxxloop::python
