// SPDX-License-Identifier: MIT
#include "web/core/websocket_frames.h"

#include <algorithm>
#include <cstring>

#include "base/assert.h"
#include "web/core/utf8.h"

namespace cxxloop::web {
namespace {

constexpr uint8_t first_compressed = 0x40;  // RSV1
constexpr uint8_t first_reserved = 0x30;    // RSV2, RSV3
constexpr uint8_t second_masked = 0x80;
constexpr uint8_t second_length = 0x7F;
constexpr uint8_t length_16 = 126;
constexpr uint8_t length_64 = 127;

uint64_t big_endian(const uint8_t* at, size_t size) noexcept {
  uint64_t value = 0;
  for (size_t i = 0; i < size; ++i) value = value << 8 | at[i];
  return value;
}

}  // namespace

bool is_close_code(uint16_t code) noexcept {
  return (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) || (code >= 3000 && code <= 4999);
}

FrameDecoder::Step FrameDecoder::next(std::span<char> bytes) noexcept {
  size_t used = 0;
  while (state_ != State::payload) {
    if (!take_head(bytes, used)) return {Kind::refused, used};
    if (state_ != State::payload && used == bytes.size()) return {Kind::more, used};
  }
  return is_control() ? take_control(bytes, used) : take_data(bytes, used);
}

// Each part of the head is checked as soon as it is there.
bool FrameDecoder::take_head(std::span<char> bytes, size_t& used) noexcept {
  const size_t size = std::min<size_t>(head_wanted_ - head_size_, bytes.size() - used);
  if (size > 0) std::memcpy(head_.data() + head_size_, bytes.data() + used, size);
  used += size;
  head_size_ = static_cast<uint8_t>(head_size_ + size);
  if (head_size_ < head_wanted_) return true;
  if (state_ == State::rest) return finish_head();
  const char* const fault = state_ == State::first ? check_first() : check_second();
  return fault == nullptr || refuse(close_code::protocol_error, fault);
}

const char* FrameDecoder::check_first() noexcept {
  const auto opcode = static_cast<Opcode>(head_[0] & 0x0F);
  if ((head_[0] & first_reserved) != 0) return "reserved bits are set";
  const bool is_compressed = (head_[0] & first_compressed) != 0;
  switch (opcode) {
    case Opcode::continuation:
      if (message_ == Opcode::continuation) return "a continuation of no message";
      if (is_compressed) return "reserved bits are set";
      break;
    case Opcode::text:
    case Opcode::binary:
      if (message_ != Opcode::continuation) return "a message inside another one";
      if (is_compressed && !may_compress_) return "reserved bits are set";
      message_ = opcode;
      message_bytes_ = 0;
      is_compressed_ = is_compressed;
      break;
    case Opcode::close:
    case Opcode::ping:
    case Opcode::pong:
      if (is_compressed) return "reserved bits are set";
      if (!is_final()) return "a control frame in fragments";
      break;
    default: return "a reserved opcode";
  }
  state_ = State::second;
  head_wanted_ = 2;
  return nullptr;
}

const char* FrameDecoder::check_second() noexcept {
  if ((head_[1] & second_masked) == 0) return "a frame without a mask";
  const uint8_t length = head_[1] & second_length;
  if (is_control() && length > control_bytes_max) return "a control frame is too long";
  const size_t length_bytes = length == length_64 ? 8 : length == length_16 ? 2 : 0;
  state_ = State::rest;
  head_wanted_ = static_cast<uint8_t>(2 + length_bytes + mask_.size());
  return nullptr;
}

bool FrameDecoder::finish_head() noexcept {
  const uint8_t length = head_[1] & second_length;
  left_ = length;
  if (length == length_16) {
    left_ = big_endian(head_.data() + 2, 2);
    if (left_ < length_16) return refuse(close_code::protocol_error, "a length is not written the short way");
  } else if (length == length_64) {
    left_ = big_endian(head_.data() + 2, 8);
    if (left_ >> 63 != 0) return refuse(close_code::protocol_error, "a length has more than 63 bits");
    if (left_ <= 0xFFFF) return refuse(close_code::protocol_error, "a length is not written the short way");
  }
  std::memcpy(mask_.data(), head_.data() + head_wanted_ - mask_.size(), mask_.size());
  control_size_ = 0;
  state_ = State::payload;
  if (is_control()) return true;
  if (left_ > message_bytes_max_ - message_bytes_) return refuse(close_code::too_big, "message too big");
  message_bytes_ += left_;
  return true;
}

FrameDecoder::Step FrameDecoder::take_data(std::span<char> bytes, size_t used) noexcept {
  const auto size = static_cast<size_t>(std::min<uint64_t>(left_, bytes.size() - used));
  if (size == 0 && left_ > 0) return {Kind::more, used};
  const std::span<char> payload = bytes.subspan(used, size);
  unmask(payload);
  left_ -= size;
  Step step{Kind::data, used + size, message_, false, is_compressed_, {payload.data(), payload.size()}};
  if (left_ > 0) return step;
  step.is_last = is_final();
  if (step.is_last) message_ = Opcode::continuation;
  state_ = State::first;
  head_size_ = 0;
  head_wanted_ = 1;
  return step;
}

FrameDecoder::Step FrameDecoder::take_control(std::span<char> bytes, size_t used) noexcept {
  const auto size = static_cast<size_t>(std::min<uint64_t>(left_, bytes.size() - used));
  const std::span<char> part = bytes.subspan(used, size);
  unmask(part);
  left_ -= size;
  used += size;
  std::string_view payload(part.data(), part.size());
  if (control_size_ > 0 || left_ > 0) {
    if (size > 0) std::memcpy(control_.data() + control_size_, part.data(), size);
    control_size_ = static_cast<uint8_t>(control_size_ + size);
    payload = {control_.data(), control_size_};
  }
  if (left_ > 0) return {Kind::more, used};
  state_ = State::first;
  head_size_ = 0;
  head_wanted_ = 1;
  return {Kind::control, used, static_cast<Opcode>(head_[0] & 0x0F), true, false, payload};
}

// Eight bytes at a time; turns the mask so that it fits what follows.
void FrameDecoder::unmask(std::span<char> payload) noexcept {
  std::array<uint8_t, 8> twice;
  std::memcpy(twice.data(), mask_.data(), 4);
  std::memcpy(twice.data() + 4, mask_.data(), 4);
  uint64_t mask;
  std::memcpy(&mask, twice.data(), 8);
  char* at = payload.data();
  size_t left = payload.size();
  for (; left >= 8; left -= 8, at += 8) {
    uint64_t eight;
    std::memcpy(&eight, at, 8);
    eight ^= mask;
    std::memcpy(at, &eight, 8);
  }
  for (size_t i = 0; i < left; ++i) at[i] = static_cast<char>(at[i] ^ twice[i]);
  std::memcpy(mask_.data(), twice.data() + left % 4, 4);
}

FrameHead::FrameHead(Opcode opcode, uint64_t payload_bytes, bool is_compressed) noexcept {
  bytes_[0] = static_cast<char>(0x80 | (is_compressed ? first_compressed : 0) | static_cast<uint8_t>(opcode));
  const size_t length_bytes = payload_bytes < length_16 ? 0 : payload_bytes <= 0xFFFF ? 2 : 8;
  bytes_[1] = static_cast<char>(length_bytes == 0 ? payload_bytes : length_bytes == 2 ? length_16 : length_64);
  for (size_t i = 0; i < length_bytes; ++i) bytes_[2 + i] = static_cast<char>(payload_bytes >> 8 * (length_bytes - 1 - i));
  size_ = static_cast<uint8_t>(2 + length_bytes);
}

ReceivedClose read_close(std::string_view payload) noexcept {
  if (payload.empty()) return {.close = {close_code::none}, .refusal = {}};
  const auto refused = [](uint16_t code, std::string_view reason) { return ReceivedClose{.close = {}, .refusal = {code, reason}}; };
  if (payload.size() == 1) return refused(close_code::protocol_error, "half a close code");
  const auto code = static_cast<uint16_t>(big_endian(reinterpret_cast<const uint8_t*>(payload.data()), 2));
  if (!is_close_code(code)) return refused(close_code::protocol_error, "a close code that none may be");
  const std::string_view reason = payload.substr(2);
  if (!is_utf8(reason)) return refused(close_code::not_utf8, "the reason of a close is not UTF-8");
  return {.close = {code, reason}, .refusal = {}};
}

std::optional<ClosePayload> ClosePayload::make(CloseReason close) noexcept {
  ClosePayload payload;
  if (close.code == close_code::none && close.reason.empty()) return payload;
  if (!is_close_code(close.code) || close.reason.size() > reason_bytes_max || !is_utf8(close.reason)) return std::nullopt;
  payload.bytes_[0] = static_cast<char>(close.code >> 8);
  payload.bytes_[1] = static_cast<char>(close.code & 0xFF);
  if (!close.reason.empty()) std::memcpy(payload.bytes_.data() + 2, close.reason.data(), close.reason.size());
  payload.size_ = static_cast<uint8_t>(2 + close.reason.size());
  return payload;
}

}  // namespace cxxloop::web
