// SPDX-License-Identifier: MIT
#include "web/python/handler_scope.h"

#include <new>

#include "python/interp/error.h"
#include "web/python/web_server.h"

namespace cxxloop::python {
namespace {

Ref bytes_of(Gil, std::string_view text) noexcept {
  return Ref::steal(PyBytes_FromStringAndSize(text.data(), static_cast<Py_ssize_t>(text.size())));
}

}  // namespace

HandlerScope::HandlerScope(WebServer& server, const web::Request& request) noexcept
    : server_(server), server_object_(Py_NewRef(server.object())), request_(&request), is_head_(request.head.method == "HEAD") {}

Ref HandlerScope::make(Gil gil, WebServer& server, const web::Request& request) noexcept {
  auto* const object = server.pools().handler_scopes.make<HandlerScopeObject>(gil, server.state().handler_scope_type);
  if (object == nullptr) return {};
  new (object->storage) HandlerScope(server, request);
  PyObject_GC_Track(object);
  return Ref::steal(reinterpret_cast<PyObject*>(object));
}

Ref HandlerScope::whole(Gil gil) noexcept {
  if (scope_) return Ref::borrow(scope_.get());
  if (request_ == nullptr) {  // memory was out
    PyErr_SetString(PyExc_RuntimeError, "the request has gone");
    return {};
  }
  scope_ = server_.make_scope(gil, *request_);
  return Ref::borrow(scope_.get());
}

Ref HandlerScope::find(Gil gil, PyObject* key) noexcept {
  const WebState& state = server_.state();
  if (!scope_ && request_ != nullptr) {
    if (key == state.name(Name::headers)) return server_.scopes().make_headers(gil, request_->head);
    if (key == state.name(Name::query_string)) return bytes_of(gil, request_->head.query);
  }
  const Ref scope = whole(gil);
  if (!scope) return {};
  PyObject* const value = PyDict_GetItemWithError(scope.get(), key);
  if (value == nullptr && PyErr_Occurred() == nullptr) PyErr_SetObject(PyExc_KeyError, key);
  return Ref::borrow(value);
}

void HandlerScope::detach(Gil gil) noexcept {
  const PyObject* const object = reinterpret_cast<PyObject*>(reinterpret_cast<char*>(this) - offsetof(HandlerScopeObject, storage));
  const bool is_shared = Py_REFCNT(const_cast<PyObject*>(object)) > 1;
  if (request_ != nullptr && is_shared && !whole(gil)) server_.report(gil, "Exception while a request was kept");
  request_ = nullptr;
}

// --- the Python type ------------------------------------------------------------------------------------------

namespace {

HandlerScope& native_of(PyObject* self) noexcept { return HandlerScope::of(self); }

PyObject* scope_subscript(PyObject* self, PyObject* key) { return native_of(self).find(Gil::in_slot(), key).release(); }

PyObject* scope_get(PyObject* self, PyObject* const* args, Py_ssize_t nargs) {
  const Gil gil = Gil::in_slot();
  if (nargs < 1 || nargs > 2) {
    PyErr_Format(PyExc_TypeError, "get() takes 1 or 2 arguments, not %zd", nargs);
    return nullptr;
  }
  PyObject* const value = native_of(self).find(gil, args[0]).release();
  if (value != nullptr || PyErr_ExceptionMatches(PyExc_KeyError) == 0) return value;
  PyErr_Clear();
  return Py_NewRef(nargs == 2 ? args[1] : Py_None);
}

constexpr Method scope_methods[] = {
    {"get", scope_get, "get($self, key, default=None, /)\n--\n\nAs dict.get()."},
    {},
};

void scope_dealloc(PyObject* self) {
  PyObject_GC_UnTrack(self);
  HandlerScope& scope = native_of(self);
  WebServer& server = scope.server();
  const Ref server_object = Ref::steal(server.object());  // keeps the pool
  std::destroy_at(&scope);
  server.pools().handler_scopes.recycle(self);
}

}  // namespace

bool add_handler_scope_type(Gil gil, PyObject* module, WebState& state) noexcept {
  state.handler_scope_type = make_heap_type(gil, module, {
      .name = "cxxloop._web.HandlerScope",
      .object_bytes = sizeof(HandlerScopeObject),
      .flags = Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
      .doc = "The scope of a handler's request; what it says is made when somebody looks at it.",
      .methods = {scope_methods},
      .traverse = traverse<native_of>,
      .clear = clear<native_of>,
      .dealloc = scope_dealloc,
      .subscript = scope_subscript,
      .is_public = false,
  });
  return state.handler_scope_type != nullptr;
}

}  // namespace cxxloop::python
