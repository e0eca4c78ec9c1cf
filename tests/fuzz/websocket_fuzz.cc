// SPDX-License-Identifier: MIT
//
// A client's bytes: however they are cut, and whenever the application stops reading, both sides must have seen the same.
#include <cstdint>
#include <cstdlib>
#include <string>

#include "cpp/web/core/websocket_client.h"
#include "cpp/web/core/websocket_probe.h"
#include "web/core/websocket_handshake.h"

namespace cxxloop::web {
namespace {

// What the first bytes of an input choose.
struct Choice {
  bool has_frames;     // the rest is no bytes of the wire but frames to be made: first byte, size, payload
  bool has_deflate;
  bool forgets;
  bool echoes;
  size_t piece_bytes;
};

std::string wire_of(const Choice& choice, std::string_view rest) {
  if (!choice.has_frames) return std::string(rest);
  std::string wire;
  while (rest.size() >= 2) {
    const auto size = static_cast<uint8_t>(rest[1]);
    wire += client_frame({.first = static_cast<uint8_t>(rest[0]), .payload = std::string(rest.substr(2, size))});
    rest.remove_prefix(std::min<size_t>(rest.size(), 2 + size_t{size}));
  }
  return wire;
}

std::string story_of(const Choice& choice, const std::string& wire, size_t piece_bytes, bool stops) {
  WebSocketLimits limits;
  limits.message_bytes_max = 2000;
  std::optional<DeflateParameters> deflate;
  // The largest window: zlib lets a client that goes beyond a smaller one pass while what it refers to is at hand.
  if (choice.has_deflate) deflate = DeflateParameters{9, window_bits_max, choice.forgets, choice.forgets};
  WebSocketProbe probe(limits, deflate);
  probe.says_reading = false;
  probe.at_message = [&](MessageKind kind, std::string_view bytes) {
    if (choice.echoes && probe.session.send(kind, bytes) != nullptr) std::abort();
    if (stops) probe.session.set_reading(false);
  };
  probe.receive(wire, piece_bytes);
  for (size_t before = SIZE_MAX; stops && probe.left.size() < before;) {
    before = probe.left.size();
    probe.session.set_reading(true);
    probe.give_left();
  }
  if (!probe.left.empty()) std::abort();
  probe.session.on_lost();
  return probe.story;
}

// Any text: no crash, and an answer only to an offer.
void negotiate(std::string_view text) {
  DeflateNegotiation negotiation({});
  ByteBuffer out;
  if (negotiation.take(text) && negotiation.agreed() && !negotiation.append_response(out)) std::abort();
}

}  // namespace
}  // namespace cxxloop::web

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace cxxloop::web;
  if (size == 0) return 0;
  const std::string_view rest(reinterpret_cast<const char*>(data + 1), size - 1);
  const Choice choice = {(data[0] & 1) != 0, (data[0] & 2) != 0, (data[0] & 4) != 0, (data[0] & 8) != 0, size_t{1} + (data[0] >> 4)};
  const std::string wire = wire_of(choice, rest);
  const std::string whole = story_of(choice, wire, wire.size() + 1, false);
  if (story_of(choice, wire, choice.piece_bytes, false) != whole) std::abort();
  if (story_of(choice, wire, choice.piece_bytes, true) != whole) std::abort();
  negotiate(rest);
  return 0;
}
