// SPDX-License-Identifier: MIT
//
// A connection's bytes: heads and chunked bodies one behind the other. However the bytes are cut, the same must be read.
#include <cstdint>
#include <cstdlib>
#include <string>

#include "web/core/chunked_decoder.h"
#include "web/core/request_head.h"

namespace cxxloop::web {
namespace {

// What a connection that is given `size` bytes at a time has read, in words.
class Story {
 public:
  Story(std::string_view text, size_t size) : text_(text), size_(size) {
    while (read_request()) {
    }
  }
  [[nodiscard]] const std::string& words() const noexcept { return words_; }

 private:
  std::string_view given() const { return text_.substr(used_, std::min(given_, text_.size()) - used_); }
  bool more() {
    if (given_ >= text_.size()) return false;
    given_ += size_;
    return true;
  }

  bool read_request() {
    HeadParser::Outcome outcome;
    while ((outcome = parser_.parse(given(), head_)) == HeadParser::Outcome::incomplete) {
      if (!more()) return false;
    }
    if (outcome == HeadParser::Outcome::refused) return refused(parser_.refusal());
    used_ += parser_.consumed();
    for (const std::string_view part : {head_.method, head_.target, head_.path, head_.query, head_.authority, head_.upgrade}) {
      words_.append(part).push_back('\n');
    }
    for (const Header& header : head_.headers()) words_.append(header.name).append(":").append(header.value).push_back('\n');
    words_ += std::to_string(head_.content_length) + (head_.keep_alive ? "k" : "-") + (head_.expects_continue ? "e" : "-");
    return head_.framing == Framing::chunked ? read_chunks() : head_.framing != Framing::length || skip_body();
  }

  bool skip_body() {
    while (given().size() < head_.content_length) {
      if (!more()) return false;
    }
    used_ += static_cast<size_t>(head_.content_length);
    return true;
  }

  bool read_chunks() {
    ChunkedDecoder decoder;
    for (;;) {
      const ChunkedDecoder::Step step = decoder.next(given(), trailers_);
      used_ += step.used;
      words_ += step.data;
      if (step.kind == ChunkedDecoder::Kind::refused) return refused(decoder.refusal());
      if (step.kind == ChunkedDecoder::Kind::end) break;
      if (step.kind == ChunkedDecoder::Kind::more && !more()) return false;
    }
    for (const Header& trailer : trailers_.all()) words_.append(trailer.name).append("=").append(trailer.value);
    return true;
  }

  bool refused(const Refusal& refusal) {
    words_ += std::to_string(refusal.status);
    return false;
  }

  const std::string_view text_;
  const size_t size_;
  HeadParser parser_{HeadLimits{.line_bytes_max = 64, .head_bytes_max = 512, .headers_max = 8}};
  RequestHead head_;
  Trailers trailers_;
  size_t used_ = 0;
  size_t given_ = 0;
  std::string words_;
};

}  // namespace
}  // namespace cxxloop::web

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data + 1), size - 1);
  const cxxloop::web::Story whole(text, text.size() + 1);
  const cxxloop::web::Story pieces(text, data[0] % 16 + 1);
  if (whole.words() != pieces.words()) std::abort();
  return 0;
}
