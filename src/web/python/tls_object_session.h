// SPDX-License-Identifier: MIT
//
// web/python/tls_object_session.h: the server's side of one TLS connection, by ssl.SSLObject (cxxloop/web/tls.py): where
// libssl cannot be used directly, and for contexts whose functions want to see the connection (sni_callback).
//
// Thread: loop thread.  Owns: the Python object.
#pragma once

#include "python/interp/ref.h"
#include "web/core/tls_session.h"

namespace cxxloop::python {

class WebServer;

class ObjectTlsSession final : public web::TlsSession {
 public:
  // `object`: an ObjectSession.
  ObjectTlsSession(WebServer& server, Ref object, web::TlsWire& wire) noexcept
      : server_(server), object_(std::move(object)), wire_(wire) {}

  [[nodiscard]] web::TlsOutcome handshake() noexcept override;
  [[nodiscard]] web::TlsRead read(std::span<char> into) noexcept override;
  [[nodiscard]] bool write(std::string_view bytes) noexcept override;
  void close() noexcept override;
  void describe(web::TlsReport& report) noexcept override;

 private:
  enum class Drained : uint8_t { all, full, failed };

  [[nodiscard]] Ref take_input() noexcept;
  [[nodiscard]] Drained drain(Gil gil) noexcept;
  void note_failure(Gil gil) noexcept;

  WebServer& server_;
  const Ref object_;
  web::TlsWire& wire_;
  web::TlsOutcome handshake_ = web::TlsOutcome::wait;
};

}  // namespace cxxloop::python
