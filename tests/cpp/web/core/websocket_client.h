// SPDX-License-Identifier: MIT
//
// cpp/web/core/websocket_client.h: frames as a client writes them, right ones and wrong ones.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "web/core/websocket_frames.h"

namespace cxxloop::web {

inline constexpr std::array<unsigned char, 4> client_mask = {0x37, 0xFA, 0x21, 0x3D};  // of the examples of RFC 6455 5.7

struct ClientFrame {
  uint8_t first = 0x81;  // FIN, RSV1-3, opcode
  std::string payload = {};
  int length_bytes = -1;  // 0, 2 or 8; -1: as few as do
  bool is_masked = true;
  uint64_t claimed_bytes = 0;  // not zero: the length that the head names, whatever the payload has
};

inline std::string client_frame(const ClientFrame& frame) {
  const uint64_t size = frame.claimed_bytes != 0 ? frame.claimed_bytes : frame.payload.size();
  const int length_bytes = frame.length_bytes >= 0 ? frame.length_bytes : size < 126 ? 0 : size <= 0xFFFF ? 2 : 8;
  const uint64_t length = length_bytes == 0 ? size : length_bytes == 2 ? 126 : 127;
  std::string bytes = {static_cast<char>(frame.first), static_cast<char>((frame.is_masked ? 0x80 : 0) | length)};
  for (int i = length_bytes - 1; i >= 0; --i) bytes.push_back(static_cast<char>(size >> 8 * i));
  if (!frame.is_masked) return bytes + frame.payload;
  for (const unsigned char byte : client_mask) bytes.push_back(static_cast<char>(byte));
  for (size_t i = 0; i < frame.payload.size(); ++i) bytes.push_back(static_cast<char>(frame.payload[i] ^ client_mask[i % 4]));
  return bytes;
}

// A frame of an opcode, by default the last of its message.
inline std::string client_frame(Opcode opcode, std::string_view payload, bool is_last = true) {
  return client_frame({.first = static_cast<uint8_t>((is_last ? 0x80 : 0) | static_cast<uint8_t>(opcode)), .payload = std::string(payload)});
}

inline std::string client_close(uint16_t code, std::string_view reason = {}) {
  return client_frame(Opcode::close, std::string{static_cast<char>(code >> 8), static_cast<char>(code & 0xFF)}.append(reason));
}

}  // namespace cxxloop::web
