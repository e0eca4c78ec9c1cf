// SPDX-License-Identifier: MIT
//
// web/core/response_head.h: writes the head of a response and decides how its body is framed (RFC 9112 6.3).
//
// Decision: planning and putting are two calls, so that a head is written where it is sent from, without a copy.
// What an application gives is checked here, byte by byte: a CR or LF in it would end the head and begin another response.
// Thread: any.  Python: none.  Owns: nothing.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "web/core/header_line.h"

namespace cxxloop::web {

// How the bytes of a response's body are told from what comes after them.
enum class BodyFraming : uint8_t {
  none,     // there is no body: HEAD, 204, 304
  length,   // as many as Content-Length says
  chunked,
  close,    // up to the end of the connection: HTTP/1.0
};

// The request that is answered.
struct AnsweredRequest {
  uint8_t minor_version = 1;
  bool is_head = false;
  bool keep_alive = true;  // the client would go on, and so would we

  bool operator==(const AnsweredRequest&) const noexcept = default;
};

struct ResponseHead {
  int status = 200;
  std::span<const Header> headers = {};      // the application's
  std::optional<uint64_t> body_bytes = {};   // if the whole body is known already; Content-Length is added
  std::string_view date = {};                // "Sun, 06 Nov 1994 08:49:37 GMT"; empty: no Date line
  std::string_view server = {};              // empty: no Server line
};

// What is written, decided before the first byte.
struct HeadPlan {
  const char* fault = nullptr;  // why nothing may be written: what the application gave must not go out
  BodyFraming framing = BodyFraming::none;
  uint64_t content_length = 0;  // for BodyFraming::length
  bool keep_alive = true;
  bool has_date = false;    // True exactly when the application gave a Date
  bool has_server = false;  // likewise
  bool is_length_known = false;
  size_t bytes_max = 0;     // the head is not longer
};

[[nodiscard]] HeadPlan plan_head(const AnsweredRequest& request, const ResponseHead& head) noexcept;
// Writes the head to `at`, where there is room for plan.bytes_max, and returns its end. REQUIRES: the plan of these two,
// without a fault.
[[nodiscard]] char* put_head(char* at, const AnsweredRequest& request, const ResponseHead& head, const HeadPlan& plan) noexcept;

// The head that was written last: a server answers many requests in the same words, and need not check and write them anew.
class LastHead {
 public:
  // Null: this head is another one. Else its plan, in which bytes_max is exact: the head is text().
  [[nodiscard]] const HeadPlan* find(const AnsweredRequest& request, const ResponseHead& head) const noexcept;
  [[nodiscard]] std::string_view text() const noexcept { return {text_.data(), plan_.bytes_max}; }
  // `text`: what put_head() has written. No effect on a large head, which is written anew each time.
  void keep(const AnsweredRequest& request, const ResponseHead& head, const HeadPlan& plan, std::string_view text) noexcept;

 private:
  static constexpr size_t headers_max = 16;
  static constexpr size_t bytes_max = 1024;  // of the text, and of what it was made of

  struct Sizes {
    uint32_t name;
    uint32_t value;
  };

  AnsweredRequest request_;
  int status_ = 0;  // 0: nothing is kept
  std::optional<uint64_t> body_bytes_;
  HeadPlan plan_;
  size_t count_ = 0;
  std::array<Sizes, headers_max> sizes_;
  std::array<char, bytes_max> key_;  // names and values, Date and Server, one behind the other
  size_t date_bytes_ = 0;
  size_t server_bytes_ = 0;
  std::array<char, bytes_max> text_;
};

// The trailers behind a chunked body (RFC 9112 7.1.2), and the empty line that ends it.
struct TrailerPlan {
  const char* fault = nullptr;
  size_t bytes_max = 0;
};
[[nodiscard]] TrailerPlan plan_trailers(std::span<const Header> trailers) noexcept;
[[nodiscard]] char* put_trailers(char* at, std::span<const Header> trailers) noexcept;

}  // namespace cxxloop::web
