// SPDX-License-Identifier: MIT
//
// web/core/websocket_session.h: one WebSocket after its handshake (RFC 6455 5 to 7), whatever carries its bytes: messages,
// pings, and the closing handshake.
//
// Decision: the user's part ends with whatever happens first, its own close() included; that the client answers, or does
// not, is the session's business from there on. So nobody has to be kept for a client that does not answer.
// Decision: any byte of a client proves that it lives, not its pong alone, which would stand behind a long message on a
// slow line.
// Thread: loop thread.  Python: none.  Owns: a message that has come in part, zlib's state.
// Dies: with what carries it, never inside one of its methods.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "base/byte_buffer.h"
#include "web/core/utf8.h"
#include "web/core/websocket_deflate.h"
#include "web/core/websocket_frames.h"
#include "web/core/websocket_limits.h"

namespace cxxloop::web {

enum class MessageKind : uint8_t { text, binary };

// The application's side of a WebSocket. It may call any method for the application inside, until on_end().
class WebSocketUser {
 public:
  // A whole message; text is UTF-8. `bytes` are valid inside only.
  virtual void on_message(MessageKind kind, std::string_view bytes) noexcept = 0;
  // is_full() was true, and most of what was queued has gone.
  virtual void on_drained() noexcept = 0;
  // The last call. The code and reason of whoever has closed first; 1005 if the client gave no code, 1006 if it went without a
  // close frame. The reason is valid inside only.
  virtual void on_end(CloseReason close) noexcept = 0;

 protected:
  ~WebSocketUser() = default;
};

// What carries a WebSocket's bytes. No method calls the session back.
class WebSocketCarrier {
 public:
  // Keeps itself, and the session with it, from enter() to the leave() that belongs to it, which may destroy both.
  virtual void enter() noexcept = 0;
  virtual void leave() noexcept = 0;
  // Queues both. `owner` as in Exchange::write(). False: no memory, nothing is queued, and the owner stays the caller's.
  [[nodiscard]] virtual bool write(std::string_view head, std::string_view payload, void* owner) noexcept = 0;
  // An owner whose bytes nobody needs any more.
  virtual void release(void* owner) noexcept = 0;
  // True: more is queued than Limits::write_buffer_bytes; WebSocketSession::on_room() will tell.
  [[nodiscard]] virtual bool is_full() const noexcept = 0;
  // Nothing is to be received until it is true again; what receive() has left is given then, or after this call.
  virtual void set_reading(bool reads) noexcept = 0;
  // Nothing comes any more from here: what is queued is sent, then the connection ends.
  virtual void finish() noexcept = 0;
  // The time of the callback that runs.
  [[nodiscard]] virtual int64_t now_ns() const noexcept = 0;

 protected:
  ~WebSocketCarrier() = default;
};

class WebSocketSession {
 public:
  static constexpr size_t compressed_bytes_min = 64;  // smaller messages do not get smaller
  static constexpr int64_t never_ns = INT64_MAX;

  // `deflate`: what the handshake has agreed upon.
  WebSocketSession(WebSocketCarrier& carrier, WebSocketUser& user, const WebSocketLimits& limits,
                   const std::optional<DeflateParameters>& deflate) noexcept;

  // --- for the application, until on_end() -----------------------------------------------------------------------
  // Null, or why it was not sent; without memory on_end() may be called inside. `owner`, `bytes`: as in Exchange::write().
  // Text must be UTF-8, which nobody checks.
  [[nodiscard]] const char* send(MessageKind kind, std::string_view bytes, void* owner = nullptr) noexcept;
  // Null: on_end() was called inside. Else the code is none that may be sent, or the reason is too long or no UTF-8.
  [[nodiscard]] const char* close(CloseReason close) noexcept;
  [[nodiscard]] bool is_full() const noexcept { return carrier_.is_full(); }
  // False: no on_message() until it is true again. No effect after on_end().
  void set_reading(bool reads) noexcept;

  // --- for what carries it ---------------------------------------------------------------------------------------
  // Bytes that were received, which it changes. Returns how many are done with: fewer if the application has stopped reading.
  [[nodiscard]] size_t receive(std::span<char> bytes) noexcept;
  // The carrier is full no more.
  void on_room() noexcept;
  // Nothing will come and nothing can be sent any more; no effect after the end.
  void on_lost() noexcept;
  // When on_deadline() is to be called; never_ns: not at all. Asked after each call of a method.
  [[nodiscard]] int64_t deadline_ns() const noexcept { return state_ == State::ended ? never_ns : due_ns_; }
  void on_deadline(int64_t now_ns) noexcept;

 private:
  // open -> closing (our close frame has gone, the client's has not come) -> ended; open -> ended (the client has closed
  // first, was refused, or is lost). What comes after the end is dropped.
  enum class State : uint8_t { open, closing, ended };

  void take_data(const FrameDecoder::Step& step) noexcept;
  [[nodiscard]] bool append(const FrameDecoder::Step& step) noexcept;
  [[nodiscard]] bool expand(const FrameDecoder::Step& step) noexcept;
  void deliver(MessageKind kind, std::string_view bytes) noexcept;
  void take_control(const FrameDecoder::Step& step) noexcept;
  void take_close(std::string_view payload) noexcept;
  void send_pong(std::string_view payload) noexcept;
  void send_control(Opcode opcode, std::string_view payload) noexcept;
  [[nodiscard]] bool send_compressed(Opcode opcode, std::string_view bytes) noexcept;
  // The client has done what it may not, or memory is out. Returns false.
  bool fail(CloseReason close) noexcept;
  void end(CloseReason close) noexcept;
  void tell_end(CloseReason close) noexcept;

  // Around a call of the application, which may come from anywhere.
  class Entry {
   public:
    explicit Entry(WebSocketCarrier& carrier) noexcept : carrier_(carrier) { carrier.enter(); }
    Entry(const Entry&) = delete;
    Entry& operator=(const Entry&) = delete;
    ~Entry() { carrier_.leave(); }

   private:
    WebSocketCarrier& carrier_;
  };

  WebSocketCarrier& carrier_;
  WebSocketUser* user_;  // null: on_end() was called
  FrameDecoder decoder_;
  ByteBuffer message_;   // what has come of it, expanded; empty while a message is whole in the bytes that were received
  Utf8Validator utf8_;
  std::optional<MessageInflater> inflater_;
  std::optional<MessageDeflater> deflater_;
  const uint64_t message_bytes_max_;
  const int64_t ping_ns_;
  const int64_t pong_ns_;
  const int64_t close_ns_;
  int64_t ping_sent_ns_ = 0;
  int64_t due_ns_ = never_ns;  // of the next ping, of a sign of life after it, or of the client's close frame
  State state_ = State::open;
  bool reads_ = true;
  bool awaits_life_ = false;  // True exactly when a ping was sent and nothing has come since
  bool owes_pong_ = false;    // True exactly when pong_ waits for room
  uint8_t pong_size_ = 0;
  std::array<char, FrameDecoder::control_bytes_max> pong_;  // of the last ping (RFC 6455 5.5.3): a flood of them is one answer
};

}  // namespace cxxloop::web
