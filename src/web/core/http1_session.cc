// SPDX-License-Identifier: MIT
//
// web/core/http1_session.cc: from received bytes to exchanges. What an application does with one: http1_exchange.cc.
#include "web/core/http1_session.h"

#include <algorithm>
#include <array>
#include <new>
#include <utility>

#include "web/core/connection.h"

namespace cxxloop::web {

Http1Session::Http1Session(ConnectionHost& host, Connection& connection) noexcept
    : host_(host), connection_(connection), parser_(host.limits.head), since_ns_(host.now_ns) {}

void Http1Session::on_bytes(std::string_view bytes) noexcept {
  if (stage_ == Stage::websocket) {
    if (!carry_.empty()) give_to_websocket();
    if (stage_ == Stage::websocket) websocket_->on_bytes(bytes);
    return;
  }
  rate_bytes_ += bytes.size();
  piece_ns_ = host_.now_ns;
  if (carry_.empty()) {
    fresh_ = bytes;
  } else if (!carry_.append(bytes)) {
    return connection_.end(Ending::Why::client_gone);
  }
  advance();
  keep_rest();
}

void Http1Session::on_eof() noexcept {
  has_eof_ = true;
  if (stage_ == Stage::websocket) return give_to_websocket();
  if (stage_ != Stage::exchange) return advance();
  ExchangeUser* const user = user_;
  if (std::exchange(waits_body_, false)) user->on_body();  // take_body() tells what is missing
  if (user_ == user) user->on_disconnect();                // null: on_body() has ended the exchange
}

void Http1Session::on_ready() noexcept {
  if (stage_ == Stage::websocket) return give_to_websocket();
  if (is_refused_ && stage_ == Stage::exchange) return finish_refused();
  advance();
  keep_rest();
}

void Http1Session::on_room() noexcept {
  if (stage_ == Stage::exchange) return user_->on_drained();
  if (stage_ == Stage::websocket) return websocket_->on_room();
  advance();
  keep_rest();
}

void Http1Session::consume(size_t bytes) noexcept {
  if (carry_.empty()) {
    fresh_.remove_prefix(bytes);
  } else {
    carry_.drop_front(bytes);  // leaves the bytes where they are: views of them stay valid
  }
}

// The backend's buffer belongs to the next connection when this callback ends.
void Http1Session::keep_rest() noexcept {
  if (stage_ == Stage::closed) return;
  if (stage_ == Stage::websocket) return give_to_websocket();
  if (!fresh_.empty() && !carry_.append(std::exchange(fresh_, {}))) return connection_.end(Ending::Why::client_gone);
  if (carry_.empty() && carry_.capacity() > kept_carry_bytes) carry_.release();
  update_reading();
}

void Http1Session::update_reading() noexcept {
  const bool takes_heads = stage_ == Stage::head && !connection_.is_full() && !connection_.is_waiting_ready();
  connection_.set_reading(takes_heads || carry_.size() < host_.limits.body_buffer_bytes);
}

// A loop, because an application that answers inside on_request() would otherwise stand on the stack once for each request.
void Http1Session::advance() noexcept {
  if (std::exchange(is_advancing_, true)) return;
  uint32_t requests_left = requests_per_callback_max;
  bool goes_on = true;
  while (goes_on) {
    switch (stage_) {
      case Stage::head:
        if (connection_.is_full()) {
          goes_on = false;  // on_room() goes on
        } else if (requests_left-- == 0 && !input().empty()) {
          connection_.make_ready();
          goes_on = false;
        } else {
          goes_on = read_head() && stage_ != Stage::exchange;
        }
        break;
      case Stage::exchange:
        if (waits_body_ && !input().empty()) {
          waits_body_ = false;
          user_->on_body();
        }
        goes_on = stage_ != Stage::exchange;
        break;
      case Stage::drain: goes_on = drain_body(); break;
      case Stage::websocket:
      case Stage::closed: goes_on = false; break;
    }
  }
  is_advancing_ = false;
}

// True: an exchange has begun, and may have ended.
bool Http1Session::read_head() noexcept {
  if (input().empty()) {
    if (has_eof_) close(false);
    return false;
  }
  if (!host_.is_head_lent) return take_request(host_.head);
  // An application that turns the loop still looks at its own request.
  const std::unique_ptr<RequestHead> head(new (std::nothrow) RequestHead);
  if (head == nullptr) return connection_.end(Ending::Why::client_gone), false;
  return take_request(*head);
}

bool Http1Session::take_request(RequestHead& head) noexcept {
  switch (parser_.parse(input(), head)) {
    case HeadParser::Outcome::incomplete:
      if (has_eof_) {
        close(false);
      } else if (!std::exchange(has_begun_head_, true)) {
        since_ns_ = host_.now_ns;
      }
      return false;
    case HeadParser::Outcome::refused: return refuse(parser_.refusal()), false;
    case HeadParser::Outcome::complete: break;
  }
  if (host_.is_head_lent) head.forget();  // its version is none of host_.head's
  const uint64_t body_bytes_max = host_.limits.body_bytes_max;
  if (body_bytes_max != 0 && head.content_length > body_bytes_max) return refuse({413, "the body is too large"}), false;
  const bool is_health = !host_.health_path.empty() && head.path == host_.health_path;
  if (is_overloaded() && !is_health) return refuse_overload(), false;
  if (!head.upgrade.empty() && host_.has_websockets && !is_health && !prepare_websocket(head)) return false;
  consume(parser_.consumed());
  begin_exchange(head);
  is_health ? answer_health() : serve(head);
  if (stage_ == Stage::exchange && user_ == nullptr) abort();
  return true;
}

void Http1Session::serve(const RequestHead& head) noexcept {
  const bool was_lent = std::exchange(host_.is_head_lent, true);
  host_.application.on_request(*this, {head, connection_.application_part(), connection_.tls_session(), websocket_ != nullptr});
  host_.is_head_lent = was_lent;
}

bool Http1Session::is_overloaded() const noexcept {
  const uint64_t concurrency_max = host_.limits.concurrency_max;
  const ServerCounters& counts = host_.counts;
  return concurrency_max > 0 && (counts.connections >= concurrency_max || counts.exchanges + counts.websockets >= concurrency_max);
}

void Http1Session::refuse_overload() noexcept {
  host_.counts.count_limit(Limit::concurrency);
  request_ = {};
  answer_error(503, "too many requests at a time");
  close(true);
}

// Nobody above hears of it; nothing is logged.
void Http1Session::answer_health() noexcept {
  const bool is_draining = host_.is_draining();
  const std::string_view body = is_draining ? "draining\n" : "ok\n";
  const std::array<Header, 2> headers = {{{"content-type", "text/plain; charset=utf-8"}, {"cache-control", "no-store"}}};
  if (start({.status = is_draining ? 503 : 200, .headers = headers, .body_bytes = body.size()}) != nullptr) return;
  if (write(body, nullptr) == nullptr) (void)end({});
}

void Http1Session::begin_exchange(const RequestHead& head) noexcept {
  body_.begin(head);
  ++answered_;
  ++host_.counts.requests;
  ++host_.counts.exchanges;
  since_ns_ = piece_ns_ = rate_begin_ns_ = host_.now_ns;
  rate_bytes_ = input().size();
  drained_bytes_ = response_bytes_ = 0;
  status_ = 0;
  expects_continue_ = head.expects_continue;
  client_closes_ = !head.keep_alive;
  has_begun_head_ = waits_body_ = is_body_lost_ = has_trailers_ = is_started_ = is_refused_ = is_slim_ = false;
  const uint64_t requests_max = host_.limits.requests_per_connection_max;
  request_ = {head.minor_version, head.method == "HEAD", head.keep_alive && (requests_max == 0 || answered_ < requests_max)};
  if (websocket_ != nullptr) request_.keep_alive = false;
  user_ = nullptr;
  stage_ = Stage::exchange;
}

bool Http1Session::prepare_websocket(const RequestHead& head) noexcept {
  std::unique_ptr<Http1WebSocket> websocket(new (std::nothrow) Http1WebSocket(host_, connection_));
  if (websocket == nullptr) return refuse({503, "out of memory"}), false;
  WebSocketHandshake& handshake = websocket->handshake();
  switch (handshake.check(head)) {
    case WebSocketHandshake::Outcome::other: break;
    case WebSocketHandshake::Outcome::valid: websocket_ = std::move(websocket); break;
    case WebSocketHandshake::Outcome::refused: return refuse(handshake.refusal(), handshake.refusal_headers()), false;
  }
  return true;
}

// What came behind the handshake, before it was accepted; and what the session has left.
void Http1Session::give_to_websocket() noexcept {
  const std::string_view bytes = input();
  if (!bytes.empty()) websocket_->on_bytes(bytes);
  fresh_ = {};
  carry_.release();
  if (stage_ != Stage::websocket) return;
  if (has_eof_) return websocket_->on_eof();
  websocket_->on_ready();
}

// True: the body is over.
bool Http1Session::drain_body() noexcept {
  for (;;) {
    const RequestBody::Step step = body_.next(input(), host_.limits.body_bytes_max, host_.trailers);
    consume(step.used);
    drained_bytes_ += step.used;
    if (step.kind == RequestBody::Kind::end) {
      stage_ = Stage::head;
      return true;
    }
    const bool is_lost = has_eof_ && step.kind == RequestBody::Kind::more;
    if (is_lost || step.kind == RequestBody::Kind::refused || drained_bytes_ > drained_bytes_max) {
      close(!is_lost);
      return false;
    }
    if (step.kind == RequestBody::Kind::more) return false;
  }
}

// Answers a request that has no exchange.
void Http1Session::refuse(Refusal refusal, std::span<const Header> headers) noexcept {
  host_.counts.count_refusal(refusal.status);
  request_ = {};
  answer_error(refusal.status, refusal.reason, headers);
  close(true);
}

// The answer is our own; nothing the application still says to the exchange has an effect.
void Http1Session::finish_refused() noexcept {
  stage_ = Stage::closed;
  end_exchange(Ending::Why::refused);
  close(true);
}

void Http1Session::refuse_connection(Refusal refusal) noexcept {
  answer_error(refusal.status, refusal.reason);
  close(true);
}

void Http1Session::close(bool lingers) noexcept {
  stage_ = Stage::closed;
  fresh_ = {};
  carry_.release();
  connection_.finish(lingers);
}

// The session takes no more calls of this exchange. What follows for the connection is up to the caller.
void Http1Session::end_exchange(Ending::Why why) noexcept {
  ExchangeUser* const user = std::exchange(user_, nullptr);
  --host_.counts.exchanges;
  if (host_.latency != nullptr) {
    host_.look_at_clock();  // the application may have run since the callback began
    host_.latency->record(host_.now_ns - since_ns_);
  }
  waits_body_ = false;
  since_ns_ = piece_ns_ = rate_begin_ns_ = host_.now_ns;
  if (stage_ == Stage::exchange) stage_ = body_.is_over() ? Stage::head : Stage::drain;
  if (stage_ != Stage::websocket) websocket_.reset();
  if (user != nullptr) user->on_end({why, status_, response_bytes_});
}

void Http1Session::on_connection_end(Ending::Why why) noexcept {
  const bool has_exchange = stage_ == Stage::exchange;
  const bool has_websocket = stage_ == Stage::websocket;
  stage_ = Stage::closed;
  if (has_websocket) websocket_->on_connection_end();
  if (has_exchange) end_exchange(why);
}

void Http1Session::on_drain() noexcept {
  if (stage_ == Stage::websocket) websocket_->on_drain();
}

int64_t Http1Session::deadline_ns() const noexcept {
  switch (stage_) {
    case Stage::head: return head_deadline_ns();
    case Stage::exchange: return std::min(handler_deadline_ns(), waits_body_ ? body_deadline_ns() : Deadlines::never_ns);
    case Stage::drain: return body_deadline_ns();
    case Stage::websocket: return websocket_->deadline_ns();
    case Stage::closed: break;
  }
  return Deadlines::never_ns;
}

int64_t Http1Session::head_deadline_ns() const noexcept {
  if (connection_.is_full() || connection_.is_waiting_ready()) return Deadlines::never_ns;
  const int64_t limit_ns = input().empty() && answered_ > 0 ? host_.limits.idle_ns : host_.limits.head_ns;
  int64_t deadline_ns = limit_ns > 0 ? since_ns_ + limit_ns : Deadlines::never_ns;
  if (!input().empty()) return deadline_ns;
  if (host_.is_draining()) deadline_ns = std::min(deadline_ns, std::max(since_ns_, host_.drain_ns) + drain_grace_ns);
  return is_slim_ ? deadline_ns : std::min(deadline_ns, since_ns_ + slim_ns);
}

int64_t Http1Session::handler_deadline_ns() const noexcept {
  return is_started_ || host_.limits.handler_ns <= 0 ? Deadlines::never_ns : since_ns_ + host_.limits.handler_ns;
}

int64_t Http1Session::body_deadline_ns() const noexcept {
  const Limits& limits = host_.limits;
  int64_t deadline_ns = limits.body_ns > 0 ? piece_ns_ + limits.body_ns : Deadlines::never_ns;
  if (limits.body_rate_min == 0) return deadline_ns;
  constexpr uint64_t bytes_max = uint64_t{1} << 33;  // so that the product is a number
  const uint64_t paid_ns = std::min(rate_bytes_, bytes_max) * uint64_t{second_ns} / limits.body_rate_min;
  return std::min(deadline_ns, rate_begin_ns_ + std::max(limits.body_rate_grace_ns, static_cast<int64_t>(paid_ns)));
}

void Http1Session::on_deadline(int64_t now_ns) noexcept {
  switch (stage_) {
    case Stage::head: return expire_head(now_ns);
    case Stage::exchange: return expire_exchange(now_ns);
    case Stage::drain:
      host_.counts.count_timeout(Limit::body_time);
      return close(true);
    case Stage::websocket: return websocket_->on_deadline(now_ns);
    case Stage::closed: return;
  }
}

void Http1Session::expire_head(int64_t now_ns) noexcept {
  if (!is_slim_ && input().empty()) {
    is_slim_ = true;
    carry_.release();
    connection_.release_memory();
    if (head_deadline_ns() > now_ns) return;
  }
  if (input().empty()) return close(false);  // not even 408: the client may be about to send, and would take it for its answer
  host_.counts.count_timeout(Limit::head_time);
  request_ = {};
  answer_error(408, "the head of the request did not come in time");
  close(true);
}

void Http1Session::expire_exchange(int64_t now_ns) noexcept {
  const bool is_handlers_time = !is_started_ && handler_deadline_ns() <= now_ns;
  host_.counts.count_timeout(is_handlers_time ? Limit::handler_time : Limit::body_time);
  if (is_started_) return connection_.reset(Ending::Why::timed_out);
  if (is_handlers_time) {
    answer_error(503, "the application has not answered in time");
  } else {
    answer_error(408, "the body of the request did not come in time");
  }
  stage_ = Stage::closed;
  end_exchange(Ending::Why::timed_out);
  close(true);
}

}  // namespace cxxloop::web
