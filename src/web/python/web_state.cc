// SPDX-License-Identifier: MIT
#include "web/python/web_state.h"

#include "base/fork_generation.h"

namespace cxxloop::python {
namespace {

constexpr const char* texts[] = {
    "type", "asgi", "http_version", "server", "client", "scheme", "method", "root_path", "path", "raw_path",
    "query_string", "headers", "state", "extensions", "subprotocols", "tls",
    "body", "more_body", "status", "trailers", "more_trailers", "links", "file", "offset", "count",
    "subprotocol", "bytes", "text", "code", "reason",
    "message", "fileno", "set_result", "done", "create_future", "create_task", "throw", "close", "loop", "eager_start",
    "context",
    "http", "https", "1.0", "1.1", "websocket", "ws", "wss",
};
static_assert(std::size(texts) == static_cast<size_t>(Name::size), "a text for each name");

constexpr std::string_view methods[] = {"GET", "POST", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "CONNECT", "TRACE"};
static_assert(std::size(methods) == WebState::methods_max);

bool intern_texts(WebState& state) noexcept {
  for (size_t i = 0; i < std::size(texts); ++i) {
    state.names[i] = PyUnicode_InternFromString(texts[i]);
    if (state.names[i] == nullptr) return false;
  }
  for (size_t i = 0; i < std::size(methods); ++i) {
    state.methods[i] = PyUnicode_InternFromString(methods[i].data());
    if (state.methods[i] == nullptr) return false;
  }
  return true;
}

// The table of _core, which is imported by this. Null: the indicator is set.
const LoopAccess* import_access() noexcept {
  const auto* const access = static_cast<const LoopAccess*>(PyCapsule_Import(LoopAccess::capsule_name, 0));
  if (access == nullptr) return nullptr;
  if (*access->layout == LoopAccess::Layout()) return access;
  PyErr_SetString(PyExc_ImportError, "cxxloop._web and cxxloop._core come from different builds: install cxxloop anew");
  return nullptr;
}

bool make_events(WebState& state) noexcept {
  state.empty_bytes = PyBytes_FromStringAndSize(nullptr, 0);
  state.body_event = Py_BuildValue("{OsOyOO}", state.name(Name::type), "http.request", state.name(Name::body), "",
                                   state.name(Name::more_body), Py_False);
  state.disconnect_event = Py_BuildValue("{Os}", state.name(Name::type), "http.disconnect");
  state.empty_text = PyUnicode_FromString("");
  state.websocket_connect_event = Py_BuildValue("{Os}", state.name(Name::type), "websocket.connect");
  state.websocket_receive_event = Py_BuildValue("{Os}", state.name(Name::type), "websocket.receive");
  return state.empty_bytes != nullptr && state.body_event != nullptr && state.disconnect_event != nullptr &&
         state.empty_text != nullptr && state.websocket_connect_event != nullptr && state.websocket_receive_event != nullptr;
}

bool run_imports(WebState& state) noexcept {
  state.tasks_module = PyImport_ImportModule("asyncio.tasks");
  const Ref exceptions = state.tasks_module != nullptr ? Ref::steal(PyImport_ImportModule("asyncio.exceptions")) : Ref();
  state.cancelled_error = exceptions ? PyObject_GetAttrString(exceptions.get(), "CancelledError") : nullptr;
  return state.cancelled_error != nullptr;
}

}  // namespace

bool init_web_state(Gil, PyObject* module, WebState& state) noexcept {
  state.access = import_access();
  if (state.access == nullptr || !intern_texts(state) || !make_events(state) || !run_imports(state)) return false;
  adopt_fork_generation(state.access->fork_generation());
  state.client_disconnected = PyErr_NewExceptionWithDoc(
      "cxxloop._web.ClientDisconnected",
      "Raised by send() when the client has gone (ASGI 2.4: a subclass of OSError that is the server's own).",
      PyExc_OSError, nullptr);
  return state.client_disconnected != nullptr &&
         PyModule_AddObjectRef(module, "ClientDisconnected", state.client_disconnected) == 0;
}

Ref method_of(Gil, const WebState& state, std::string_view method) noexcept {
  for (size_t i = 0; i < std::size(methods); ++i) {
    if (methods[i] == method) return Ref::borrow(state.methods[i]);
  }
  return Ref::steal(PyUnicode_FromStringAndSize(method.data(), static_cast<Py_ssize_t>(method.size())));
}

}  // namespace cxxloop::python
