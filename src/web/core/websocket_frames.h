// SPDX-License-Identifier: MIT
//
// web/core/websocket_frames.h: WebSocket frames (RFC 6455 5): those of clients read strictly, those of a server written.
//
// Decision: a payload is unmasked where it lies, so that a message that is whole in the buffer the kernel filled is never
// copied here.
// Thread: any.  Python: none.  Owns: nothing; keeps at most a frame's head and a control frame's payload.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace cxxloop::web {

enum class Opcode : uint8_t { continuation = 0, text = 1, binary = 2, close = 8, ping = 9, pong = 10 };

// RFC 6455 7.4.1 and the registry of IANA.
namespace close_code {
inline constexpr uint16_t normal = 1000;
inline constexpr uint16_t going_away = 1001;
inline constexpr uint16_t protocol_error = 1002;
inline constexpr uint16_t none = 1005;      // the close frame has no code; never sent
inline constexpr uint16_t abnormal = 1006;  // there was no close frame; never sent
inline constexpr uint16_t not_utf8 = 1007;
inline constexpr uint16_t too_big = 1009;
inline constexpr uint16_t internal_error = 1011;
inline constexpr uint16_t service_restart = 1012;
}  // namespace close_code

// May a close frame carry this code? 1000-1003, 1007-1014 (1012-1014 are registered with IANA), 3000-4999.
[[nodiscard]] bool is_close_code(uint16_t code) noexcept;

// Why a client is refused: what the close frame says.
struct CloseReason {
  uint16_t code = 0;
  std::string_view reason = {};
};

// Reads the frames of one client.
class FrameDecoder {
 public:
  static constexpr size_t control_bytes_max = 125;

  enum class Kind : uint8_t {
    more,     // nothing is left; give more
    data,     // a piece of a text or binary message
    control,  // a whole control frame
    refused,  // refusal() says why; nothing more may be given
  };
  struct Step {
    Kind kind;
    size_t used = 0;               // bytes at the front that are done with: all of them for more
    Opcode opcode = Opcode::text;  // data: text or binary, in every piece of a message
    bool is_last = false;          // data: the message ends with this piece
    bool is_compressed = false;    // data: of the whole message (RFC 7692)
    std::string_view payload = {};  // unmasked; valid while the bytes are and until next(); may be empty at the end of a frame
  };

  // `message_bytes_max`: of all frames of a message together, as they are sent; a longer one is refused by its frame's head.
  // `may_compress`: permessage-deflate was agreed upon.
  FrameDecoder(uint64_t message_bytes_max, bool may_compress) noexcept
      : message_bytes_max_(message_bytes_max), may_compress_(may_compress) {}

  // One step through `bytes`, which it changes. Bytes that are done with are not to be given again.
  [[nodiscard]] Step next(std::span<char> bytes) noexcept;
  [[nodiscard]] CloseReason refusal() const noexcept { return refusal_; }

 private:
  // first -> second -> rest (of the head) -> payload -> first. None of them is left at the end of the bytes given.
  enum class State : uint8_t { first, second, rest, payload };

  [[nodiscard]] bool take_head(std::span<char> bytes, size_t& used) noexcept;
  [[nodiscard]] const char* check_first() noexcept;
  [[nodiscard]] const char* check_second() noexcept;
  [[nodiscard]] bool finish_head() noexcept;
  [[nodiscard]] Step take_data(std::span<char> bytes, size_t used) noexcept;
  [[nodiscard]] Step take_control(std::span<char> bytes, size_t used) noexcept;
  void unmask(std::span<char> payload) noexcept;
  bool refuse(uint16_t code, std::string_view reason) noexcept {
    refusal_ = {code, reason};
    return false;
  }
  [[nodiscard]] bool is_final() const noexcept { return (head_[0] & 0x80) != 0; }
  [[nodiscard]] bool is_control() const noexcept { return (head_[0] & 0x08) != 0; }

  const uint64_t message_bytes_max_;
  uint64_t message_bytes_ = 0;  // of the message so far, the frame that is read included
  uint64_t left_ = 0;           // of the frame's payload
  CloseReason refusal_;
  std::array<uint8_t, 14> head_{};
  std::array<uint8_t, 4> mask_{};                 // of the next byte of the payload on
  std::array<char, control_bytes_max> control_;   // of a control frame that came in pieces
  uint8_t head_size_ = 0;
  uint8_t head_wanted_ = 1;
  uint8_t control_size_ = 0;
  State state_ = State::first;
  Opcode message_ = Opcode::continuation;  // of the message that is read; continuation: none is
  bool is_compressed_ = false;             // True exactly when that message is
  const bool may_compress_;
};

// The head of a server's frame.
class FrameHead {
 public:
  FrameHead(Opcode opcode, uint64_t payload_bytes, bool is_compressed) noexcept;
  [[nodiscard]] std::string_view view() const noexcept { return {bytes_.data(), size_}; }

 private:
  std::array<char, 10> bytes_;
  uint8_t size_;
};

// What the payload of a client's close frame says; code 1005 if it is empty.
struct ReceivedClose {
  CloseReason close;
  CloseReason refusal;  // of a payload that none may be; code 0: it is right
};
[[nodiscard]] ReceivedClose read_close(std::string_view payload) noexcept;

// The payload of a close frame.
class ClosePayload {
 public:
  static constexpr size_t reason_bytes_max = FrameDecoder::control_bytes_max - 2;

  // Nothing: the code is none that may be sent, or the reason is too long or no UTF-8. 1005 makes an empty payload.
  [[nodiscard]] static std::optional<ClosePayload> make(CloseReason close) noexcept;
  [[nodiscard]] std::string_view view() const noexcept { return {bytes_.data(), size_}; }

 private:
  std::array<char, FrameDecoder::control_bytes_max> bytes_;
  uint8_t size_ = 0;
};

}  // namespace cxxloop::web
