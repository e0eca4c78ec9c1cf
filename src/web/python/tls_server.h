// SPDX-License-Identifier: MIT
//
// web/python/tls_server.h: the ssl.SSLContext of a server: makes the TLS sessions of its connections, and what a scope says
// of them.
//
// Decision: a connection is served by libssl itself unless something of the context has to see it as a Python object, which
// is looked at for each connection, because a program may set sni_callback at any time. Functions of the context that are
// content with any object of it (keylog_filename, those of PSK) find an SSLObject of ours, which no connection uses.
// Thread: loop thread.  Owns: references to the context and that object.  Dies: after the core's server.
#pragma once

#include "python/interp/ref.h"
#include "web/core/tls_library.h"
#include "web/core/tls_session.h"

namespace cxxloop::python {

class WebServer;

class TlsServer final : public web::TlsContext {
 public:
  explicit TlsServer(WebServer& server) noexcept : server_(server) {}

  // `engine`: "auto", "libssl" or "python". False: the indicator is set.
  [[nodiscard]] bool open(Gil gil, PyObject* context, std::string_view engine) noexcept;
  [[nodiscard]] bool is_open() const noexcept { return static_cast<bool>(context_); }
  // True exactly when libssl is used itself, where the context allows that.
  [[nodiscard]] bool is_native() const noexcept { return library_ != nullptr; }
  // The dictionary of ASGI's extension "tls". Null: the indicator is set. Runs Python: cxxloop.web.tls.
  [[nodiscard]] Ref make_extension(Gil gil, web::TlsSession& session) const noexcept;

  [[nodiscard]] std::unique_ptr<web::TlsSession> make_session(web::TlsWire& wire) noexcept override;

  template <class F>
  void each_ref(F& f) noexcept {
    f(context_, module_, witness_, witness_inside_);
  }

 private:
  [[nodiscard]] bool check_context(Gil gil) const noexcept;
  [[nodiscard]] bool is_plain_context(Gil gil) const noexcept;
  [[nodiscard]] bool make_witness(Gil gil) noexcept;
  [[nodiscard]] int wants_objects(Gil gil) const noexcept;

  WebServer& server_;
  const web::TlsLibrary* library_ = nullptr;
  Ref context_;
  Ref module_;          // cxxloop.web.tls
  Ref witness_;         // an SSLObject
  Ref witness_inside_;  // the _ssl._SSLSocket in it
};

}  // namespace cxxloop::python
