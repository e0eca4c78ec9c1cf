// SPDX-License-Identifier: MIT
#include "web/core/tls_native_session.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <new>

namespace cxxloop::web {
namespace {

// Of OpenSSL's headers, where they are documented not to change.
constexpr int ctrl_set_mode = 33;                         // SSL_CTRL_MODE
constexpr long mode_moving_buffer = 0x2;                  // SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER
constexpr long mode_auto_retry = 0x4;                     // SSL_MODE_AUTO_RETRY
constexpr long mode_release_buffers = 0x10;               // SSL_MODE_RELEASE_BUFFERS: 34 KB less of each idle connection
constexpr uint64_t option_no_renegotiation = 1ULL << 30;  // SSL_OP_NO_RENEGOTIATION
constexpr int error_want_read = 2;
constexpr int error_want_write = 3;
constexpr int error_zero_return = 6;
constexpr int bio_flags_read = 0x01;
constexpr int bio_flags_write = 0x02;
constexpr int bio_should_retry = 0x08;
constexpr int bio_retry_flags = 0x0F;
constexpr int bio_ctrl_flush = 11;
// RFC 2253 as OpenSSL writes it, but for letters that are no ASCII, which stay UTF-8 (RFC 4514 2.4).
constexpr unsigned long name_flags = 0x1 | 0x2 | 0x10 | 0x100 | 0x200 | 1UL << 16 | 1UL << 20 | 1UL << 24;
constexpr int name_bytes_max = 4 * 1024;

}  // namespace

// --- the wire -------------------------------------------------------------------------------------------------

int WireBio::read(Bio* bio, char* into, int size) noexcept {
  const TlsLibrary& library = *TlsLibrary::find(nullptr);
  TlsWire& wire = static_cast<NativeTlsSession*>(library.BIO_get_data(bio))->wire_;
  library.BIO_clear_flags(bio, bio_retry_flags);
  const size_t taken = std::min(wire.input.size(), static_cast<size_t>(size));
  if (taken == 0) {
    library.BIO_set_flags(bio, bio_flags_read | bio_should_retry);
    return -1;
  }
  std::memcpy(into, wire.input.data(), taken);
  wire.input = wire.input.subspan(taken);
  return static_cast<int>(taken);
}

int WireBio::write(Bio* bio, const char* bytes, int size) noexcept {
  const TlsLibrary& library = *TlsLibrary::find(nullptr);
  TlsWire& wire = static_cast<NativeTlsSession*>(library.BIO_get_data(bio))->wire_;
  library.BIO_clear_flags(bio, bio_retry_flags);
  const size_t taken = std::min(wire.room().size(), static_cast<size_t>(size));
  if (taken == 0) {
    library.BIO_set_flags(bio, bio_flags_write | bio_should_retry);
    return -1;
  }
  std::memcpy(wire.room().data(), bytes, taken);
  wire.output_used += taken;
  return static_cast<int>(taken);
}

long WireBio::control(Bio*, int command, long, void*) noexcept { return command == bio_ctrl_flush ? 1 : 0; }

// --- the session ----------------------------------------------------------------------------------------------

std::unique_ptr<NativeTlsSession> NativeTlsSession::make(const TlsLibrary& library, SslContext* context,
                                                         void* application_data, TlsWire& wire) noexcept {
  library.ERR_clear_error();
  std::unique_ptr<NativeTlsSession> session(new (std::nothrow) NativeTlsSession(library, wire));
  Bio* const bio = session != nullptr ? library.BIO_new(library.wire_method) : nullptr;
  if (bio == nullptr) return nullptr;
  library.BIO_set_data(bio, session.get());
  library.BIO_set_init(bio, 1);
  session->ssl_ = library.SSL_new(context);
  if (session->ssl_ == nullptr || library.SSL_set_ex_data(session->ssl_, 0, application_data) != 1) {
    library.BIO_free(bio);
    return nullptr;  // the session clears the errors
  }
  library.SSL_set_bio(session->ssl_, bio, bio);
  library.SSL_ctrl(session->ssl_, ctrl_set_mode, mode_moving_buffer | mode_auto_retry | mode_release_buffers, nullptr);
  library.SSL_set_options(session->ssl_, option_no_renegotiation);
  library.SSL_set_accept_state(session->ssl_);
  return session;
}

NativeTlsSession::~NativeTlsSession() {
  library_.SSL_free(ssl_);
  library_.ERR_clear_error();
}

// SSL_get_error() looks at the thread's queue of errors: what somebody else has left there would be taken for ours, and what
// we leave there for an error of the next connection of Python's module ssl that has nothing to read.
TlsOutcome NativeTlsSession::outcome_of(int result) noexcept {
  switch (library_.SSL_get_error(ssl_, result)) {
    case error_want_read: return TlsOutcome::wait;
    case error_want_write: return TlsOutcome::full;
    case error_zero_return: return TlsOutcome::closed;
    default: break;
  }
  library_.ERR_clear_error();
  return TlsOutcome::failed;
}

TlsOutcome NativeTlsSession::handshake() noexcept {
  library_.ERR_clear_error();
  const int result = library_.SSL_do_handshake(ssl_);
  if (result != 1) return outcome_of(result);
  library_.ERR_clear_error();  // of a ticket that was no good, say
  return TlsOutcome::done;
}

TlsRead NativeTlsSession::read(std::span<char> into) noexcept {
  size_t filled = 0;
  library_.ERR_clear_error();
  while (filled < into.size()) {
    size_t bytes = 0;
    const int result = library_.SSL_read_ex(ssl_, into.data() + filled, into.size() - filled, &bytes);
    filled += bytes;
    if (result != 1) return {outcome_of(result), filled};
  }
  return {TlsOutcome::done, filled};
}

bool NativeTlsSession::write(std::string_view bytes) noexcept {
  size_t taken = 0;
  library_.ERR_clear_error();
  if (library_.SSL_write_ex(ssl_, bytes.data(), bytes.size(), &taken) == 1) return true;
  library_.ERR_clear_error();
  return false;
}

void NativeTlsSession::close() noexcept {
  library_.ERR_clear_error();
  (void)library_.SSL_shutdown(ssl_);
  library_.ERR_clear_error();
}

// --- what is known --------------------------------------------------------------------------------------------

template <class F>
void NativeTlsSession::with_der(const x509_st* certificate, F&& use) noexcept {
  unsigned char* der = nullptr;
  const int size = library_.i2d_X509(certificate, &der);
  if (size > 0) use(std::string_view(reinterpret_cast<const char*>(der), static_cast<size_t>(size)));
  if (size > 0) library_.CRYPTO_free(der, "", 0);
}

void NativeTlsSession::describe(TlsReport& report) noexcept {
  const ssl_cipher_st* const cipher = library_.SSL_get_current_cipher(ssl_);
  report.on_version(static_cast<unsigned>(library_.SSL_version(ssl_)),
                    cipher != nullptr ? library_.SSL_CIPHER_get_protocol_id(cipher) : 0);
  const x509_st* const own = library_.SSL_get_certificate(ssl_);
  if (own != nullptr) with_der(own, [&report](std::string_view der) noexcept { report.on_server_certificate(der); });
  x509_st* const client = library_.SSL_get1_peer_certificate(ssl_);
  if (client != nullptr) describe_client(client, report);
  library_.ERR_clear_error();
}

void NativeTlsSession::describe_client(x509_st* client, TlsReport& report) noexcept {
  const auto tell_client = [&report](std::string_view der) noexcept { report.on_client_certificate(der); };
  with_der(client, tell_client);
  report_name(client, report);
  library_.X509_free(client);
  const stack_st* const others = library_.SSL_get_peer_cert_chain(ssl_);
  for (int i = 0; others != nullptr && i < library_.OPENSSL_sk_num(others); ++i) {
    with_der(static_cast<const x509_st*>(library_.OPENSSL_sk_value(others, i)), tell_client);
  }
}

void NativeTlsSession::report_name(const x509_st* certificate, TlsReport& report) noexcept {
  Bio* const bio = library_.BIO_new(library_.BIO_s_mem());
  if (bio == nullptr) return;
  std::array<char, name_bytes_max> text;
  const bool is_written = library_.X509_NAME_print_ex(bio, library_.X509_get_subject_name(certificate), 0, name_flags) >= 0;
  const int size = is_written ? library_.BIO_read(bio, text.data(), name_bytes_max) : 0;
  report.on_client_name({text.data(), static_cast<size_t>(std::max(size, 0))});
  library_.BIO_free(bio);
}

}  // namespace cxxloop::web
