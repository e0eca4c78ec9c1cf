// SPDX-License-Identifier: MIT
//
// web/core/http1_exchange.cc: what an application does with an exchange over HTTP/1.
#include <array>
#include <charconv>
#include <utility>

#include "base/assert.h"
#include "web/core/connection.h"
#include "web/core/http1_session.h"

namespace cxxloop::web {
namespace {

constexpr const char* no_memory = "out of memory";
constexpr const char* not_started = "no response was started";
constexpr const char* file_under_way = "a file is on its way";
constexpr const char* too_long = "the body is longer than its Content-Length";
constexpr std::string_view line_end = "\r\n";
constexpr size_t size_line_bytes_max = 18;  // 16 digits and the line's end

char* put_size_line(char* at, uint64_t size) noexcept {
  at = std::to_chars(at, at + 16, size, 16).ptr;
  *at++ = '\r';
  *at++ = '\n';
  return at;
}

}  // namespace

BodyPart Http1Session::take_body() noexcept {
  const Connection::Scope scope(connection_);
  has_trailers_ = waits_body_ = false;
  if (stage_ != Stage::exchange || is_body_lost_) return {BodyPart::Kind::lost};
  if (std::exchange(expects_continue_, false) && !is_started_ && input().empty()) {
    Output output = connection_.output();
    constexpr std::string_view line = "HTTP/1.1 100 Continue\r\n\r\n";
    if (output.reserve(line.size()) != nullptr) output.put(line);
    connection_.wrote();
  }
  const bool was_over = body_.is_over();
  const RequestBody::Step step = body_.next(input(), host_.limits.body_bytes_max, host_.trailers);
  consume(step.used);
  if (!is_advancing_) update_reading();
  switch (step.kind) {
    case RequestBody::Kind::data: return {BodyPart::Kind::data, step.data};
    case RequestBody::Kind::end: has_trailers_ = !was_over && body_.is_chunked(); return {BodyPart::Kind::end};
    case RequestBody::Kind::refused: refuse_body(); return {BodyPart::Kind::lost};
    case RequestBody::Kind::more: break;
  }
  if (has_eof_) {
    is_body_lost_ = true;
    return {BodyPart::Kind::lost};
  }
  wait_for_body();
  return {BodyPart::Kind::wait};
}

std::span<const Header> Http1Session::trailers() const noexcept {
  return has_trailers_ ? host_.trailers.all() : std::span<const Header>();
}

// The client is not charged for the time in which the application did not want its bytes.
void Http1Session::wait_for_body() noexcept {
  waits_body_ = true;
  if (is_advancing_) return;
  host_.look_at_clock();
  rate_begin_ns_ += host_.now_ns - piece_ns_;
  piece_ns_ = host_.now_ns;
}

void Http1Session::refuse_body() noexcept {
  is_body_lost_ = true;
  request_.keep_alive = false;
  if (is_started_) return;  // the response is whole all the same, and the connection ends with it
  const Refusal refusal = body_.refusal();
  host_.counts.count_refusal(refusal.status);
  answer_error(refusal.status, refusal.reason);
  is_refused_ = true;
  connection_.make_ready();
}

const char* Http1Session::put_response_head(const ResponseHead& head, const AnsweredRequest& request) noexcept {
  Output output = connection_.output();
  const HeadPlan* const kept = host_.last_head.find(request, head);
  const HeadPlan plan = kept != nullptr ? *kept : plan_head(request, head);
  if (plan.fault != nullptr) return plan.fault;
  char* const at = output.reserve(plan.bytes_max);
  if (at == nullptr) return no_memory;
  if (kept != nullptr) {
    output.put(host_.last_head.text());
  } else {
    const std::string_view text(at, static_cast<size_t>(put_head(at, request, head, plan) - at));
    host_.last_head.keep(request, head, plan, text);
    output.commit(text.size());
  }
  if (head.status < 200) return nullptr;
  host_.counts.count_response(head.status);
  framing_ = plan.framing;
  response_left_ = plan.framing == BodyFraming::length ? plan.content_length : 0;
  request_.keep_alive = plan.keep_alive;
  status_ = head.status;
  is_started_ = true;
  return nullptr;
}

const char* Http1Session::inform(int status, std::span<const Header> headers) noexcept {
  const Connection::Scope scope(connection_);
  if (is_refused_) return nullptr;
  if (is_started_) return "the response was started";
  if (status < 100 || status > 199 || status == 101) return "the status is no interim one";
  if (request_.minor_version == 0) return nullptr;
  ResponseHead head;
  head.status = status;
  head.headers = headers;
  const char* const fault = put_response_head(head, {});
  if (fault == nullptr) connection_.wrote();
  return fault;
}

const char* Http1Session::start(const ResponseStart& response) noexcept {
  const Connection::Scope scope(connection_);
  if (is_refused_) return nullptr;
  if (is_started_) return "the response was started";
  if (response.status < 200) return "the status is none of a final response";
  ResponseHead head;
  head.status = response.status;
  head.headers = response.headers;
  head.body_bytes = response.body_bytes;
  if (host_.has_date_header) head.date = host_.date.now();
  head.server = host_.server_header;
  // A client that waits for 100 Continue may send its body now or not: nobody can tell what its next bytes are.
  AnsweredRequest request = request_;
  request.keep_alive = request_.keep_alive && !expects_continue_ && !host_.is_draining();
  const char* const fault = put_response_head(head, request);
  if (fault == nullptr) connection_.wrote();
  return fault;
}

const char* Http1Session::write(std::string_view bytes, void* owner) noexcept {
  const Connection::Scope scope(connection_);
  if (!is_started_) return not_started;
  if (connection_.is_sending_file()) return file_under_way;
  const bool is_dropped = is_refused_ || framing_ == BodyFraming::none;
  if (!is_dropped && framing_ == BodyFraming::length && bytes.size() > response_left_) return too_long;
  if (!bytes.empty() && !is_dropped) return put_piece(bytes, owner);
  host_.output.release(owner);
  return nullptr;
}

const char* Http1Session::put_piece(std::string_view bytes, void* owner) noexcept {
  const bool is_lent = owner != nullptr && bytes.size() > Output::copied_bytes_max;
  const bool is_chunk = framing_ == BodyFraming::chunked;
  const size_t framing_bytes = is_chunk ? size_line_bytes_max + line_end.size() : 0;
  Output output = connection_.output();
  char* const at = output.reserve(is_lent ? framing_bytes : framing_bytes + bytes.size());
  if (at == nullptr) return no_memory;
  if (is_chunk) output.commit(static_cast<size_t>(put_size_line(at, bytes.size()) - at));
  is_lent ? output.lend(bytes, owner) : output.put(bytes);
  if (is_chunk) output.put(line_end);
  if (framing_ == BodyFraming::length) response_left_ -= bytes.size();
  response_bytes_ += bytes.size();
  if (!is_lent) host_.output.release(owner);
  connection_.wrote();
  return nullptr;
}

const char* Http1Session::end(std::span<const Header> trailers) noexcept {
  const Connection::Scope scope(connection_);
  if (is_refused_) return finish_refused(), nullptr;
  if (!is_started_) return not_started;
  if (connection_.is_sending_file()) return file_under_way;
  if (framing_ == BodyFraming::chunked) {
    const TrailerPlan plan = plan_trailers(trailers);
    if (plan.fault != nullptr) return plan.fault;
    constexpr std::string_view last = "0\r\n";
    Output output = connection_.output();
    char* const at = output.reserve(last.size() + plan.bytes_max);
    if (at == nullptr) return no_memory;
    output.commit(static_cast<size_t>(put_trailers(at + last.copy(at, last.size()), trailers) - at));
    connection_.wrote();
  }
  if (!is_advancing_) host_.look_at_clock();
  const bool is_short = response_left_ > 0;
  const bool keeps_alive = request_.keep_alive && !is_short;
  const bool lingers = !body_.is_over() || !input().empty() || !client_closes_;
  if (!keeps_alive) stage_ = Stage::closed;
  end_exchange(is_short ? Ending::Why::aborted : Ending::Why::answered);
  if (!keeps_alive) {
    close(lingers);
  } else if (!is_advancing_ && (stage_ == Stage::drain || !input().empty() || has_eof_)) {
    connection_.make_ready();  // the next request must not begin inside the application's call
  }
  return is_short ? "the body is shorter than its Content-Length" : nullptr;
}

const char* Http1Session::write_file(int fd, uint64_t offset, uint64_t size) noexcept {
  const Connection::Scope scope(connection_);
  if (!is_started_) return not_started;
  if (connection_.is_sending_file()) return file_under_way;
  if (size == 0 || is_refused_ || framing_ == BodyFraming::none) return nullptr;
  if (framing_ == BodyFraming::length && size > response_left_) return too_long;
  if (framing_ == BodyFraming::chunked) {
    Output output = connection_.output();
    char* const at = output.reserve(size_line_bytes_max);
    if (at == nullptr) return no_memory;
    output.commit(static_cast<size_t>(put_size_line(at, size) - at));
  }
  if (framing_ == BodyFraming::length) response_left_ -= size;
  response_bytes_ += size;
  if (connection_.send_file(fd, offset, size)) end_file();
  return nullptr;
}

void Http1Session::on_file_sent() noexcept {
  end_file();
  if (stage_ == Stage::exchange) user_->on_drained();
}

void Http1Session::end_file() noexcept {
  if (framing_ != BodyFraming::chunked) return;
  Output output = connection_.output();
  if (output.reserve(line_end.size()) == nullptr) return connection_.reset(Ending::Why::aborted);
  output.put(line_end);
  connection_.wrote();
}

Accepted Http1Session::accept(std::string_view subprotocol, std::span<const Header> headers, WebSocketUser& user) noexcept {
  const Connection::Scope scope(connection_);
  if (stage_ != Stage::exchange || websocket_ == nullptr) return {.fault = "the request asks for no WebSocket"};
  if (is_started_ || is_refused_) return {.fault = "the response was started"};
  if (const char* const fault = websocket_->accept(subprotocol, headers, user)) return {.fault = fault};
  status_ = 101;
  host_.counts.count_response(status_);
  is_started_ = true;
  stage_ = Stage::websocket;
  if (!is_advancing_) connection_.make_ready();  // for what has come already: not inside the application's call
  end_exchange(Ending::Why::answered);
  return {.socket = stage_ == Stage::websocket ? &websocket_->session() : nullptr};
}

void Http1Session::abort() noexcept {
  const Connection::Scope scope(connection_);
  if (is_refused_) return finish_refused();
  // In a forked child the parent gives the answer.
  if (is_started_ || host_.engine.cork().is_inherited()) return connection_.reset(Ending::Why::aborted);
  answer_error(500, "the application has failed");
  stage_ = Stage::closed;
  end_exchange(Ending::Why::aborted);
  close(true);
}

bool Http1Session::is_full() const noexcept { return connection_.is_full() || connection_.is_sending_file(); }

void Http1Session::answer_error(int status, std::string_view reason, std::span<const Header> more) noexcept {
  std::array<Header, 4> headers = {{{"content-type", "text/plain; charset=utf-8"}, {"retry-after", "1"}}};
  size_t count = status == 503 ? 2 : 1;
  CXL_ASSERT(count + more.size() <= headers.size());
  for (const Header& header : more) headers[count++] = header;
  ResponseHead head;
  head.status = status;
  head.headers = std::span<const Header>(headers).first(count);
  head.body_bytes = reason.size() + line_end.size();
  if (host_.has_date_header) head.date = host_.date.now();
  head.server = host_.server_header;
  AnsweredRequest request = request_;
  request.keep_alive = false;
  if (put_response_head(head, request) != nullptr) return;  // no memory: the connection just ends
  Output output = connection_.output();
  if (framing_ == BodyFraming::none || output.reserve(reason.size() + line_end.size()) == nullptr) return connection_.wrote();
  output.put(reason);
  output.put(line_end);
  response_bytes_ = reason.size() + line_end.size();
  connection_.wrote();
}

}  // namespace cxxloop::web
