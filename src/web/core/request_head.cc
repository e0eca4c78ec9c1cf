// SPDX-License-Identifier: MIT
#include "web/core/request_head.h"

#include <limits>

#include "web/core/characters.h"

namespace cxxloop::web {
namespace {

constexpr size_t empty_lines_max = 4;  // before a request; RFC 9112 2.2
constexpr size_t method_bytes_max = 32;

// RFC 3986 3.2.2 and 3.2.3: host [":" port], without user information.
bool is_host(std::string_view text) noexcept {
  const char* at = text.data();
  const char* const end = at + text.size();
  if (at != end && *at == '[') {
    const char* const first = ++at;
    while (at != end && (is_in(characters::host, *at) || *at == ':')) ++at;
    if (at == end || *at != ']' || at == first) return false;
    ++at;
  } else {
    at = skip(characters::host, at, end);
  }
  if (at == end) return true;
  if (*at++ != ':') return false;
  for (; at != end; ++at) {
    if (*at < '0' || *at > '9') return false;
  }
  return true;
}

}  // namespace

bool HeadParser::skip_empty_lines(std::string_view bytes) noexcept {
  while (begin_ + 1 < bytes.size() && bytes[begin_] == '\r' && bytes[begin_ + 1] == '\n') {
    if (begin_ >= empty_lines_max * 2) return refuse(400, "too many empty lines before the request");
    begin_ += 2;
  }
  return true;
}

// Looks at each byte once, however small the pieces are in which a head arrives.
HeadParser::Outcome HeadParser::find_end(std::string_view bytes) noexcept {
  while (seen_ < bytes.size()) {
    const void* const found = std::memchr(bytes.data() + seen_, '\n', bytes.size() - seen_);
    const size_t stop = found != nullptr ? static_cast<size_t>(static_cast<const char*>(found) - bytes.data()) : bytes.size();
    seen_ = stop;
    if (line_ == begin_ && stop - line_ > limits_.line_bytes_max) return refuse(414, "the request line is too long"), Outcome::refused;
    if (stop - begin_ > limits_.head_bytes_max) return refuse(431, "the head is too long"), Outcome::refused;
    if (found == nullptr) return Outcome::incomplete;
    if (stop == line_ || bytes[stop - 1] != '\r') return refuse(400, "a line ends without CR"), Outcome::refused;
    const bool is_empty = stop - line_ == 1;
    seen_ = line_ = stop + 1;
    if (is_empty) return Outcome::complete;
  }
  return Outcome::incomplete;
}

HeadParser::Outcome HeadParser::parse(std::string_view bytes, RequestHead& head) noexcept {
  if (seen_ == 0 && head.is_same(bytes)) {
    consumed_ = head.kept_bytes_;
    return Outcome::complete;
  }
  if (line_ == begin_ && seen_ <= begin_ + 1) {  // nothing of a request yet, or the first half of an empty line
    if (!skip_empty_lines(bytes)) return Outcome::refused;
    seen_ = line_ = begin_;
  }
  const Outcome outcome = find_end(bytes);
  if (outcome != Outcome::complete) return outcome;
  const std::string_view text = bytes.substr(begin_, seen_ - begin_);
  consumed_ = seen_;
  begin_ = seen_ = line_ = 0;
  return parse_kept(text, head) ? Outcome::complete : Outcome::refused;
}

bool HeadParser::parse_kept(std::string_view text, RequestHead& head) noexcept {
  head.kept_bytes_ = 0;
  if (text.size() > RequestHead::kept_bytes_max) return parse_whole(text, head);
  std::memcpy(head.kept_.data(), text.data(), text.size());
  if (!parse_whole({head.kept_.data(), text.size()}, head)) return false;
  head.kept_bytes_ = text.size();
  ++head.version_;
  return true;
}

// `text` ends with an empty line, and each of its lines with CR LF.
bool HeadParser::parse_whole(std::string_view text, RequestHead& head) noexcept {
  const char* at = text.data();
  const char* const end = at + text.size() - 2;
  at = parse_request_line(at, end, head);
  if (at == nullptr) return false;
  head.count_ = 0;
  head.content_length = 0;
  head.framing = Framing::none;
  head.expects_continue = false;
  Facts facts;
  while (at != end) {
    if (head.count_ == limits_.headers_max || head.count_ == RequestHead::headers_room) return refuse(431, "too many headers");
    Header& header = head.headers_[head.count_];
    at = parse_header_line(at, end, header);
    if (at == nullptr) return refuse(400, "a line is no header");
    if (!note(header, head, facts)) return false;
    ++head.count_;
  }
  return conclude(head, facts);
}

// Returns what is behind the line, or null.
const char* HeadParser::parse_request_line(const char* at, const char* end, RequestHead& head) noexcept {
  const auto fail = [this](int status, const char* reason) { return refuse(status, reason), nullptr; };
  const char* stop = skip(characters::token, at, end);
  if (stop == at || stop == end || *stop != ' ') return fail(400, "the method is no token");
  if (static_cast<size_t>(stop - at) > method_bytes_max) return fail(501, "the method is too long");
  head.method = {at, stop};
  at = stop + 1;
  stop = skip(characters::target, at, end);
  if (stop == at || stop == end || *stop != ' ') return fail(400, "the target is empty or has a byte that none may have");
  head.target = {at, stop};
  at = stop + 1;
  constexpr std::string_view name = "HTTP/";
  if (end - at < 10 || std::string_view(at, 5) != name) return fail(400, "the version is none");
  const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
  if (!is_digit(at[5]) || at[6] != '.' || !is_digit(at[7]) || at[8] != '\r' || at[9] != '\n') return fail(400, "the version is none");
  if (at[5] != '1' || at[7] > '1') return fail(505, "the version is not HTTP/1.0 or HTTP/1.1");
  head.minor_version = static_cast<uint8_t>(at[7] - '0');
  return split_target(head) ? at + 10 : nullptr;
}

// RFC 9112 3.2: the four forms of a target.
bool HeadParser::split_target(RequestHead& head) noexcept {
  std::string_view rest = head.target;
  head.authority = {};
  if (rest.find('#') != rest.npos) return refuse(400, "the target has a fragment");
  if (head.method == "CONNECT") {
    head.path = head.query = {};
    head.authority = rest;
    return (is_host(rest) && rest.find(':') != rest.npos) || refuse(400, "the target of CONNECT is no host and port");
  }
  if (rest.front() != '/') {
    if (rest == "*") {
      head.path = rest;
      head.query = {};
      return head.method == "OPTIONS" || refuse(400, "the target * is for OPTIONS");
    }
    const size_t scheme = rest.find("://");
    if (scheme == rest.npos || !(equals(rest.substr(0, scheme), "http") || equals(rest.substr(0, scheme), "https"))) {
      return refuse(400, "the target is neither a path nor a URL");
    }
    rest.remove_prefix(scheme + 3);
    const size_t slash = rest.find_first_of("/?");
    head.authority = rest.substr(0, slash);
    rest = slash == rest.npos ? std::string_view() : rest.substr(slash);
    if (head.authority.empty() || !is_host(head.authority)) return refuse(400, "the target's host is none");
  }
  const size_t mark = rest.find('?');
  head.path = rest.substr(0, mark);
  head.query = mark == rest.npos ? std::string_view() : rest.substr(mark + 1);
  if (head.path.empty()) head.path = "/";
  return true;
}

bool HeadParser::note(Header& header, RequestHead& head, Facts& facts) noexcept {
  const std::string_view name = header.name;
  switch (name.size()) {
    case 4:
      if (!equals(name, "host")) return true;
      if (facts.host != nullptr) return refuse(400, "two Host headers");
      if (!is_host(header.value)) return refuse(400, "the Host is none");
      facts.host = &header;
      return true;
    case 6: return !equals(name, "expect") || note_expectation(header.value, head);
    case 7:
      if (equals(name, "upgrade")) facts.upgrade = header.value;
      return true;
    case 10:
      if (!equals(name, "connection")) return true;
      each_element(header.value, [&facts](std::string_view option) noexcept {
        if (equals(option, "close")) facts.connection_close = true;
        if (equals(option, "keep-alive")) facts.connection_keep_alive = true;
        if (equals(option, "upgrade")) facts.connection_upgrade = true;
      });
      return true;
    case 12:
      if (!equals(name, "content-type")) return true;
      if (facts.has_content_type) return refuse(400, "two Content-Type headers");
      return facts.has_content_type = true;
    case 14: return !equals(name, "content-length") || note_length(header.value, head, facts);
    case 17: return !equals(name, "transfer-encoding") || note_coding(header.value, head, facts);
    default: return true;
  }
}

bool HeadParser::note_length(std::string_view value, RequestHead& head, Facts& facts) noexcept {
  if (facts.has_length) return refuse(400, "two Content-Length headers");
  facts.has_length = true;
  uint64_t length = 0;
  for (const char c : value) {
    if (c < '0' || c > '9') return refuse(400, "the Content-Length is no number");
    constexpr uint64_t length_max = std::numeric_limits<int64_t>::max();
    const uint64_t digit = static_cast<uint64_t>(c - '0');
    if (length > (length_max - digit) / 10) return refuse(400, "the Content-Length is too large");
    length = length * 10 + digit;
  }
  if (value.empty()) return refuse(400, "the Content-Length is no number");
  head.content_length = length;
  return true;
}

// RFC 9112 6.1 and 7: the last coding has to be chunked, once; we know no other.
bool HeadParser::note_coding(std::string_view value, RequestHead& head, Facts& facts) noexcept {
  if (facts.has_coding) return refuse(400, "two Transfer-Encoding headers");
  facts.has_coding = true;
  if (head.minor_version == 0) return refuse(400, "Transfer-Encoding in HTTP/1.0");
  if (equals(value, "chunked")) return true;
  size_t codings = 0;
  size_t chunked = 0;
  bool is_last = false;
  each_element(value, [&](std::string_view coding) noexcept {
    ++codings;
    is_last = equals(coding, "chunked");
    chunked += is_last;
  });
  if (is_last && chunked == 1 && codings > 1) return refuse(501, "a transfer coding other than chunked");
  return refuse(400, "the transfer coding is not chunked");
}

bool HeadParser::note_expectation(std::string_view value, RequestHead& head) noexcept {
  if (head.minor_version == 0) return true;
  if (!equals(value, "100-continue")) return refuse(417, "an expectation other than 100-continue");
  head.expects_continue = true;
  return true;
}

bool HeadParser::conclude(RequestHead& head, const Facts& facts) noexcept {
  if (facts.has_length && facts.has_coding) return refuse(400, "Content-Length and Transfer-Encoding");
  if (facts.host == nullptr && head.minor_version == 1) return refuse(400, "no Host");
  if (facts.host != nullptr) {
    if (!head.authority.empty()) facts.host->value = head.authority;  // what looks at Host must see what another server sees
    head.authority = facts.host->value;
  }
  if (facts.has_coding) head.framing = Framing::chunked;
  if (head.content_length > 0) head.framing = Framing::length;
  head.keep_alive = head.method != "CONNECT" && !facts.connection_close && (head.minor_version == 1 || facts.connection_keep_alive);
  head.upgrade = facts.connection_upgrade ? facts.upgrade : std::string_view();
  if (head.framing == Framing::none) head.expects_continue = false;
  return true;
}

}  // namespace cxxloop::web
