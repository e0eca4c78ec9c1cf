// SPDX-License-Identifier: MIT
//
// web/core/connection.h: one accepted stream: its session, its time limit, and the orderly end of it.
//
// Bytes go from the stream to the session by on_bytes(), and back through output() and wrote(): TLS stands in these two
// places.
// Decision: received bytes are parsed where the kernel put them, in the backend's one buffer; a connection has no buffer
// until a request arrives in pieces, and none while it is idle.
// Thread: loop thread.  Python: none.  Owns: the descriptor, the stream, the session.
// Dies: by itself, when it has ended, the kernel has let go of it, and none of its methods runs.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "base/unique_fd.h"
#include "net/stream.h"
#include "web/core/address_counts.h"
#include "web/core/connection_host.h"
#include "web/core/file_sending.h"
#include "web/core/http1_session.h"
#include "web/core/output.h"
#include "web/core/proxy_protocol.h"
#include "web/core/tls_stream.h"

namespace cxxloop::web {

class Connection final : public net::StreamHandler,
                         public Deadlines::Node,
                         public ConnectionHost::Ready,
                         public ConnectionHost::Member {
 public:
  static constexpr int64_t linger_ns = 2 * second_ns;
  static constexpr uint32_t linger_bytes_max = 512 * 1024;
  // How long after drain() a handshake may still take.
  static constexpr int64_t drain_handshake_ns = 2 * second_ns;
  // Of TLS's own messages that the client has caused and does not read: then the connection ends.
  static constexpr size_t tls_backlog_bytes_max = 256 * 1024;

  // While one exists the connection stays; the outermost ends what has ended, or sets the deadline anew.
  class Scope {
   public:
    explicit Scope(Connection& connection) noexcept : connection_(connection) { connection.enter(); }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;
    ~Scope() { connection_.exit(); }

   private:
    Connection& connection_;
  };

  Connection(ConnectionHost& host, UniqueFd fd, AddressCounts& addresses, AddressCounts::Entry* address) noexcept;
  ~Connection();

  // --- for the server ------------------------------------------------------------------------------------------
  // Tells the application, and begins to read. May destroy the connection, as those below.
  void begin(const io::Address& peer) noexcept;
  // begin(), once the header of the PROXY protocol has told who the client is.
  void begin_proxied() noexcept;
  // Answers 503 and ends; the application never hears of it.
  void begin_refused() noexcept;
  void drain() noexcept;  // the server has begun to
  void on_ready() noexcept;
  void on_deadline(int64_t now_ns) noexcept;
  // At once, whatever is under way.
  void end(Ending::Why why) noexcept;
  // The backend was drained. Destroys the connection. REQUIRES: end().
  void finish_release() noexcept;

  // A Scope by hand: of whoever cannot have one.
  void enter() noexcept { ++depth_; }
  void exit() noexcept {
    if (--depth_ == 0) leave();
  }

  // --- for the session -----------------------------------------------------------------------------------------
  [[nodiscard]] Output output() noexcept { return Output(host_.output, tls_ != nullptr ? tls_->queue() : stream_.queue()); }
  // What was put to the output is sent, at the end of this callback if that is allowed.
  void wrote() noexcept;
  // True: more is queued than Limits::write_buffer_bytes; Session::on_room() will tell.
  [[nodiscard]] bool is_full() const noexcept { return is_full_; }
  void make_ready() noexcept { host_.make_ready(*this); }
  [[nodiscard]] bool is_waiting_ready() const noexcept { return static_cast<const ConnectionHost::Ready&>(*this).is_linked(); }
  // No effect after the end of file.
  void set_reading(bool reads) noexcept;
  // Closes when everything is sent. `lingers`: the client may still send, which would reset the connection before it has
  // read our answer (RFC 9112 9.6): what comes is dropped for a while.
  void finish(bool lingers) noexcept;
  // Ends, so that the client can tell: with a reset.
  void reset(Ending::Why why) noexcept;
  // Sends a part of a file behind what is queued. True: all of it is sent. False: Session::on_file_sent() will tell, before
  // which nothing may be put to the output; or the connection ends.
  [[nodiscard]] bool send_file(int file, uint64_t offset, uint64_t size) noexcept;
  [[nodiscard]] bool is_sending_file() const noexcept { return file_ != nullptr || (tls_ != nullptr && tls_->has_file()); }
  [[nodiscard]] TlsSession* tls_session() noexcept { return tls_ != nullptr ? &tls_->session() : nullptr; }
  [[nodiscard]] void* application_part() const noexcept { return application_part_; }
  // Gives back what an idle connection does not need.
  void release_memory() noexcept {
    stream_.release_memory();
    if (tls_ != nullptr) tls_->release_memory();
  }

  // --- net::StreamHandler --------------------------------------------------------------------------------------
  std::optional<std::span<std::byte>> on_read_target() noexcept override { return std::span<std::byte>(); }
  void on_data(std::span<const std::byte> data) noexcept override;
  void on_eof() noexcept override;
  void on_read_error(Errno error) noexcept override;
  void on_send_waiting(bool is_late) noexcept override;
  void on_sent() noexcept override;
  void on_write_error(Errno error) noexcept override;
  void on_released() noexcept override;

 private:
  // introducing (the proxy's header) -> securing (the handshake of TLS) -> open -> flushing (finish()) -> lingering (all is
  // sent) -> ended; introducing -> open (no TLS), securing -> flushing (it has failed); each -> ended.
  enum class Phase : uint8_t { introducing, securing, open, flushing, lingering, ended };

  static void on_file_ready(void* connection) noexcept;
  void leave() noexcept;
  [[nodiscard]] bool pump_file() noexcept;
  [[nodiscard]] bool has_to_send() const noexcept { return stream_.is_send_waiting() || is_sending_file(); }
  [[nodiscard]] size_t queued_bytes() const noexcept {
    return stream_.queued_bytes() + (tls_ != nullptr ? tls_->queue().bytes() : 0);
  }
  void hold_or_flush() noexcept;
  void flush() noexcept;
  void break_off() noexcept;
  void tell_room() noexcept;

  // Of TLS.
  static void on_seal_due(void* connection) noexcept;
  [[nodiscard]] bool begin_tls() noexcept;
  void on_encrypted(std::span<const std::byte> data) noexcept;
  [[nodiscard]] bool secure() noexcept;
  void on_tls_end(bool is_orderly) noexcept;
  void seal() noexcept;
  void seal_and_tell() noexcept;
  void on_flushed() noexcept;
  void take(std::span<const std::byte> data) noexcept;
  void on_introduction(std::string_view bytes) noexcept;
  [[nodiscard]] int64_t next_deadline_ns() const noexcept;

  ConnectionHost& host_;
  AddressCounts& addresses_;
  AddressCounts::Entry* address_;
  UniqueFd fd_;
  Phase phase_ = Phase::open;
  bool is_full_ : 1 = false;
  bool is_broken_ : 1 = false;      // True exactly when a write has failed: end() follows in a callback of its own
  bool is_cut_off_ : 1 = false;     // True exactly when a file was shorter than promised: reset() follows likewise
  bool has_lingering_ : 1 = false;  // True exactly when finish() wants to linger
  bool has_eof_ : 1 = false;
  bool is_refused_ : 1 = false;     // True exactly after begin_refused()
  bool is_known_ : 1 = false;       // True exactly when the application was told
  uint16_t depth_ = 0;              // of Scopes
  uint32_t dropped_bytes_ = 0;      // while lingering
  int64_t progress_ns_ = 0;         // when the kernel has last taken something, or introducing or lingering began
  void* application_part_ = nullptr;
  std::unique_ptr<ProxyHeader> introduction_;  // null but for Phase::introducing
  std::unique_ptr<FileSending> file_;
  net::Stream stream_;
  std::unique_ptr<TlsStream> tls_;  // null: there is no TLS
  Http1Session session_;
};

}  // namespace cxxloop::web
