// SPDX-License-Identifier: MIT
//
// web/core/request_head.h: the head of an HTTP/1 request, parsed strictly (RFC 9112), and what it says of the body behind it.
//
// Decision: no lenient mode. Whatever two servers could read in two ways (a bare LF, a folded line, a second length) is
// refused, because a proxy in front of us may have read it the other way: that is how requests are smuggled.
// Decision: a short head is copied and parsed in the copy. Clients repeat themselves, and a head that is the one before,
// byte for byte, has been parsed already, by whichever connection.
// Thread: any.  Python: none.  Owns: a copy of a short head. The views of a longer one point into the bytes that were parsed.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>

#include "web/core/header_line.h"

namespace cxxloop::web {

// Why a request is refused: the status of the response, and a word for the log.
struct Refusal {
  int status = 0;
  const char* reason = "";
};

struct HeadLimits {
  size_t line_bytes_max = 16 * 1024;   // of the request line: 414
  size_t head_bytes_max = 64 * 1024;   // of the whole head: 431
  size_t headers_max = 128;            // 431; at most RequestHead::headers_room
};

enum class Framing : uint8_t { none, length, chunked };

class RequestHead {
 public:
  static constexpr size_t headers_room = 256;

  RequestHead() noexcept = default;
  RequestHead(const RequestHead&) = delete;
  RequestHead& operator=(const RequestHead&) = delete;

  [[nodiscard]] std::span<const Header> headers() const noexcept { return {headers_.data(), count_}; }

  std::string_view method;
  std::string_view target;     // as it was sent
  std::string_view path;       // of the target, still percent-encoded; "*" for OPTIONS *, empty for CONNECT
  std::string_view query;      // behind the first "?"
  // Of an absolute or authority-form target, which the value of Host among headers() is too then, whatever was sent
  // (RFC 9112 3.2.2); else of Host.
  std::string_view authority;
  std::string_view upgrade;    // what Upgrade asks for, if Connection names it
  uint64_t content_length = 0;
  Framing framing = Framing::none;
  uint8_t minor_version = 1;   // of HTTP/1.x
  bool keep_alive = true;      // never of CONNECT: what follows an answer to that may be a tunnel's
  bool expects_continue = false;

  // Of what stands here: as long as it is the same, so is everything else. 0: of a head that is not kept.
  [[nodiscard]] uint64_t version() const noexcept { return kept_bytes_ > 0 ? version_ : 0; }
  // The next head is parsed even if it is the same: limits have changed.
  void forget() noexcept { kept_bytes_ = 0; }

 private:
  friend class HeadParser;

  static constexpr size_t kept_bytes_max = 2048;

  [[nodiscard]] bool is_same(std::string_view bytes) const noexcept {
    return kept_bytes_ > 0 && bytes.size() >= kept_bytes_ && std::memcmp(bytes.data(), kept_.data(), kept_bytes_) == 0;
  }

  std::array<Header, headers_room> headers_;
  size_t count_ = 0;
  size_t kept_bytes_ = 0;  // of kept_; 0: what stands here is not whole, or is not kept
  uint64_t version_ = 0;
  std::array<char, kept_bytes_max> kept_;
};

// Finds the end of a head that arrives in pieces, and parses it when it is whole. One object serves a connection.
class HeadParser {
 public:
  enum class Outcome : uint8_t { incomplete, complete, refused };

  explicit HeadParser(const HeadLimits& limits) noexcept : limits_(limits) {}

  // `bytes`: all that has come since the last request ended, at the same or another address than at the last call.
  // complete: the head fills the first consumed() bytes. refused: refusal() says why; the connection must end.
  [[nodiscard]] Outcome parse(std::string_view bytes, RequestHead& head) noexcept;
  [[nodiscard]] size_t consumed() const noexcept { return consumed_; }
  [[nodiscard]] Refusal refusal() const noexcept { return refusal_; }

 private:
  // Facts that several headers together decide.
  struct Facts {
    bool has_length = false;
    bool has_coding = false;
    bool has_content_type = false;
    bool connection_close = false;
    bool connection_keep_alive = false;
    bool connection_upgrade = false;
    std::string_view upgrade;
    Header* host = nullptr;
  };

  [[nodiscard]] bool skip_empty_lines(std::string_view bytes) noexcept;
  [[nodiscard]] Outcome find_end(std::string_view bytes) noexcept;
  [[nodiscard]] bool parse_kept(std::string_view text, RequestHead& head) noexcept;
  [[nodiscard]] bool parse_whole(std::string_view text, RequestHead& head) noexcept;
  [[nodiscard]] const char* parse_request_line(const char* at, const char* end, RequestHead& head) noexcept;
  [[nodiscard]] bool note(Header& header, RequestHead& head, Facts& facts) noexcept;
  [[nodiscard]] bool note_length(std::string_view value, RequestHead& head, Facts& facts) noexcept;
  [[nodiscard]] bool note_coding(std::string_view value, RequestHead& head, Facts& facts) noexcept;
  [[nodiscard]] bool note_expectation(std::string_view value, RequestHead& head) noexcept;
  [[nodiscard]] bool split_target(RequestHead& head) noexcept;
  [[nodiscard]] bool conclude(RequestHead& head, const Facts& facts) noexcept;
  bool refuse(int status, const char* reason) noexcept {
    refusal_ = {status, reason};
    return false;
  }

  const HeadLimits limits_;
  size_t begin_ = 0;     // behind the empty lines before the request
  size_t seen_ = 0;      // searched for the end so far
  size_t line_ = 0;      // where the line that is being searched begins
  size_t consumed_ = 0;
  Refusal refusal_;
};

}  // namespace cxxloop::web
