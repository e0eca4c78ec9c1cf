// SPDX-License-Identifier: MIT
#include "web/core/tls_library.h"

#include <dlfcn.h>

#include <string_view>

#include "web/core/tls_native_session.h"

namespace cxxloop::web {
namespace {

constexpr unsigned long version_min = 0x10101000UL;  // 1.1.1: TLS 1.3, SSL_read_ex()
constexpr int type_source_sink = 0x0400;             // BIO_TYPE_SOURCE_SINK

template <class Function>
bool find_function(void* handle, const char* name, Function*& function) noexcept {
  function = reinterpret_cast<Function*>(::dlsym(handle, name));
  return function != nullptr;
}

}  // namespace

const TlsLibrary* TlsLibrary::find(void* handle) noexcept {
  static const TlsLibrary library(handle);
  return library.is_whole_ ? &library : nullptr;
}

TlsLibrary::TlsLibrary(void* handle) noexcept {
  is_whole_ = find_connections(handle) && find_certificates(handle) && find_bios(handle) && is_openssl() && make_wire_method();
}

bool TlsLibrary::find_connections(void* handle) noexcept {
  return find_function(handle, "OpenSSL_version_num", OpenSSL_version_num) &&
         find_function(handle, "OpenSSL_version", OpenSSL_version) &&
         find_function(handle, "SSL_CTX_get_options", SSL_CTX_get_options) &&
         find_function(handle, "ERR_clear_error", ERR_clear_error) && find_function(handle, "SSL_new", SSL_new) &&
         find_function(handle, "SSL_free", SSL_free) && find_function(handle, "SSL_set_bio", SSL_set_bio) &&
         find_function(handle, "SSL_set_accept_state", SSL_set_accept_state) &&
         find_function(handle, "SSL_ctrl", SSL_ctrl) && find_function(handle, "SSL_set_options", SSL_set_options) &&
         find_function(handle, "SSL_set_ex_data", SSL_set_ex_data) &&
         find_function(handle, "SSL_do_handshake", SSL_do_handshake) &&
         find_function(handle, "SSL_read_ex", SSL_read_ex) && find_function(handle, "SSL_write_ex", SSL_write_ex) &&
         find_function(handle, "SSL_get_error", SSL_get_error) && find_function(handle, "SSL_shutdown", SSL_shutdown);
}

bool TlsLibrary::find_certificates(void* handle) noexcept {
  return find_function(handle, "SSL_version", SSL_version) &&
         find_function(handle, "SSL_get_current_cipher", SSL_get_current_cipher) &&
         find_function(handle, "SSL_CIPHER_get_protocol_id", SSL_CIPHER_get_protocol_id) &&
         find_function(handle, "SSL_get_certificate", SSL_get_certificate) &&
         (find_function(handle, "SSL_get1_peer_certificate", SSL_get1_peer_certificate) ||
          find_function(handle, "SSL_get_peer_certificate", SSL_get1_peer_certificate)) &&
         find_function(handle, "SSL_get_peer_cert_chain", SSL_get_peer_cert_chain) &&
         find_function(handle, "OPENSSL_sk_num", OPENSSL_sk_num) &&
         find_function(handle, "OPENSSL_sk_value", OPENSSL_sk_value) && find_function(handle, "i2d_X509", i2d_X509) &&
         find_function(handle, "X509_free", X509_free) &&
         find_function(handle, "X509_get_subject_name", X509_get_subject_name) &&
         find_function(handle, "X509_NAME_print_ex", X509_NAME_print_ex) &&
         find_function(handle, "CRYPTO_free", CRYPTO_free);
}

bool TlsLibrary::find_bios(void* handle) noexcept {
  return find_function(handle, "BIO_get_new_index", BIO_get_new_index) &&
         find_function(handle, "BIO_meth_new", BIO_meth_new) &&
         find_function(handle, "BIO_meth_set_write", BIO_meth_set_write) &&
         find_function(handle, "BIO_meth_set_read", BIO_meth_set_read) &&
         find_function(handle, "BIO_meth_set_ctrl", BIO_meth_set_ctrl) && find_function(handle, "BIO_new", BIO_new) &&
         find_function(handle, "BIO_free", BIO_free) && find_function(handle, "BIO_set_data", BIO_set_data) &&
         find_function(handle, "BIO_get_data", BIO_get_data) && find_function(handle, "BIO_set_init", BIO_set_init) &&
         find_function(handle, "BIO_set_flags", BIO_set_flags) &&
         find_function(handle, "BIO_clear_flags", BIO_clear_flags) && find_function(handle, "BIO_read", BIO_read) &&
         find_function(handle, "BIO_s_mem", BIO_s_mem);
}

// Libraries that are compatible have other numbers for options and modes; they say so in their version.
bool TlsLibrary::is_openssl() const noexcept {
  const std::string_view version = OpenSSL_version(0);
  return version.starts_with("OpenSSL ") && version.find("compatible") == std::string_view::npos &&
         OpenSSL_version_num() >= version_min;
}

bool TlsLibrary::make_wire_method() noexcept {
  bio_method_st* const method = BIO_meth_new(BIO_get_new_index() | type_source_sink, "cxxloop");
  wire_method = method;
  return method != nullptr && BIO_meth_set_write(method, WireBio::write) == 1 &&
         BIO_meth_set_read(method, WireBio::read) == 1 && BIO_meth_set_ctrl(method, WireBio::control) == 1;
}

}  // namespace cxxloop::web
