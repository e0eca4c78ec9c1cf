// SPDX-License-Identifier: MIT
//
// web/core/tls_stream.h: TLS between a connection and its stream: received bytes decrypted, queued bytes encrypted.
//
// Decision: what a callback writes is queued as it is, and encrypted when the callback ends, so that head, body and the next
// pipelined responses are one record and leave as one send, from the buffer that they were encrypted to.
// Decision: nothing is encrypted that the kernel would not take: what waits for a slow client stays where the application
// has put it.
// Thread: loop thread.  Python: see TlsSession.  Owns: the session, the bytes that are not encrypted yet.
// Dies: with its connection.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string_view>

#include "net/cork.h"
#include "net/stream.h"
#include "net/write_queue.h"
#include "web/core/output.h"
#include "web/core/tls_session.h"

namespace cxxloop::web {

// Of a server: what the TLS connections use, one callback after the other.
struct TlsBuffers {
  struct Memory {
    std::array<char, tls_record_bytes_max> record;
    std::array<char, 4 * tls_record_bytes_max> plain;
    std::array<std::byte, 4 * tls_record_bytes_max + TlsWire::record_growth_max> output;
  };
  // While one exists the buffers are those of one callback that decrypts. One inside another (the application turns the loop)
  // has memory of its own: what is decrypted is still looked at.
  class Loan;

  TlsBuffers() noexcept { wire.output = memory->output; }

  TlsWire wire;
  uint64_t kept_bytes = 0;
  OutputPool kept{nullptr, kept_bytes};  // of encrypted bytes that have to wait for the kernel
  bool is_busy = false;  // True exactly inside a method of a session, whose output may lie in the wire
  bool is_lent = false;  // True exactly while there is a Loan
  Memory own_memory;
  Memory* memory = &own_memory;
};

class TlsBuffers::Loan {
 public:
  explicit Loan(TlsBuffers& buffers) noexcept;
  Loan(const Loan&) = delete;
  Loan& operator=(const Loan&) = delete;
  ~Loan();

  // False: no memory; the buffers must not be used.
  [[nodiscard]] bool is_given() const noexcept { return is_outermost_ || nested_ != nullptr; }

 private:
  TlsBuffers& buffers_;
  const bool is_outermost_;
  std::unique_ptr<Memory> nested_;  // null: the outermost, or no memory
  // Of the outer one.
  TlsWire wire_;
  Memory* memory_ = nullptr;
  bool is_busy_ = false;
};

class TlsStream final : public net::LateWriter {
 public:
  // Of a file, encrypted in one callback, so that a large file does not keep other connections waiting.
  static constexpr uint64_t file_bytes_per_seal = 256 * 1024;

  enum class Sealed : uint8_t {
    all,      // nothing is left but what the stream has
    waiting,  // the kernel is full: once more when the stream has sent what it has
    paused,   // the same, in a callback of its own
    broken,   // nothing can be encrypted any more
    short_file,  // the file ends earlier, or cannot be read
  };

  // The cork is pulled: seal() is due. May destroy the stream.
  using DueFn = void (*)(void* owner) noexcept;

  TlsStream(void* owner, DueFn on_due, net::Stream& stream, TlsBuffers& buffers, std::unique_ptr<TlsSession> session,
            int64_t now_ns) noexcept;

  // What is written here is encrypted by the next seal().
  [[nodiscard]] net::WriteQueue& queue() noexcept { return queue_; }
  [[nodiscard]] TlsSession& session() noexcept { return *session_; }
  [[nodiscard]] int64_t begin_ns() const noexcept { return begin_ns_; }
  // True exactly when the handshake is done.
  [[nodiscard]] bool is_secured() const noexcept { return is_secured_; }

  // --- received bytes: take(), then the others until they say wait ---------------------------------------------
  void take(std::span<const std::byte> bytes) noexcept { buffers_.wire.input = bytes; }
  // True: these are the first bytes of the connection, and the client speaks HTTP without TLS.
  [[nodiscard]] bool is_plain_http() const noexcept;
  // What the session itself has to send is in the stream's queue afterwards, to be sent by the owner.
  [[nodiscard]] TlsOutcome handshake() noexcept;
  [[nodiscard]] TlsRead read() noexcept;
  // What the last read() has decrypted; valid until the next one of any connection.
  [[nodiscard]] std::string_view plain(size_t bytes) const noexcept { return {buffers_.memory->plain.data(), bytes}; }

  // --- bytes to be sent ----------------------------------------------------------------------------------------
  // Encrypts and sends, the queue first, then the file. A failed send is told by the stream's handler.
  [[nodiscard]] Sealed seal() noexcept;
  // Behind what is queued; the descriptor is borrowed while has_file().
  void begin_file(int file, uint64_t offset, uint64_t size) noexcept;
  [[nodiscard]] bool has_file() const noexcept { return file_left_ > 0; }
  [[nodiscard]] uint64_t file_left_bytes() const noexcept { return file_left_; }
  // When all is sealed, the client is told that nothing follows.
  void finish() noexcept { is_finishing_ = true; }
  // The connection is broken.
  void drop() noexcept;
  void release_memory() noexcept { queue_.release_memory(); }

  // --- net::LateWriter -----------------------------------------------------------------------------------------
  void on_pull() noexcept override { on_due_(owner_); }

 private:
  class Busy;

  [[nodiscard]] Sealed fill() noexcept;
  [[nodiscard]] std::string_view gather() noexcept;
  [[nodiscard]] bool encrypt(std::string_view bytes) noexcept;
  // False: no memory.
  [[nodiscard]] bool send_wire() noexcept;
  [[nodiscard]] bool queue_wire() noexcept;
  [[nodiscard]] bool keep(std::span<const std::byte> bytes) noexcept;

  void* const owner_;
  const DueFn on_due_;
  net::Stream& stream_;
  TlsBuffers& buffers_;
  std::unique_ptr<TlsSession> session_;
  net::WriteQueue queue_;
  const int64_t begin_ns_;
  uint64_t file_offset_ = 0;
  uint64_t file_left_ = 0;
  int file_ = -1;
  bool has_begun_ = false;     // True exactly after the first handshake()
  bool is_secured_ = false;
  bool has_failed_ = false;    // True exactly when the session must not be called any more
  bool is_finishing_ = false;
  bool has_closed_ = false;    // True exactly after TlsSession::close()
};

}  // namespace cxxloop::web
