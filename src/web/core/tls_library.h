// SPDX-License-Identifier: MIT
//
// web/core/tls_library.h: the functions of the libssl that the process has loaded already, found at run time.
//
// Decision: found by name in the library that Python's own module _ssl stands on, and declared here: nothing is linked, no
// header of OpenSSL is needed to build, and there is never a second OpenSSL in the process. Only what OpenSSL 1.1.1 and
// later documents is used, and no structure of it is known here.
// Thread: any.  Python: none.
#pragma once

#include <cstddef>
#include <cstdint>

// OpenSSL's own names of its opaque types.
struct ssl_st;
struct ssl_ctx_st;
struct ssl_cipher_st;
struct bio_st;
struct bio_method_st;
struct x509_st;
struct X509_name_st;
struct stack_st;

namespace cxxloop::web {

using Ssl = ssl_st;
using SslContext = ssl_ctx_st;
using Bio = bio_st;

struct TlsLibrary {
  // Of the library of `handle` (dlopen(3)) and what that is linked with. Null: some function is missing, or this is no
  // OpenSSL. A process has one: what was found first stays, also if another handle is given later.
  [[nodiscard]] static const TlsLibrary* find(void* handle) noexcept;

  using BioWriteFn = int (*)(Bio*, const char*, int);
  using BioReadFn = int (*)(Bio*, char*, int);
  using BioControlFn = long (*)(Bio*, int, long, void*);

  unsigned long (*OpenSSL_version_num)();
  const char* (*OpenSSL_version)(int);
  uint64_t (*SSL_CTX_get_options)(const SslContext*);
  void (*ERR_clear_error)();

  Ssl* (*SSL_new)(SslContext*);
  void (*SSL_free)(Ssl*);
  void (*SSL_set_bio)(Ssl*, Bio*, Bio*);
  void (*SSL_set_accept_state)(Ssl*);
  long (*SSL_ctrl)(Ssl*, int, long, void*);
  uint64_t (*SSL_set_options)(Ssl*, uint64_t);
  int (*SSL_set_ex_data)(Ssl*, int, void*);
  int (*SSL_do_handshake)(Ssl*);
  int (*SSL_read_ex)(Ssl*, void*, size_t, size_t*);
  int (*SSL_write_ex)(Ssl*, const void*, size_t, size_t*);
  int (*SSL_get_error)(const Ssl*, int);
  int (*SSL_shutdown)(Ssl*);

  int (*SSL_version)(const Ssl*);
  const ssl_cipher_st* (*SSL_get_current_cipher)(const Ssl*);
  uint16_t (*SSL_CIPHER_get_protocol_id)(const ssl_cipher_st*);
  x509_st* (*SSL_get_certificate)(const Ssl*);
  x509_st* (*SSL_get1_peer_certificate)(const Ssl*);  // SSL_get_peer_certificate() before 3.0
  stack_st* (*SSL_get_peer_cert_chain)(const Ssl*);
  int (*OPENSSL_sk_num)(const stack_st*);
  void* (*OPENSSL_sk_value)(const stack_st*, int);
  int (*i2d_X509)(const x509_st*, unsigned char**);
  void (*X509_free)(x509_st*);
  X509_name_st* (*X509_get_subject_name)(const x509_st*);
  int (*X509_NAME_print_ex)(Bio*, const X509_name_st*, int, unsigned long);
  void (*CRYPTO_free)(void*, const char*, int);

  int (*BIO_get_new_index)();
  bio_method_st* (*BIO_meth_new)(int, const char*);
  int (*BIO_meth_set_write)(bio_method_st*, BioWriteFn);
  int (*BIO_meth_set_read)(bio_method_st*, BioReadFn);
  int (*BIO_meth_set_ctrl)(bio_method_st*, BioControlFn);
  Bio* (*BIO_new)(const bio_method_st*);
  int (*BIO_free)(Bio*);
  void (*BIO_set_data)(Bio*, void*);
  void* (*BIO_get_data)(Bio*);
  void (*BIO_set_init)(Bio*, int);
  void (*BIO_set_flags)(Bio*, int);
  void (*BIO_clear_flags)(Bio*, int);
  int (*BIO_read)(Bio*, void*, int);
  const bio_method_st* (*BIO_s_mem)();

  // Of a Bio whose data is the NativeTlsSession that it serves.
  const bio_method_st* wire_method;

 private:
  explicit TlsLibrary(void* handle) noexcept;
  [[nodiscard]] bool find_connections(void* handle) noexcept;
  [[nodiscard]] bool find_certificates(void* handle) noexcept;
  [[nodiscard]] bool find_bios(void* handle) noexcept;
  [[nodiscard]] bool is_openssl() const noexcept;
  [[nodiscard]] bool make_wire_method() noexcept;

  bool is_whole_ = false;  // True exactly when every function was found and the library is OpenSSL
};

}  // namespace cxxloop::web
