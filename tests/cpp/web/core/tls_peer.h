// SPDX-License-Identifier: MIT
//
// web/core/tls_peer.h: the machine's libssl, as a server's context with a certificate of its own, and as a client that speaks
// through strings.
#pragma once

#include <dlfcn.h>
#include <gtest/gtest.h>

#include <string>
#include <string_view>

#include "web/core/tls_native_session.h"

struct evp_pkey_st;

namespace cxxloop::web {

// Null: this machine has none that a server can use.
inline void* tls_handle() {
  static void* const handle = [] {
    void* found = nullptr;
    for (const char* name : {"libssl.so.4", "libssl.so.3", "libssl.so"}) {
      if (found == nullptr) found = ::dlopen(name, RTLD_NOW | RTLD_LOCAL);
    }
    return found;
  }();
  return handle;
}

inline const TlsLibrary* tls_library() { return tls_handle() != nullptr ? TlsLibrary::find(tls_handle()) : nullptr; }

// A function of the library that only tests use: call<int>("SSL_is_server", ssl).
template <class Result, class... Args>
Result call(const char* name, Args... args) {
  void* const function = ::dlsym(tls_handle(), name);
  EXPECT_NE(function, nullptr) << name;
  return reinterpret_cast<Result (*)(Args...)>(function)(args...);
}

// A key and a certificate for it that it has signed itself.
struct TlsIdentity {
  explicit TlsIdentity(const char* name) {
    auto* const make_key = reinterpret_cast<evp_pkey_st* (*)(void*, const char*, const char*, ...)>(::dlsym(tls_handle(), "EVP_PKEY_Q_keygen"));
    key = make_key(nullptr, nullptr, "EC", "P-256");
    certificate = call<x509_st*>("X509_new");
    call<int>("X509_set_version", certificate, 2L);
    X509_name_st* const subject = call<X509_name_st*>("X509_get_subject_name", certificate);
    constexpr int utf8 = 0x1000;  // MBSTRING_UTF8
    const auto add = [&](const char* field, const char* value) {
      const auto* const bytes = reinterpret_cast<const unsigned char*>(value);
      EXPECT_EQ(call<int>("X509_NAME_add_entry_by_txt", subject, field, utf8, bytes, -1, -1, 0), 1);
    };
    add("O", "Acme, Inc.");
    add("CN", name);
    call<int>("X509_set_issuer_name", certificate, subject);
    call<void*>("X509_gmtime_adj", call<void*>("X509_getm_notBefore", certificate), -3600L);
    call<void*>("X509_gmtime_adj", call<void*>("X509_getm_notAfter", certificate), 3600L);
    call<int>("X509_set_pubkey", certificate, key);
    EXPECT_GT(call<int>("X509_sign", certificate, key, call<const void*>("EVP_sha256")), 0);
  }
  TlsIdentity(const TlsIdentity&) = delete;
  TlsIdentity& operator=(const TlsIdentity&) = delete;
  ~TlsIdentity() {
    call<void>("X509_free", certificate);
    call<void>("EVP_PKEY_free", key);
  }
  void use(SslContext* context) const {
    EXPECT_EQ(call<int>("SSL_CTX_use_certificate", context, certificate), 1);
    EXPECT_EQ(call<int>("SSL_CTX_use_PrivateKey", context, key), 1);
  }
  [[nodiscard]] std::string der() const {
    unsigned char* bytes = nullptr;
    const int size = tls_library()->i2d_X509(certificate, &bytes);
    std::string text(reinterpret_cast<char*>(bytes), static_cast<size_t>(size));
    tls_library()->CRYPTO_free(bytes, "", 0);
    return text;
  }

  evp_pkey_st* key;
  x509_st* certificate;
};

inline SslContext* make_tls_context() { return call<SslContext*>("SSL_CTX_new", call<const void*>("TLS_method")); }

// A server's context.
struct TlsServerContext final : TlsContext {
  TlsServerContext() : context(make_tls_context()) { identity.use(context); }
  TlsServerContext(const TlsServerContext&) = delete;
  TlsServerContext& operator=(const TlsServerContext&) = delete;
  ~TlsServerContext() { call<void>("SSL_CTX_free", context); }

  // Clients have to show this certificate.
  void demand(const TlsIdentity& client) const {
    EXPECT_EQ(call<int>("X509_STORE_add_cert", call<void*>("SSL_CTX_get_cert_store", context), client.certificate), 1);
    call<void>("SSL_CTX_set_verify", context, 0x1 | 0x2, static_cast<void*>(nullptr));
  }

  std::unique_ptr<TlsSession> make_session(TlsWire& wire) noexcept override {
    if (is_refusing) return nullptr;
    return NativeTlsSession::make(*tls_library(), context, nullptr, wire);
  }

  TlsIdentity identity{"server"};
  SslContext* context;
  bool is_refusing = false;
};

struct TlsClientOptions {
  int version = 0x0304;
  const TlsIdentity* identity = nullptr;
};

// What it receives and sends are strings.
class TlsClient {
 public:
  explicit TlsClient(const TlsClientOptions& options = {}) : context_(make_tls_context()) {
    for (const int control : {123, 124}) call<long>("SSL_CTX_ctrl", context_, control, long{options.version}, static_cast<void*>(nullptr));
    if (options.identity != nullptr) options.identity->use(context_);
    ssl_ = call<Ssl*>("SSL_new", context_);
    in_ = call<Bio*>("BIO_new", call<const void*>("BIO_s_mem"));
    out_ = call<Bio*>("BIO_new", call<const void*>("BIO_s_mem"));
    call<void>("SSL_set_bio", ssl_, in_, out_);
    call<void>("SSL_set_connect_state", ssl_);
  }
  TlsClient(const TlsClient&) = delete;
  TlsClient& operator=(const TlsClient&) = delete;
  ~TlsClient() {
    call<void>("SSL_free", ssl_);
    call<void>("SSL_CTX_free", context_);
  }

  void receive(std::string_view encrypted) {
    if (encrypted.empty()) return;
    EXPECT_EQ(call<int>("BIO_write", in_, static_cast<const void*>(encrypted.data()), static_cast<int>(encrypted.size())),
              static_cast<int>(encrypted.size()));
  }
  [[nodiscard]] std::string to_send() {
    std::string text(256 * 1024, '\0');
    const int size = call<int>("BIO_read", out_, static_cast<void*>(text.data()), static_cast<int>(text.size()));
    text.resize(size > 0 ? static_cast<size_t>(size) : 0);
    return text;
  }
  // True: done.
  bool handshake() { return tls_library()->SSL_do_handshake(ssl_) == 1; }
  void write(std::string_view text) {
    size_t taken = 0;
    EXPECT_EQ(tls_library()->SSL_write_ex(ssl_, text.data(), text.size(), &taken), 1);
  }
  std::string read() {
    std::string all;
    std::string piece(64 * 1024, '\0');
    for (;;) {
      size_t size = 0;
      tls_library()->ERR_clear_error();
      const int result = tls_library()->SSL_read_ex(ssl_, piece.data(), piece.size(), &size);
      if (result != 1) return all;
      all.append(piece, 0, size);
    }
  }
  void close() { (void)tls_library()->SSL_shutdown(ssl_); }
  // The server has said that it sends no more.
  [[nodiscard]] bool is_closed() { return (call<int>("SSL_get_shutdown", static_cast<const Ssl*>(ssl_)) & 2) != 0; }
  [[nodiscard]] Ssl* ssl() { return ssl_; }

 private:
  SslContext* context_;
  Ssl* ssl_;
  Bio* in_;
  Bio* out_;
};

}  // namespace cxxloop::web
