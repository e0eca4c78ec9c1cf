// SPDX-License-Identifier: MIT
//
// web/core/tls_native_session.h: the server's side of one TLS connection, by libssl.
//
// Records are decrypted from where the kernel put them to where they are parsed, and encrypted to where they are sent from:
// the library's Bio is the server's TlsWire.
// Thread: loop thread.  Python: libssl may call functions of the context that run some.  Owns: the Ssl.
#pragma once

#include "web/core/tls_library.h"
#include "web/core/tls_session.h"

namespace cxxloop::web {

class NativeTlsSession final : public TlsSession {
 public:
  // Null: out of memory. `application_data`: what functions of the context expect to find as SSL_get_app_data(); outlives
  // the session, as the wire does.
  [[nodiscard]] static std::unique_ptr<NativeTlsSession> make(const TlsLibrary& library, SslContext* context,
                                                              void* application_data, TlsWire& wire) noexcept;
  ~NativeTlsSession() override;

  [[nodiscard]] TlsOutcome handshake() noexcept override;
  [[nodiscard]] TlsRead read(std::span<char> into) noexcept override;
  [[nodiscard]] bool write(std::string_view bytes) noexcept override;
  void close() noexcept override;
  void describe(TlsReport& report) noexcept override;

 private:
  friend struct WireBio;

  NativeTlsSession(const TlsLibrary& library, TlsWire& wire) noexcept : library_(library), wire_(wire) {}
  [[nodiscard]] TlsOutcome outcome_of(int result) noexcept;
  template <class F>
  void with_der(const x509_st* certificate, F&& use) noexcept;
  // `client`: owned.
  void describe_client(x509_st* client, TlsReport& report) noexcept;
  void report_name(const x509_st* certificate, TlsReport& report) noexcept;

  const TlsLibrary& library_;
  TlsWire& wire_;
  Ssl* ssl_ = nullptr;
};

// The functions of TlsLibrary::wire_method.
struct WireBio {
  static int write(Bio* bio, const char* bytes, int size) noexcept;
  static int read(Bio* bio, char* into, int size) noexcept;
  static long control(Bio* bio, int command, long number, void* pointer) noexcept;
};

}  // namespace cxxloop::web
