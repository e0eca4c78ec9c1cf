// SPDX-License-Identifier: MIT
//
// cpp/web/core/websocket_probe.h: a WebSocket without a network: what its application and its client have seen, in words.
#pragma once

#include <algorithm>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/assert.h"
#include "web/core/limits.h"
#include "web/core/websocket_session.h"

namespace cxxloop::web {

class WebSocketProbe final : public WebSocketUser, public WebSocketCarrier {
 public:
  static constexpr int64_t begin_ns = 1'000 * second_ns;

  explicit WebSocketProbe(const WebSocketLimits& limits = {}, const std::optional<DeflateParameters>& deflate = {})
      : session(*this, *this, limits, deflate) {
    // The session's client reads with what the server writes with.
    if (deflate) client_inflater_ = std::make_unique<MessageInflater>(DeflateParameters{.client_window_bits = deflate->server_window_bits,
                                                                                        .client_no_context_takeover = deflate->server_no_context_takeover});
  }

  // Gives bytes in pieces of `size`; what a session that has stopped reading leaves is kept.
  WebSocketProbe& receive(const std::string& bytes, size_t size = SIZE_MAX) {
    for (size_t begin = 0; begin < bytes.size(); begin += std::min(size, bytes.size())) {
      left += bytes.substr(begin, size);
      give_left();
    }
    return *this;
  }
  void give_left() { left.erase(0, session.receive(left)); }

  // Calls on_deadline() as often as it is due until then.
  void pass(int64_t ns) {
    const int64_t end_ns = now + ns;
    while (session.deadline_ns() <= end_ns) {
      now = std::max(now, session.deadline_ns());
      session.on_deadline(now);
    }
    now = end_ns;
  }

  // "text(hello) <pong(x) end(1000)": messages, sent frames, and the end of the application's and of the session's part.
  std::string take_story() { return std::exchange(story, {}); }

  // --- WebSocketUser ---------------------------------------------------------------------------------------------
  void on_message(MessageKind kind, std::string_view bytes) noexcept override {
    say((kind == MessageKind::text ? "text(" : "binary(") + std::string(bytes) + ")");
    if (at_message) at_message(kind, bytes);
  }
  void on_drained() noexcept override { say("drained"); }
  void on_end(CloseReason close) noexcept override {
    say("end(" + std::to_string(close.code) + (close.reason.empty() ? "" : " " + std::string(close.reason)) + ")");
  }

  // --- WebSocketCarrier ------------------------------------------------------------------------------------------
  void enter() noexcept override {}
  void leave() noexcept override {}
  bool write(std::string_view head, std::string_view payload, void* owner) noexcept override {
    if (is_out_of_memory) return false;
    sent.append(head).append(payload);
    const auto first = static_cast<uint8_t>(head[0]);
    std::string read(payload);
    if ((first & 0x40) != 0) {
      ByteBuffer out;
      CXL_CHECK(client_inflater_->inflate(payload, true, out, UINT64_MAX) == MessageInflater::Outcome::ok);
      read = "compressed " + std::string(out.view());
    }
    CXL_CHECK((first & 0xB0) == 0x80);
    say("<" + name_of(static_cast<Opcode>(first & 0x0F)) + "(" + read + ")");
    if (owner != nullptr) release(owner);
    return true;
  }
  void release(void* owner) noexcept override { released.push_back(owner); }
  bool is_full() const noexcept override { return full; }
  void set_reading(bool reads) noexcept override {
    if (says_reading) say(reads ? "reads" : "stops");
  }
  void finish() noexcept override { say("finish"); }
  int64_t now_ns() const noexcept override { return now; }

 private:
  void say(const std::string& word) { story += (story.empty() ? "" : " ") + word; }
  static std::string name_of(Opcode opcode) {
    switch (opcode) {
      case Opcode::text: return "text";
      case Opcode::binary: return "binary";
      case Opcode::close: return "close";
      case Opcode::ping: return "ping";
      case Opcode::pong: return "pong";
      case Opcode::continuation: break;
    }
    return "?";
  }

  std::unique_ptr<MessageInflater> client_inflater_;

 public:
  std::string story;
  std::string sent;
  std::string left;
  std::vector<void*> released;
  std::function<void(MessageKind, std::string_view)> at_message;
  bool full = false;
  bool says_reading = true;
  bool is_out_of_memory = false;
  int64_t now = begin_ns;
  WebSocketSession session;
};

}  // namespace cxxloop::web
