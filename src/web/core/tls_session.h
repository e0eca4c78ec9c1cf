// SPDX-License-Identifier: MIT
//
// web/core/tls_session.h: the line between a connection and whatever speaks TLS for it.
//
// Decision: a session keeps no buffers. What was received and what is to be sent lie in the server's TlsWire, which belongs
// to the connection whose callback runs; so an idle connection costs what the TLS library keeps and nothing else.
// Thread: loop thread.  Python: none; a session may run some inside each of its methods.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

namespace cxxloop::web {

// The plain bytes of one record at most (RFC 8446 5.1).
inline constexpr size_t tls_record_bytes_max = 16 * 1024;

// The encrypted bytes of the connection whose callback runs.
struct TlsWire {
  // A record grows at most by so much, also where the client has asked for fragments of 512 bytes (RFC 6066 4).
  static constexpr size_t record_growth_max = 4 * 1024;

  std::span<const std::byte> input = {};  // received, and not taken by the session yet
  std::span<std::byte> output = {};       // room for what is to be sent
  size_t output_used = 0;

  [[nodiscard]] std::span<std::byte> room() const noexcept { return output.subspan(output_used); }
  [[nodiscard]] bool has_room_for_record() const noexcept {
    return room().size() >= tls_record_bytes_max + record_growth_max;
  }
};

enum class TlsOutcome : uint8_t {
  done,    // the handshake is over; or bytes were read
  wait,    // all of the input is taken: more is needed
  full,    // there is no room for output: it has to be sent first
  closed,  // the client has said that it sends no more (close_notify)
  failed,  // nothing can be read or written any more; an alert may be in the output
};

struct TlsRead {
  TlsOutcome outcome;
  size_t bytes = 0;
};

// Is told what a session knows of a connection; the views are valid inside the call.
class TlsReport {
 public:
  // Numbers of IANA: 0x0304, 0x1301. 0: not known.
  virtual void on_version(unsigned version, unsigned cipher_suite) noexcept = 0;
  virtual void on_server_certificate(std::string_view der) noexcept = 0;
  // The client's own first, then those it has sent to vouch for it.
  virtual void on_client_certificate(std::string_view der) noexcept = 0;
  // The subject of the client's certificate (RFC 4514).
  virtual void on_client_name(std::string_view name) noexcept = 0;

 protected:
  ~TlsReport() = default;
};

class TlsSession {
 public:
  virtual ~TlsSession() = default;

  [[nodiscard]] virtual TlsOutcome handshake() noexcept = 0;
  // REQUIRES: the handshake is done.
  [[nodiscard]] virtual TlsRead read(std::span<char> into) noexcept = 0;
  // Encrypts all of it. False: failed. REQUIRES: as read(); at most one record, and room for it.
  [[nodiscard]] virtual bool write(std::string_view bytes) noexcept = 0;
  // Says that nothing more comes (close_notify). REQUIRES: as read().
  virtual void close() noexcept = 0;
  virtual void describe(TlsReport& report) noexcept = 0;
};

// Makes the sessions of a server. Outlives them.
class TlsContext {
 public:
  // Null: it cannot, and has reported why.
  [[nodiscard]] virtual std::unique_ptr<TlsSession> make_session(TlsWire& wire) noexcept = 0;

 protected:
  ~TlsContext() = default;
};

}  // namespace cxxloop::web
