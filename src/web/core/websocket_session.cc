// SPDX-License-Identifier: MIT
#include "web/core/websocket_session.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace cxxloop::web {
namespace {

constexpr const char* out_of_memory = "out of memory";
constexpr size_t kept_bytes_max = 4096;  // of a message's memory, between messages

uint64_t bound_of(uint64_t limit) noexcept { return limit != 0 ? limit : UINT64_MAX >> 1; }

}  // namespace

WebSocketSession::WebSocketSession(WebSocketCarrier& carrier, WebSocketUser& user, const WebSocketLimits& limits,
                                   const std::optional<DeflateParameters>& deflate) noexcept
    : carrier_(carrier),
      user_(&user),
      decoder_(bound_of(limits.message_bytes_max), deflate.has_value()),
      message_bytes_max_(bound_of(limits.message_bytes_max)),
      ping_ns_(limits.ping_ns),
      pong_ns_(limits.pong_ns),
      close_ns_(limits.close_ns) {
  if (deflate) {
    inflater_.emplace(*deflate);
    deflater_.emplace(*deflate);
  }
  if (ping_ns_ > 0) due_ns_ = carrier_.now_ns() + ping_ns_;
}

const char* WebSocketSession::send(MessageKind kind, std::string_view bytes, void* owner) noexcept {
  const Entry entry(carrier_);
  if (state_ != State::open) return "the WebSocket is closed";
  const Opcode opcode = kind == MessageKind::text ? Opcode::text : Opcode::binary;
  if (!deflater_ || bytes.size() < compressed_bytes_min || bytes.size() > MessageDeflater::message_bytes_max) {
    return carrier_.write(FrameHead(opcode, bytes.size(), false).view(), bytes, owner) ? nullptr : out_of_memory;
  }
  if (!send_compressed(opcode, bytes)) {
    // The deflater has seen a message that the client will not see: no later one could be read.
    fail({close_code::internal_error, out_of_memory});
    return out_of_memory;
  }
  if (owner != nullptr) carrier_.release(owner);
  return nullptr;
}

bool WebSocketSession::send_compressed(Opcode opcode, std::string_view bytes) noexcept {
  ByteBuffer payload;
  return deflater_->deflate(bytes, payload) &&
         carrier_.write(FrameHead(opcode, payload.size(), true).view(), payload.view(), nullptr);
}

const char* WebSocketSession::close(CloseReason close) noexcept {
  const Entry entry(carrier_);
  if (state_ != State::open) return "the WebSocket is closed";
  const std::optional<ClosePayload> payload = ClosePayload::make(close);
  if (!payload) return "a close code that none may be sent with, or a reason that is too long or no UTF-8";
  state_ = State::closing;
  due_ns_ = close_ns_ > 0 ? carrier_.now_ns() + close_ns_ : never_ns;
  send_control(Opcode::close, payload->view());
  if (!std::exchange(reads_, true)) carrier_.set_reading(true);
  tell_end(close);
  return nullptr;
}

void WebSocketSession::set_reading(bool reads) noexcept {
  const Entry entry(carrier_);
  if (state_ != State::open || reads_ == reads) return;
  reads_ = reads;
  // Nothing could be heard meanwhile.
  if (reads && awaits_life_) due_ns_ = carrier_.now_ns() + pong_ns_;
  carrier_.set_reading(reads);
}

size_t WebSocketSession::receive(std::span<char> bytes) noexcept {
  if (state_ == State::open && !bytes.empty() && std::exchange(awaits_life_, false)) due_ns_ = ping_sent_ns_ + ping_ns_;
  const size_t given = bytes.size();
  while (state_ != State::ended && reads_) {
    const FrameDecoder::Step step = decoder_.next(bytes);
    bytes = bytes.subspan(step.used);
    switch (step.kind) {
      case FrameDecoder::Kind::more: return given;
      case FrameDecoder::Kind::data: take_data(step); break;
      case FrameDecoder::Kind::control: take_control(step); break;
      case FrameDecoder::Kind::refused: fail(decoder_.refusal()); break;
    }
  }
  return state_ == State::ended ? given : given - bytes.size();
}

void WebSocketSession::take_data(const FrameDecoder::Step& step) noexcept {
  if (state_ != State::open) return message_.release();  // we have closed: what still comes is dropped
  if (!(step.is_compressed ? expand(step) : append(step)) || !step.is_last) return;
  if (!utf8_.is_complete()) return (void)fail({close_code::not_utf8, "the text ends inside a character"});
  const bool is_at_hand = !step.is_compressed && message_.empty();
  deliver(step.opcode == Opcode::text ? MessageKind::text : MessageKind::binary, is_at_hand ? step.payload : message_.view());
}

bool WebSocketSession::append(const FrameDecoder::Step& step) noexcept {
  if (step.opcode == Opcode::text && !utf8_.accept(step.payload)) return fail({close_code::not_utf8, "the text is not UTF-8"});
  if (step.is_last && message_.empty()) return true;
  return message_.append(step.payload) || fail({close_code::internal_error, out_of_memory});
}

bool WebSocketSession::expand(const FrameDecoder::Step& step) noexcept {
  const size_t before = message_.size();
  const MessageInflater::Outcome outcome = inflater_->inflate(step.payload, step.is_last, message_, message_bytes_max_);
  // First, so that the client is told the same wherever its bytes were cut.
  if (step.opcode == Opcode::text && !utf8_.accept(message_.view().substr(before))) {
    return fail({close_code::not_utf8, "the text is not UTF-8"});
  }
  switch (outcome) {
    case MessageInflater::Outcome::ok: return true;
    case MessageInflater::Outcome::too_big: return fail({close_code::too_big, "message too big"});
    case MessageInflater::Outcome::corrupt: return fail({close_code::protocol_error, "the message cannot be expanded"});
    case MessageInflater::Outcome::no_memory: break;
  }
  return fail({close_code::internal_error, out_of_memory});
}

void WebSocketSession::deliver(MessageKind kind, std::string_view bytes) noexcept {
  user_->on_message(kind, bytes);
  message_.capacity() > kept_bytes_max ? message_.release() : message_.clear();
}

void WebSocketSession::take_control(const FrameDecoder::Step& step) noexcept {
  if (step.opcode == Opcode::close) return take_close(step.payload);
  if (step.opcode == Opcode::ping && state_ == State::open) send_pong(step.payload);
}

void WebSocketSession::take_close(std::string_view payload) noexcept {
  const ReceivedClose received = read_close(payload);
  if (received.refusal.code != 0) return (void)fail(received.refusal);
  if (state_ == State::open) send_control(Opcode::close, payload.substr(0, 2));  // the code again, or none
  end(received.close);
}

// A client that takes nothing gets one pong when it does.
void WebSocketSession::send_pong(std::string_view payload) noexcept {
  if (!carrier_.is_full()) return send_control(Opcode::pong, payload);
  owes_pong_ = true;
  pong_size_ = static_cast<uint8_t>(payload.copy(pong_.data(), pong_.size()));
}

// Without memory the client waits in vain, as if the frame were lost with the connection: its own time limit, or ours, follows.
void WebSocketSession::send_control(Opcode opcode, std::string_view payload) noexcept {
  (void)carrier_.write(FrameHead(opcode, payload.size(), false).view(), payload, nullptr);
}

void WebSocketSession::on_room() noexcept {
  if (state_ != State::open) return;
  if (std::exchange(owes_pong_, false)) send_control(Opcode::pong, {pong_.data(), pong_size_});
  user_->on_drained();
}

void WebSocketSession::on_deadline(int64_t now_ns) noexcept {
  if (now_ns < deadline_ns()) return;
  if (state_ == State::closing) return end({close_code::abnormal});
  if (awaits_life_ && reads_) return (void)fail({close_code::internal_error, "keepalive ping timeout"});
  // The write limit is for a client that takes nothing, and who does not read cannot hear: no ping then.
  due_ns_ = now_ns + ping_ns_;
  if (carrier_.is_full() || !reads_) return;
  send_control(Opcode::ping, {});
  ping_sent_ns_ = now_ns;
  awaits_life_ = pong_ns_ > 0;
  if (awaits_life_) due_ns_ = now_ns + pong_ns_;
}

void WebSocketSession::on_lost() noexcept {
  if (state_ == State::ended) return;
  state_ = State::ended;
  tell_end({close_code::abnormal});
}

bool WebSocketSession::fail(CloseReason close) noexcept {
  if (state_ == State::open) send_control(Opcode::close, ClosePayload::make(close)->view());
  end(close);
  return false;
}

void WebSocketSession::end(CloseReason close) noexcept {
  state_ = State::ended;
  carrier_.finish();
  tell_end(close);
}

void WebSocketSession::tell_end(CloseReason close) noexcept {
  if (WebSocketUser* const user = std::exchange(user_, nullptr)) user->on_end(close);
}

}  // namespace cxxloop::web
