// SPDX-License-Identifier: MIT
#include "web/python/scope.h"

#include <cstring>
#include <utility>

#include "web/core/characters.h"
#include "web/core/websocket_handshake.h"
#include "web/python/percent.h"

namespace cxxloop::python {
namespace {

Ref bytes_of(std::string_view text) noexcept {
  return Ref::steal(PyBytes_FromStringAndSize(text.data(), static_cast<Py_ssize_t>(text.size())));
}

Ref ascii_of(std::string_view text) noexcept {
  Ref made = Ref::steal(PyUnicode_New(static_cast<Py_ssize_t>(text.size()), 127));
  if (made && !text.empty()) std::memcpy(PyUnicode_DATA(made.get()), text.data(), text.size());
  return made;
}

bool is_scheme(std::string_view text) noexcept { return text == "http" || text == "https" || text == "ws" || text == "wss"; }

// What every server of ASGI says of itself, and what this one can do more.
Ref make_asgi() noexcept { return Ref::steal(Py_BuildValue("{ssss}", "version", "3.0", "spec_version", "2.5")); }
Ref make_extensions() noexcept {
  return Ref::steal(Py_BuildValue("{s{}s{}s{}s{}}", "http.response.trailers", "http.response.early_hint",
                                  "http.response.pathsend", "http.response.zerocopysend"));
}

Ref make_websocket_extensions() noexcept { return Ref::steal(Py_BuildValue("{s{}}", "websocket.http.response")); }

}  // namespace

bool ScopeMaker::open(Gil, const WebState& state, PyObject* scheme, PyObject* root_path, PyObject* lifespan_state) noexcept {
  state_ = &state;
  scheme_ = Ref::borrow(scheme);
  root_path_ = Ref::borrow(root_path);
  lifespan_state_ = Ref::borrow(lifespan_state);
  Py_ssize_t size = 0;
  const char* const text = PyUnicode_AsUTF8AndSize(root_path, &size);
  if (text == nullptr) return false;
  root_path_text_ = {text, static_cast<size_t>(size)};
  asgi_ = make_asgi();
  extensions_ = make_extensions();
  websocket_extensions_ = make_websocket_extensions();
  template_ = Ref::steal(PyDict_New());
  if (!asgi_ || !extensions_ || !websocket_extensions_ || !template_) return false;
  const Ref none = Ref::borrow(Py_None);
  for (const Name key : {Name::type, Name::asgi, Name::http_version, Name::server, Name::client, Name::scheme,
                         Name::root_path, Name::headers, Name::method, Name::path, Name::raw_path, Name::query_string,
                         Name::extensions}) {
    if (!set(template_.get(), key, none)) return false;
  }
  if (lifespan_state_ && !set(template_.get(), Name::state, none)) return false;
  return set(template_.get(), Name::type, Ref::borrow(state.name(Name::http))) &&
         set(template_.get(), Name::http_version, Ref::borrow(state.name(Name::version_1_1))) &&
         set(template_.get(), Name::scheme, scheme_) && set(template_.get(), Name::root_path, root_path_) &&
         set(template_.get(), Name::method, Ref::borrow(state.methods[0])) &&
         set(template_.get(), Name::query_string, Ref::borrow(state.empty_bytes));
}

Ref ScopeMaker::make(Gil gil, const web::Request& request, const TrustedPeers& trusted, const TlsServer& tls) noexcept {
  const web::RequestHead& head = request.head;
  const Peer* const peer = static_cast<const Peer*>(request.connection);
  const Repeated made = make_repeated(gil, head);
  if (!made.headers) return {};
  PyObject* const target = made.scope.get();
  const bool is_whole = set(target, Name::headers, made.headers) && set_copy(target, Name::asgi, asgi_) &&
                        set_copy(target, Name::extensions, extensions_) &&
                        (!lifespan_state_ || set_copy(target, Name::state, lifespan_state_)) &&
                        (peer == nullptr || set_peer(gil, target, head, *peer, trusted)) &&
                        (!request.asks_websocket || set_websocket(gil, target, head)) &&
                        (request.tls == nullptr || set_tls(gil, target, request, tls));
  return is_whole ? Ref::borrow(target) : Ref();
}

ScopeMaker::Repeated ScopeMaker::make_repeated(Gil gil, const web::RequestHead& head) noexcept {
  const uint64_t version = head.version();
  if (version != repeated_.version || version == 0) {
    repeated_ = {version, Ref(), Ref()};
    return make_once(gil, head);
  }
  if (!repeated_.scope) {
    const size_t unkept_before = headers_.unkept_count();
    Repeated made = make_once(gil, head);
    if (!made.headers || headers_.unkept_count() != unkept_before) return made;
    repeated_.scope = std::move(made.scope);
    repeated_.headers = std::move(made.headers);
  }
  Ref scope = Ref::steal(PyDict_Copy(repeated_.scope.get()));
  Ref headers = scope ? Ref::steal(PyList_GetSlice(repeated_.headers.get(), 0, PY_SSIZE_T_MAX)) : Ref();
  return {version, std::move(scope), std::move(headers)};
}

ScopeMaker::Repeated ScopeMaker::make_once(Gil gil, const web::RequestHead& head) noexcept {
  Ref scope = Ref::steal(PyDict_Copy(template_.get()));
  Ref headers = scope && set_head(gil, scope.get(), head) ? make_headers(gil, head) : Ref();
  return {head.version(), std::move(scope), std::move(headers)};
}

bool ScopeMaker::set_head(Gil gil, PyObject* scope, const web::RequestHead& head) const noexcept {
  if (head.minor_version == 0 && !set(scope, Name::http_version, Ref::borrow(state_->name(Name::version_1_0)))) return false;
  const bool is_get = head.method == "GET";  // as the template says
  return (is_get || set(scope, Name::method, method_of(gil, *state_, head.method))) && set_target(gil, scope, head);
}

// What differs in the scope of a WebSocket. A proxy that says "http" or "https" means the same.
bool ScopeMaker::set_websocket(Gil, PyObject* scope, const web::RequestHead& head) const noexcept {
  Ref names = Ref::steal(PyList_New(0));
  web::each_subprotocol(head, [&names](std::string_view name) noexcept {
    const Ref text = names ? ascii_of(name) : Ref();
    if (!text || PyList_Append(names.get(), text.get()) < 0) names.reset();
  });
  PyObject* const scheme = PyDict_GetItemWithError(scope, state_->name(Name::scheme));
  if (!names || scheme == nullptr) return false;
  const bool is_secure = PyUnicode_CompareWithASCIIString(scheme, "https") == 0 || PyUnicode_CompareWithASCIIString(scheme, "wss") == 0;
  return set(scope, Name::type, Ref::borrow(state_->name(Name::websocket))) &&
         set(scope, Name::scheme, Ref::borrow(state_->name(is_secure ? Name::wss : Name::ws))) &&
         set(scope, Name::subprotocols, names) && set_copy(scope, Name::extensions, websocket_extensions_) &&
         PyDict_DelItem(scope, state_->name(Name::method)) == 0;
}

// What secures a connection is found out by its first request.
bool ScopeMaker::set_tls(Gil gil, PyObject* scope, const web::Request& request, const TlsServer& tls) const noexcept {
  Peer* const peer = static_cast<Peer*>(request.connection);
  if (peer == nullptr) return true;
  if (!peer->tls) peer->tls = tls.make_extension(gil, *request.tls);
  PyObject* const extensions = PyDict_GetItemWithError(scope, state_->name(Name::extensions));
  return peer->tls && extensions != nullptr && set_copy(extensions, Name::tls, peer->tls);
}

// Each request has its own: an application may write into them.
bool ScopeMaker::set_copy(PyObject* scope, Name key, const Ref& dictionary) const noexcept {
  return set(scope, key, Ref::steal(PyDict_Copy(dictionary.get())));
}

bool ScopeMaker::set_target(Gil gil, PyObject* scope, const web::RequestHead& head) const noexcept {
  if (!head.query.empty() && !set(scope, Name::query_string, bytes_of(head.query))) return false;
  if (root_path_text_.empty()) {
    return set(scope, Name::path, make_path(gil, head.path)) && set(scope, Name::raw_path, bytes_of(head.path));
  }
  const Ref path = make_path(gil, head.path);
  Ref raw_path = bytes_of(root_path_text_);
  if (!path || !raw_path) return false;
  PyObject* whole = raw_path.release();
  PyBytes_ConcatAndDel(&whole, bytes_of(head.path).release());
  return set(scope, Name::raw_path, Ref::steal(whole)) &&
         set(scope, Name::path, Ref::steal(PyUnicode_Concat(root_path_.get(), path.get())));
}

Ref ScopeMaker::make_path(Gil, std::string_view raw_path) const noexcept {
  if (raw_path.find('%') == std::string_view::npos) return ascii_of(raw_path);
  const Ref decoded = bytes_of(raw_path);
  if (!decoded) return {};
  const size_t size = unquote(raw_path, PyBytes_AS_STRING(decoded.get()));
  return Ref::steal(PyUnicode_DecodeUTF8(PyBytes_AS_STRING(decoded.get()), static_cast<Py_ssize_t>(size), "replace"));
}

Ref ScopeMaker::make_headers(Gil gil, const web::RequestHead& head) noexcept {
  const std::span<const web::Header> headers = head.headers();
  Ref list = Ref::steal(PyList_New(static_cast<Py_ssize_t>(headers.size())));
  for (size_t i = 0; list && i < headers.size(); ++i) {
    Ref pair = headers_.pair_of(gil, headers[i].name, headers[i].value);
    if (!pair) return {};
    PyList_SET_ITEM(list.get(), static_cast<Py_ssize_t>(i), pair.release());
  }
  return list;
}

bool ScopeMaker::set_peer(Gil, PyObject* scope, const web::RequestHead& head, const Peer& peer,
                          const TrustedPeers& trusted) const noexcept {
  if (!set(scope, Name::server, peer.server) || !set(scope, Name::client, peer.client)) return false;
  if (!peer.is_trusted) return true;
  Forwarded forwarded;
  for (const web::Header& header : head.headers()) {
    if (web::equals(header.name, "x-forwarded-proto")) forwarded.scheme = header.value;
    if (!web::equals(header.name, "x-forwarded-for")) continue;
    const bool is_added = (forwarded.for_hosts.empty() || forwarded.for_hosts.append(",")) &&
                          forwarded.for_hosts.append(header.value);
    if (!is_added) return PyErr_NoMemory() != nullptr;
  }
  if (is_scheme(forwarded.scheme) && !set(scope, Name::scheme, ascii_of(forwarded.scheme))) return false;
  const ForwardedHost client = trusted.client_of(forwarded.for_hosts.view());
  if (client.host.empty()) return true;
  const Ref host =
      Ref::steal(PyUnicode_DecodeLatin1(client.host.data(), static_cast<Py_ssize_t>(client.host.size()), nullptr));
  return host && set(scope, Name::client, Ref::steal(Py_BuildValue("(Ol)", host.get(), client.port)));
}

}  // namespace cxxloop::python
