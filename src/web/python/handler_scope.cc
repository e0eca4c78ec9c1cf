// SPDX-License-Identifier: MIT
#include "web/python/handler_scope.h"

#include <algorithm>
#include <new>
#include <string>

#include "base/byte_buffer.h"
#include "python/interp/error.h"
#include "web/core/characters.h"
#include "web/python/percent.h"
#include "web/python/web_server.h"

namespace cxxloop::python {
namespace {

Ref bytes_of(Gil, std::string_view text) noexcept {
  return Ref::steal(PyBytes_FromStringAndSize(text.data(), static_cast<Py_ssize_t>(text.size())));
}

// False: the indicator is set.
bool add_pair(PyObject* list, const Ref& name, const Ref& value) noexcept {
  const Ref pair = name && value ? Ref::steal(PyTuple_Pack(2, name.get(), value.get())) : Ref();
  return pair && PyList_Append(list, pair.get()) == 0;
}

bool add_header(PyObject* list, std::string_view name, std::string_view value) noexcept {
  std::string lowered(name);
  std::ranges::transform(lowered, lowered.begin(), web::lower);
  const Ref name_text = Ref::steal(PyUnicode_DecodeLatin1(lowered.data(), static_cast<Py_ssize_t>(lowered.size()), nullptr));
  return add_pair(list, name_text, Ref::steal(PyUnicode_DecodeLatin1(value.data(), static_cast<Py_ssize_t>(value.size()), nullptr)));
}

// A name or a value of a query. `buffer`: for what has to be decoded.
Ref decode(std::string_view text, ByteBuffer& buffer) noexcept {
  constexpr std::string_view special = "%+";
  if (text.find_first_of(special) == text.npos) return Ref::steal(PyUnicode_FromStringAndSize(text.data(), static_cast<Py_ssize_t>(text.size())));
  buffer.clear();
  if (!buffer.reserve(text.size())) return Ref::steal(PyErr_NoMemory());
  char* const target = buffer.room().data();
  std::string_view rest = text;
  size_t size = 0;
  for (;;) {  // a "+" that was written as "%2B" stays one
    const size_t plus = std::min(rest.find('+'), rest.size());
    size += unquote(rest.substr(0, plus), target + size);
    if (plus == rest.size()) break;
    target[size++] = ' ';
    rest.remove_prefix(plus + 1);
  }
  return Ref::steal(PyUnicode_DecodeUTF8(target, static_cast<Py_ssize_t>(size), "replace"));
}

std::string_view view_of(PyObject* bytes) noexcept {
  return {PyBytes_AS_STRING(bytes), static_cast<size_t>(PyBytes_GET_SIZE(bytes))};
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

Ref HandlerScope::text_headers(Gil gil) noexcept {
  Ref list = Ref::steal(PyList_New(0));
  if (!list) return {};
  if (request_ != nullptr) {
    for (const web::Header& header : request_->head.headers()) {
      if (!add_header(list.get(), header.name, header.value)) return {};
    }
    return list;
  }
  const Ref given = find(gil, server_.state().name(Name::headers));
  const Ref pairs = given ? Ref::steal(PySequence_Tuple(given.get())) : Ref();
  if (!pairs) return {};
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(pairs.get()); ++i) {
    PyObject* const pair = PyTuple_GET_ITEM(pairs.get(), i);
    // A response that sends itself has had the scope, and may have written into it.
    const bool is_pair = PyTuple_Check(pair) && PyTuple_GET_SIZE(pair) == 2 && PyBytes_Check(PyTuple_GET_ITEM(pair, 0)) &&
                         PyBytes_Check(PyTuple_GET_ITEM(pair, 1));
    if (!is_pair) {
      PyErr_Format(PyExc_TypeError, "the scope has no pair of bytes for a header, but %R", pair);
      return {};
    }
    if (!add_header(list.get(), view_of(PyTuple_GET_ITEM(pair, 0)), view_of(PyTuple_GET_ITEM(pair, 1)))) return {};
  }
  return list;
}

Ref HandlerScope::query_pairs(Gil gil) noexcept {
  Ref list = Ref::steal(PyList_New(0));
  const Ref query = list ? find(gil, server_.state().name(Name::query_string)) : Ref();
  if (!query) return {};
  if (!PyBytes_Check(query.get())) {
    PyErr_Format(PyExc_TypeError, "the query of the scope is no bytes, but %R", query.get());
    return {};
  }
  ByteBuffer buffer;
  std::string_view rest = view_of(query.get());
  while (!rest.empty()) {
    const std::string_view parameter = rest.substr(0, rest.find('&'));
    rest.remove_prefix(std::min(parameter.size() + 1, rest.size()));
    if (parameter.empty()) continue;
    const size_t equals = std::min(parameter.find('='), parameter.size());
    const std::string_view value = parameter.substr(std::min(equals + 1, parameter.size()));
    if (!add_pair(list.get(), decode(parameter.substr(0, equals), buffer), decode(value, buffer))) return {};
  }
  return list;
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

PyObject* scope_text_headers(PyObject* self, PyObject*) { return native_of(self).text_headers(Gil::in_slot()).release(); }
PyObject* scope_query_pairs(PyObject* self, PyObject*) { return native_of(self).query_pairs(Gil::in_slot()).release(); }

constexpr Method scope_methods[] = {
    {"text_headers", scope_text_headers, METH_NOARGS, "text_headers($self, /)\n--\n\nReturn the headers as pairs of text."},
    {"query_pairs", scope_query_pairs, METH_NOARGS,
     "query_pairs($self, /)\n--\n\nAs urllib.parse.parse_qsl(), with keep_blank_values, of the query."},
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
