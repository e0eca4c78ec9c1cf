// SPDX-License-Identifier: MIT
#include "web/core/response_head.h"

#include <charconv>
#include <cstring>
#include <limits>

#include "base/assert.h"
#include "web/core/characters.h"

namespace cxxloop::web {
namespace {

constexpr size_t line_bytes = 4;  // of a header beside its name and value
constexpr size_t digits_max = 20;
// The longest status line, our lines without the values of Date and Server, and the empty line.
constexpr size_t own_bytes_max = 192;

// RFC 9110 15, RFC 6585, RFC 7725, RFC 8297, RFC 8470.
struct Phrase {
  int status;
  std::string_view line;
};
constexpr Phrase phrases[] = {
    {100, "100 Continue"},             {101, "101 Switching Protocols"},   {103, "103 Early Hints"},
    {200, "200 OK"},                   {201, "201 Created"},               {202, "202 Accepted"},
    {203, "203 Non-Authoritative Information"}, {204, "204 No Content"},   {205, "205 Reset Content"},
    {206, "206 Partial Content"},      {300, "300 Multiple Choices"},      {301, "301 Moved Permanently"},
    {302, "302 Found"},                {303, "303 See Other"},             {304, "304 Not Modified"},
    {307, "307 Temporary Redirect"},   {308, "308 Permanent Redirect"},    {400, "400 Bad Request"},
    {401, "401 Unauthorized"},         {402, "402 Payment Required"},      {403, "403 Forbidden"},
    {404, "404 Not Found"},            {405, "405 Method Not Allowed"},    {406, "406 Not Acceptable"},
    {407, "407 Proxy Authentication Required"}, {408, "408 Request Timeout"}, {409, "409 Conflict"},
    {410, "410 Gone"},                 {411, "411 Length Required"},       {412, "412 Precondition Failed"},
    {413, "413 Content Too Large"},    {414, "414 URI Too Long"},          {415, "415 Unsupported Media Type"},
    {416, "416 Range Not Satisfiable"}, {417, "417 Expectation Failed"},   {418, "418 I'm a Teapot"},
    {421, "421 Misdirected Request"},  {422, "422 Unprocessable Content"}, {425, "425 Too Early"},
    {426, "426 Upgrade Required"},     {428, "428 Precondition Required"}, {429, "429 Too Many Requests"},
    {431, "431 Request Header Fields Too Large"}, {451, "451 Unavailable For Legal Reasons"},
    {500, "500 Internal Server Error"}, {501, "501 Not Implemented"},      {502, "502 Bad Gateway"},
    {503, "503 Service Unavailable"},  {504, "504 Gateway Timeout"},       {505, "505 HTTP Version Not Supported"},
};

// What the application's headers say of the message itself.
struct Facts {
  const char* fault = nullptr;
  std::optional<uint64_t> content_length;
  bool has_date = false;
  bool has_server = false;
  bool wants_close = false;
};

std::optional<uint64_t> number_of(std::string_view text) noexcept {
  uint64_t number = 0;
  const char* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, number);
  if (error != std::errc() || stop != end || number > std::numeric_limits<int64_t>::max()) return std::nullopt;
  return number;
}

// Why this line must not go out; null: it may.
const char* fault_of(const Header& header) noexcept {
  const char* const name_end = header.name.data() + header.name.size();
  const char* const value_end = header.value.data() + header.value.size();
  if (header.name.empty() || skip(characters::token, header.name.data(), name_end) != name_end) return "the name of a header is no token";
  if (skip_value(header.value.data(), value_end) != value_end) return "the value of a header has a byte that none may have";
  return nullptr;
}

void check(const Header& header, Facts& facts) noexcept {
  const std::string_view name = header.name;
  const std::string_view value = header.value;
  facts.fault = fault_of(header);
  if (facts.fault != nullptr) return;
  if (equals(name, "content-length")) {
    const std::optional<uint64_t> length = number_of(trim(value));
    if (!length || (facts.content_length && *facts.content_length != *length)) facts.fault = "the Content-Length is no number";
    facts.content_length = length;
  } else if (equals(name, "date")) {
    facts.has_date = true;
  } else if (equals(name, "server")) {
    facts.has_server = true;
  } else if (equals(name, "connection")) {
    each_element(value, [&facts](std::string_view option) noexcept { facts.wants_close |= equals(option, "close"); });
  }
}

// Lines that are ours to write: whatever the application says there is what framing needs, or wrong.
bool is_ours(std::string_view name) noexcept {
  return equals(name, "content-length") || equals(name, "transfer-encoding") || equals(name, "connection") ||
         equals(name, "keep-alive");
}

bool has_no_body(int status) noexcept { return status < 200 || status == 204 || status == 304; }

HeadPlan decide(const AnsweredRequest& request, const ResponseHead& head, const Facts& facts) noexcept {
  HeadPlan plan;
  plan.keep_alive = request.keep_alive && !facts.wants_close;
  plan.has_date = facts.has_date;
  plan.has_server = facts.has_server;
  const std::optional<uint64_t> length = facts.content_length ? facts.content_length : head.body_bytes;
  plan.content_length = length.value_or(0);
  const bool has_none = request.is_head || has_no_body(head.status);
  plan.is_length_known = facts.content_length || (head.body_bytes && !has_none);
  if (has_none) {
    plan.framing = BodyFraming::none;
  } else if (length) {
    plan.framing = BodyFraming::length;
  } else if (request.minor_version >= 1) {
    plan.framing = BodyFraming::chunked;
  } else {
    plan.framing = BodyFraming::close;
    plan.keep_alive = false;
  }
  return plan;
}

char* put(char* at, std::string_view text) noexcept {
  if (text.empty()) return at;  // of a view that points nowhere
  std::memcpy(at, text.data(), text.size());
  return at + text.size();
}

char* put_line(char* at, std::string_view name, std::string_view value) noexcept {
  at = put(put(at, name), ": ");
  return put(put(at, value), "\r\n");
}

// "HTTP/1.1 200 OK\r\n"; an unknown status has no phrase (RFC 9110 15).
char* put_status_line(char* at, int status) noexcept {
  at = put(at, "HTTP/1.1 ");
  for (const Phrase& phrase : phrases) {
    if (phrase.status == status) return put(put(at, phrase.line), "\r\n");
  }
  *at++ = static_cast<char>('0' + status / 100);
  *at++ = static_cast<char>('0' + status / 10 % 10);
  *at++ = static_cast<char>('0' + status % 10);
  return put(at, " \r\n");
}

// RFC 9110 8.6 and 9112 6.1: none for 1xx and 204; for HEAD and 304 what a GET would have had.
char* put_framing(char* at, const AnsweredRequest& request, int status, const HeadPlan& plan) noexcept {
  if (status < 200 || status == 204) return at;
  if (plan.is_length_known) {
    at = put(at, "content-length: ");
    return put(std::to_chars(at, at + digits_max, plan.content_length).ptr, "\r\n");
  }
  if (status == 304 || request.minor_version == 0) return at;
  return put(at, "transfer-encoding: chunked\r\n");
}

}  // namespace

HeadPlan plan_head(const AnsweredRequest& request, const ResponseHead& head) noexcept {
  HeadPlan failed;
  failed.fault = "the status is none";
  if (head.status < 100 || head.status > 999) return failed;
  Facts facts;
  size_t bytes = own_bytes_max + head.date.size() + head.server.size();
  for (const Header& header : head.headers) {
    check(header, facts);
    failed.fault = facts.fault;
    if (facts.fault != nullptr) return failed;
    bytes += header.name.size() + header.value.size() + line_bytes;
  }
  HeadPlan plan = decide(request, head, facts);
  plan.bytes_max = bytes;
  return plan;
}

char* put_head(char* at, const AnsweredRequest& request, const ResponseHead& head, const HeadPlan& plan) noexcept {
  CXL_ASSERT(plan.fault == nullptr);
  at = put_status_line(at, head.status);
  if (!plan.has_date && !head.date.empty()) at = put_line(at, "date", head.date);
  if (!plan.has_server && !head.server.empty()) at = put_line(at, "server", head.server);
  for (const Header& header : head.headers) {
    if (!is_ours(header.name)) at = put_line(at, header.name, header.value);
  }
  at = put_framing(at, request, head.status, plan);
  if (!plan.keep_alive) at = put(at, "connection: close\r\n");
  if (plan.keep_alive && request.minor_version == 0) at = put(at, "connection: keep-alive\r\n");
  return put(at, "\r\n");
}

const HeadPlan* LastHead::find(const AnsweredRequest& request, const ResponseHead& head) const noexcept {
  if (head.status != status_ || head.headers.size() != count_ || head.body_bytes != body_bytes_ || request != request_ ||
      head.date.size() != date_bytes_ || head.server.size() != server_bytes_) {
    return nullptr;
  }
  const char* at = key_.data();
  const auto is_next = [&at](std::string_view text) {
    const bool is_same = text.empty() || std::memcmp(at, text.data(), text.size()) == 0;
    at += text.size();
    return is_same;
  };
  for (size_t i = 0; i < count_; ++i) {
    const Header& header = head.headers[i];
    if (header.name.size() != sizes_[i].name || header.value.size() != sizes_[i].value) return nullptr;
    if (!is_next(header.name) || !is_next(header.value)) return nullptr;
  }
  return is_next(head.date) && is_next(head.server) ? &plan_ : nullptr;
}

void LastHead::keep(const AnsweredRequest& request, const ResponseHead& head, const HeadPlan& plan,
                    std::string_view text) noexcept {
  status_ = 0;
  // The plan's bound covers all of the key.
  if (head.headers.size() > headers_max || plan.bytes_max > bytes_max) return;
  char* at = key_.data();
  for (size_t i = 0; i < head.headers.size(); ++i) {
    const Header& header = head.headers[i];
    sizes_[i] = {static_cast<uint32_t>(header.name.size()), static_cast<uint32_t>(header.value.size())};
    at = put(put(at, header.name), header.value);
  }
  put(put(at, head.date), head.server);
  put(text_.data(), text);
  count_ = head.headers.size();
  date_bytes_ = head.date.size();
  server_bytes_ = head.server.size();
  request_ = request;
  body_bytes_ = head.body_bytes;
  plan_ = plan;
  plan_.bytes_max = text.size();
  status_ = head.status;
}

TrailerPlan plan_trailers(std::span<const Header> trailers) noexcept {
  TrailerPlan plan{nullptr, 2};
  for (const Header& trailer : trailers) {
    plan.fault = is_ours(trailer.name) ? "a trailer that frames the message" : fault_of(trailer);
    if (plan.fault != nullptr) return plan;
    plan.bytes_max += trailer.name.size() + trailer.value.size() + line_bytes;
  }
  return plan;
}

char* put_trailers(char* at, std::span<const Header> trailers) noexcept {
  for (const Header& trailer : trailers) at = put_line(at, trailer.name, trailer.value);
  return put(at, "\r\n");
}

}  // namespace cxxloop::web
