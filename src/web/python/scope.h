// SPDX-License-Identifier: MIT
//
// web/python/scope.h: the scope of a request, as ASGI and uvicorn have it.
//
// Decision: a copy of a template whose keys are all there, with the changing values set: a dictionary that is filled anew
// would be resized and would hash each key.
// Decision: a head that comes a second time in a row (RequestHead::version()) gets a template of its own, with all that the
// head alone decides: clients and proxies that repeat a request pay for a copy of it. A head with a secret does not.
// Thread: loop thread.
#pragma once

#include "base/byte_buffer.h"
#include "web/core/application.h"
#include "web/python/header_cache.h"
#include "web/python/peer.h"
#include "web/python/tls_server.h"
#include "web/python/web_state.h"

namespace cxxloop::python {

class ScopeMaker {
 public:
  // `scheme` and `root_path` are str; a null `lifespan_state`: the scopes have no "state". False: the indicator is set.
  [[nodiscard]] bool open(Gil gil, const WebState& state, PyObject* scheme, PyObject* root_path,
                          PyObject* lifespan_state) noexcept;
  // Its connection is a Peer; null: nothing is known of it. Null: the indicator is set.
  [[nodiscard]] Ref make(Gil gil, const web::Request& request, const TrustedPeers& trusted, const TlsServer& tls) noexcept;
  // Parts of it; null: the indicator is set.
  [[nodiscard]] Ref make_headers(Gil gil, const web::RequestHead& head) noexcept;
  [[nodiscard]] Ref make_path(Gil gil, std::string_view raw_path) const noexcept;

  template <class F>
  void each_ref(F& f) noexcept {
    f(template_, repeated_.scope, repeated_.headers, asgi_, extensions_, websocket_extensions_, lifespan_state_, scheme_, root_path_);
  }

 private:
  // What a trusted proxy says.
  struct Forwarded {
    std::string_view scheme;
    ByteBuffer for_hosts;  // the values joined by commas
  };
  // What the scopes of one head have in common.
  struct Repeated {
    uint64_t version = 0;  // of the head; 0: of none
    Ref scope;             // null: the head was seen once, or has a secret
    Ref headers;           // a list, to be copied; null likewise
  };

  [[nodiscard]] bool set(PyObject* scope, Name key, const Ref& value) const noexcept {
    return value && PyDict_SetItem(scope, state_->name(key), value.get()) == 0;
  }
  [[nodiscard]] bool set_copy(PyObject* scope, Name key, const Ref& dictionary) const noexcept;
  // Sets what the head alone decides, but for the headers.
  [[nodiscard]] bool set_head(Gil gil, PyObject* scope, const web::RequestHead& head) const noexcept;
  // The scope and the headers of a head, as far as it alone decides. Null: the indicator is set.
  [[nodiscard]] Repeated make_repeated(Gil gil, const web::RequestHead& head) noexcept;
  [[nodiscard]] Repeated make_once(Gil gil, const web::RequestHead& head) noexcept;
  [[nodiscard]] bool set_target(Gil gil, PyObject* scope, const web::RequestHead& head) const noexcept;
  [[nodiscard]] bool set_peer(Gil gil, PyObject* scope, const web::RequestHead& head, const Peer& peer,
                              const TrustedPeers& trusted) const noexcept;
  [[nodiscard]] bool set_tls(Gil gil, PyObject* scope, const web::Request& request, const TlsServer& tls) const noexcept;
  [[nodiscard]] bool set_websocket(Gil gil, PyObject* scope, const web::RequestHead& head) const noexcept;

  const WebState* state_ = nullptr;
  Ref template_;
  Repeated repeated_;
  Ref asgi_;
  Ref extensions_;
  Ref websocket_extensions_;
  Ref lifespan_state_;
  Ref scheme_;
  Ref root_path_;
  std::string_view root_path_text_;  // of root_path_
  HeaderCache headers_;
};

}  // namespace cxxloop::python
