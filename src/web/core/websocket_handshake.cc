// SPDX-License-Identifier: MIT
#include "web/core/websocket_handshake.h"

#include "web/core/characters.h"
#include "web/core/sha1.h"

namespace cxxloop::web {
namespace {

constexpr std::string_view key_suffix = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";  // RFC 6455 1.3
constexpr size_t key_characters = 24;                                             // 16 bytes in base64
constexpr std::string_view base64_digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
constexpr Header upgrade_headers[] = {{"upgrade", "websocket"}, {"sec-websocket-version", "13"}};

bool names_websocket(std::string_view upgrade) noexcept {
  bool found = false;
  each_element(upgrade, [&found](std::string_view protocol) noexcept { found |= equals(protocol, "websocket"); });
  return found;
}

bool is_token(std::string_view text) noexcept {
  const char* const end = text.data() + text.size();
  return !text.empty() && skip(characters::token, text.data(), end) == end;
}

bool is_list_of_tokens(std::string_view list) noexcept {
  bool is_right = true;
  each_element(list, [&is_right](std::string_view element) noexcept { is_right &= is_token(element); });
  return is_right;
}

bool is_key(std::string_view key) noexcept {
  return key.size() == key_characters && key.ends_with("==") &&
         key.substr(0, key_characters - 2).find_first_not_of(base64_digits) == key.npos;
}

std::array<char, 28> accept_of(std::string_view key) noexcept {
  std::array<char, key_characters + key_suffix.size()> text;
  key_suffix.copy(text.data() + key.copy(text.data(), key_characters), key_suffix.size());
  const std::array<uint8_t, 20> digest = sha1({text.data(), text.size()});
  std::array<char, 28> accept;
  for (size_t i = 0; i < accept.size(); ++i) {
    uint32_t three = 0;
    for (size_t j = 0; j < 3; ++j) three = three << 8 | (i / 4 * 3 + j < digest.size() ? digest[i / 4 * 3 + j] : 0U);
    accept[i] = base64_digits[three >> 6 * (3 - i % 4) & 63];
  }
  accept.back() = '=';
  return accept;
}

bool append_line(ByteBuffer& out, const Header& header) noexcept {
  return out.append(header.name) && out.append(": ") && out.append(header.value) && out.append("\r\n");
}

// What says how the connection goes on is ours to write.
const char* fault_of(const WebSocketHandshake::Response& response) noexcept {
  if (!response.subprotocol.empty() && !is_token(response.subprotocol)) return "the subprotocol is no token";
  for (const Header& header : response.headers) {
    const std::string_view name = header.name;
    if (equals(name, "upgrade") || equals(name, "connection") || equals(name.substr(0, 14), "sec-websocket-")) {
      return "a header of the WebSocket handshake is the server's to write";
    }
    // A 101 has no body.
    if (equals(name, "content-length") || equals(name, "transfer-encoding")) return "a 101 with a header of a body";
    const char* const value_end = header.value.data() + header.value.size();
    if (!is_token(name)) return "the name of a header is no token";
    if (skip_value(header.value.data(), value_end) != value_end) return "the value of a header has a byte that none may have";
  }
  return nullptr;
}

}  // namespace

WebSocketHandshake::Outcome WebSocketHandshake::check(const RequestHead& head) noexcept {
  if (head.minor_version == 0 || !names_websocket(head.upgrade)) return Outcome::other;
  const auto refused = [this](int status, const char* reason) {
    refuse(status, reason);
    return Outcome::refused;
  };
  if (head.method != "GET") return refused(400, "a WebSocket is opened with GET");
  if (head.framing != Framing::none) return refused(400, "a request for a WebSocket has no body");
  Facts facts;
  for (const Header& header : head.headers()) {
    if (!note(header, facts)) return Outcome::refused;
  }
  if (facts.version != "13") return refused(426, "the version of WebSocket is 13");
  if (!is_key(facts.key)) return refused(400, "the Sec-WebSocket-Key is not 16 bytes in base64");
  accept_ = accept_of(facts.key);
  return Outcome::valid;
}

bool WebSocketHandshake::note(const Header& header, Facts& facts) noexcept {
  if (equals(header.name, "sec-websocket-key")) {
    if (std::exchange(facts.has_key, true)) return refuse(400, "two Sec-WebSocket-Key headers");
    facts.key = header.value;
  } else if (equals(header.name, "sec-websocket-version")) {
    if (std::exchange(facts.has_version, true)) return refuse(400, "two Sec-WebSocket-Version headers");
    facts.version = header.value;
  } else if (equals(header.name, "sec-websocket-protocol")) {
    if (!is_list_of_tokens(header.value)) return refuse(400, "a subprotocol is no token");
  } else if (may_compress_ && equals(header.name, "sec-websocket-extensions")) {
    if (!negotiation_.take(header.value)) return refuse(400, "the Sec-WebSocket-Extensions are no list of extensions");
  }
  return true;
}

std::span<const Header> WebSocketHandshake::refusal_headers() const noexcept {
  return refusal_.status == 426 ? std::span<const Header>(upgrade_headers) : std::span<const Header>();
}

const char* WebSocketHandshake::append_response(ByteBuffer& out, const Response& response) const noexcept {
  if (const char* const fault = fault_of(response)) return fault;
  const size_t before = out.size();
  bool is_whole = out.append("HTTP/1.1 101 Switching Protocols\r\n");
  if (!response.date.empty()) is_whole = is_whole && append_line(out, {"date", response.date});
  if (!response.server.empty()) is_whole = is_whole && append_line(out, {"server", response.server});
  for (const Header& header : response.headers) is_whole = is_whole && append_line(out, header);
  is_whole = is_whole && out.append("upgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-accept: ") &&
             out.append({accept_.data(), accept_.size()});
  if (!response.subprotocol.empty()) {
    is_whole = is_whole && out.append("\r\nsec-websocket-protocol: ") && out.append(response.subprotocol);
  }
  if (negotiation_.agreed()) {
    is_whole = is_whole && out.append("\r\nsec-websocket-extensions: ") && negotiation_.append_response(out);
  }
  if (is_whole && out.append("\r\n\r\n")) return nullptr;
  out.truncate(before);
  return "out of memory";
}

}  // namespace cxxloop::web
