// SPDX-License-Identifier: MIT
#include "web/core/response_head.h"

#include <array>
#include <charconv>
#include <limits>

#include "web/core/characters.h"

namespace cxxloop::web {
namespace {

constexpr const char* no_memory = "out of memory";

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

void check(const Header& header, Facts& facts) noexcept {
  const std::string_view name = header.name;
  const std::string_view value = header.value;
  const char* const name_end = name.data() + name.size();
  const char* const value_end = value.data() + value.size();
  if (name.empty() || skip(characters::token, name.data(), name_end) != name_end) {
    facts.fault = "the name of a header is no token";
  } else if (skip_value(value.data(), value_end) != value_end) {
    facts.fault = "the value of a header has a byte that none may have";
  } else if (equals(name, "content-length")) {
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

WrittenHead decide(const AnsweredRequest& request, const ResponseHead& head, const Facts& facts) noexcept {
  WrittenHead written;
  written.keep_alive = request.keep_alive && !facts.wants_close;
  const std::optional<uint64_t> length = facts.content_length ? facts.content_length : head.body_bytes;
  written.content_length = length.value_or(0);
  if (request.is_head || has_no_body(head.status)) {
    written.framing = BodyFraming::none;
  } else if (length) {
    written.framing = BodyFraming::length;
  } else if (request.minor_version >= 1) {
    written.framing = BodyFraming::chunked;
  } else {
    written.framing = BodyFraming::close;
    written.keep_alive = false;
  }
  return written;
}

// "HTTP/1.1 200 OK\r\n"; an unknown status has no phrase. REQUIRES: 100 <= status <= 999.
bool append_status_line(ByteBuffer& out, int status) noexcept {
  CXL_ASSERT(status >= 100 && status <= 999);
  for (const Phrase& phrase : phrases) {
    if (phrase.status == status) return out.append("HTTP/1.1 ") && out.append(phrase.line) && out.append("\r\n");
  }
  const std::array<char, 3> digits = {static_cast<char>('0' + status / 100), static_cast<char>('0' + status / 10 % 10),
                                      static_cast<char>('0' + status % 10)};
  return out.append("HTTP/1.1 ") && out.append({digits.data(), digits.size()}) && out.append(" \r\n");
}

bool append_line(ByteBuffer& out, std::string_view name, std::string_view value) noexcept {
  return out.append(name) && out.append(": ") && out.append(value) && out.append("\r\n");
}

bool append_length(ByteBuffer& out, uint64_t length) noexcept {
  std::array<char, 20> digits;
  const auto [end, error] = std::to_chars(digits.data(), digits.data() + digits.size(), length);
  return append_line(out, "content-length", {digits.data(), end});
}

// RFC 9110 8.6 and 9112 6.1: none for 1xx and 204; for HEAD and 304 what a GET would have had.
bool append_framing(ByteBuffer& out, const AnsweredRequest& request, const ResponseHead& head, const WrittenHead& written,
                    bool is_length_known) noexcept {
  if (head.status < 200 || head.status == 204) return true;
  if (is_length_known) return append_length(out, written.content_length);
  if (head.status == 304 || request.minor_version == 0) return true;
  return append_line(out, "transfer-encoding", "chunked");
}

bool append_all(ByteBuffer& out, const AnsweredRequest& request, const ResponseHead& head, const Facts& facts,
                const WrittenHead& written) noexcept {
  if (!append_status_line(out, head.status)) return false;
  if (!facts.has_date && !head.date.empty() && !append_line(out, "date", head.date)) return false;
  if (!facts.has_server && !head.server.empty() && !append_line(out, "server", head.server)) return false;
  for (const Header& header : head.headers) {
    if (!is_ours(header.name) && !append_line(out, header.name, header.value)) return false;
  }
  const bool is_length_known = facts.content_length || (head.body_bytes && !(request.is_head || has_no_body(head.status)));
  if (!append_framing(out, request, head, written, is_length_known)) return false;
  if (!written.keep_alive && !append_line(out, "connection", "close")) return false;
  if (written.keep_alive && request.minor_version == 0 && !append_line(out, "connection", "keep-alive")) return false;
  return out.append("\r\n");
}

}  // namespace

WrittenHead write_head(ByteBuffer& out, const AnsweredRequest& request, const ResponseHead& head) noexcept {
  const auto fail = [](const char* fault) {
    WrittenHead failed;
    failed.fault = fault;
    return failed;
  };
  if (head.status < 100 || head.status > 999) return fail("the status is none");
  Facts facts;
  for (const Header& header : head.headers) {
    check(header, facts);
    if (facts.fault != nullptr) return fail(facts.fault);
  }
  const WrittenHead written = decide(request, head, facts);
  const size_t before = out.size();
  if (append_all(out, request, head, facts, written)) return written;
  out.truncate(before);
  return fail(no_memory);
}

}  // namespace cxxloop::web
