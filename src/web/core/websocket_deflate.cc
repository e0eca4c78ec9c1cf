// SPDX-License-Identifier: MIT
#include "web/core/websocket_deflate.h"

#include <algorithm>
#include <charconv>

#include "base/assert.h"
#include "web/core/characters.h"

namespace cxxloop::web {
namespace {

constexpr int level = 1;
constexpr int memory_level = 5;
constexpr uint8_t deflate_bits_min = 9;  // zlib writes no raw stream with a window of 256 bytes
constexpr uint8_t inflate_bits_min = 8;
// What ends every message, and is not sent (RFC 7692 7.2.1).
constexpr std::string_view sync_tail{"\x00\x00\xFF\xFF", 4};
constexpr size_t room_bytes_min = 256;      // asked of the output at once; zlib wants more than six
constexpr size_t room_bytes_max = 16 * 1024;

void give(z_stream& stream, std::string_view bytes) noexcept {
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));  // zlib only reads
  stream.avail_in = static_cast<uInt>(bytes.size());
}

size_t room_for(std::string_view bytes) noexcept { return std::clamp(2 * bytes.size(), room_bytes_min, room_bytes_max); }

// A parameter's name with its value: a token, perhaps in quotes.
struct Parameter {
  std::string_view name;
  std::string_view value;
  bool has_value = false;
};

// Steps through a list of extensions (RFC 6455 9.1).
class ExtensionReader {
 public:
  explicit ExtensionReader(std::string_view text) noexcept : at_(text.data()), end_(text.data() + text.size()) { skip_blanks(); }

  [[nodiscard]] bool is_at_end() const noexcept { return at_ == end_; }
  [[nodiscard]] bool take(char c) noexcept {
    if (at_ == end_ || *at_ != c) return false;
    ++at_;
    skip_blanks();
    return true;
  }
  // False: there is none.
  [[nodiscard]] bool take_token(std::string_view& token) noexcept {
    const char* const stop = skip(characters::token, at_, end_);
    if (stop == at_) return false;
    token = {at_, stop};
    at_ = stop;
    skip_blanks();
    return true;
  }
  [[nodiscard]] bool take_parameter(Parameter& parameter) noexcept {
    if (!take_token(parameter.name)) return false;
    parameter.has_value = take('=');
    if (!parameter.has_value) return true;
    const bool is_quoted = at_ != end_ && *at_ == '"';
    if (is_quoted) ++at_;
    const char* const stop = skip(characters::token, at_, end_);  // what is quoted must be a token all the same
    if (stop == at_ || (is_quoted && (stop == end_ || *stop != '"'))) return false;
    parameter.value = {at_, stop};
    at_ = stop + (is_quoted ? 1 : 0);
    skip_blanks();
    return true;
  }

 private:
  void skip_blanks() noexcept {
    while (at_ != end_ && (*at_ == ' ' || *at_ == '\t')) ++at_;
  }

  const char* at_;
  const char* const end_;
};

// "8" to "15", nothing else; 0: it is none of them.
uint8_t window_bits_of(std::string_view text) noexcept {
  uint8_t bits = 0;
  const char* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, bits);
  const bool is_number = error == std::errc() && stop == end && !text.starts_with('0');
  return is_number && bits >= inflate_bits_min && bits <= window_bits_max ? bits : 0;
}

}  // namespace

// One offer of permessage-deflate.
class DeflateNegotiation::Offer {
 public:
  // A parameter that is unknown, wrong or there twice makes the offer one to decline (RFC 7692 7.1).
  void note(const Parameter& parameter) noexcept { is_valid_ = is_valid_ && note_valid(parameter); }
  [[nodiscard]] bool is_valid() const noexcept { return is_valid_; }

  bool server_no_context_takeover = false;
  bool client_no_context_takeover = false;
  bool has_client_bits = false;
  uint8_t server_bits = 0;  // 0: not bounded
  uint8_t client_bits = 0;

 private:
  [[nodiscard]] bool note_valid(const Parameter& parameter) noexcept {
    const auto set_once = [](bool& flag) { return !std::exchange(flag, true); };
    if (parameter.name == "server_no_context_takeover") return !parameter.has_value && set_once(server_no_context_takeover);
    if (parameter.name == "client_no_context_takeover") return !parameter.has_value && set_once(client_no_context_takeover);
    const uint8_t bits = parameter.has_value ? window_bits_of(parameter.value) : uint8_t{0};
    if (parameter.name == "server_max_window_bits") return bits != 0 && std::exchange(server_bits, bits) == 0;
    if (parameter.name != "client_max_window_bits" || (parameter.has_value && bits == 0)) return false;
    client_bits = bits;
    return set_once(has_client_bits);
  }

  bool is_valid_ = true;
};

bool DeflateNegotiation::take(std::string_view value) noexcept {
  ExtensionReader reader(value);
  while (!reader.is_at_end()) {
    if (reader.take(',')) continue;  // an empty element
    std::string_view name;
    if (!reader.take_token(name)) return false;
    Offer offer;
    while (reader.take(';')) {
      Parameter parameter;
      if (!reader.take_parameter(parameter)) return false;
      offer.note(parameter);
    }
    if (!reader.is_at_end() && !reader.take(',')) return false;
    if (name == "permessage-deflate") consider(offer);
  }
  return true;
}

void DeflateNegotiation::consider(const Offer& offer) noexcept {
  if (agreed_ || !offer.is_valid()) return;
  const auto bound = [](uint8_t offered, uint8_t wanted) { return offered != 0 ? std::min(offered, wanted) : wanted; };
  DeflateParameters parameters;
  parameters.server_window_bits = bound(offer.server_bits, options_.server_window_bits);
  if (parameters.server_window_bits < deflate_bits_min) return;
  if (offer.has_client_bits) parameters.client_window_bits = bound(offer.client_bits, options_.client_window_bits);
  parameters.server_no_context_takeover = offer.server_no_context_takeover || options_.server_no_context_takeover;
  parameters.client_no_context_takeover = offer.client_no_context_takeover || options_.client_no_context_takeover;
  names_server_bits_ = offer.server_bits != 0;
  agreed_ = parameters;
}

bool DeflateNegotiation::append_response(ByteBuffer& out) const noexcept {
  const DeflateParameters& agreed = *agreed_;
  const auto append_bits = [&out](std::string_view name, uint8_t bits) {
    char digits[2];
    const auto [end, error] = std::to_chars(digits, digits + sizeof digits, bits);
    return out.append("; ") && out.append(name) && out.append("=") && out.append({digits, end});
  };
  if (!out.append("permessage-deflate")) return false;
  if (agreed.server_no_context_takeover && !out.append("; server_no_context_takeover")) return false;
  if (agreed.client_no_context_takeover && !out.append("; client_no_context_takeover")) return false;
  const bool has_server_bits = names_server_bits_ || agreed.server_window_bits < window_bits_max;
  if (has_server_bits && !append_bits("server_max_window_bits", agreed.server_window_bits)) return false;
  // Never unasked: fewer than 15 come of an offer that names them only.
  return agreed.client_window_bits == window_bits_max || append_bits("client_max_window_bits", agreed.client_window_bits);
}

bool MessageDeflater::deflate(std::string_view message, ByteBuffer& out) noexcept {
  CXL_ASSERT(message.size() <= message_bytes_max);
  // zlib writes nothing at all for an empty message behind another one; an empty block stands for it (RFC 7692 7.2.3.6).
  if (message.empty()) return out.append({"\0", 1});
  if (!is_made_) {
    if (deflateInit2(&stream_, level, Z_DEFLATED, -window_bits_, memory_level, Z_DEFAULT_STRATEGY) != Z_OK) return false;
    is_made_ = true;
  }
  give(stream_, message);
  do {
    if (!out.reserve(room_for(message))) return false;
    const std::span<char> room = out.room();
    stream_.next_out = reinterpret_cast<Bytef*>(room.data());
    stream_.avail_out = static_cast<uInt>(std::min<size_t>(room.size(), UINT32_MAX));
    const size_t given = stream_.avail_out;
    const int result = ::deflate(&stream_, Z_SYNC_FLUSH);
    CXL_ASSERT(result == Z_OK || result == Z_BUF_ERROR);  // the latter: the call before had just enough room
    out.extend(given - stream_.avail_out);
  } while (stream_.avail_out == 0);
  CXL_ASSERT(out.view().ends_with(sync_tail));
  out.truncate(out.size() - sync_tail.size());
  if (forgets_) release();
  return true;
}

void MessageDeflater::release() noexcept {
  if (is_made_) (void)deflateEnd(&stream_);
  is_made_ = false;
}

MessageInflater::Outcome MessageInflater::inflate(std::string_view piece, bool is_last, ByteBuffer& out, uint64_t bytes_max) noexcept {
  if (!piece.empty()) {
    if (!is_made_) {
      if (inflateInit2(&stream_, -window_bits_) != Z_OK) return Outcome::no_memory;
      is_made_ = true;
    }
    is_in_message_ = true;
    const Outcome outcome = expand(piece, out, bytes_max);
    if (outcome != Outcome::ok) return outcome;
  }
  // A compressor that is flushed twice has nothing to say the second time: such a payload is an empty message.
  if (!is_last || !is_in_message_) return Outcome::ok;
  return end_message(out, bytes_max);
}

MessageInflater::Outcome MessageInflater::expand(std::string_view piece, ByteBuffer& out, uint64_t bytes_max) noexcept {
  give(stream_, piece);
  for (;;) {
    if (!out.reserve(room_for(piece))) return Outcome::no_memory;
    const std::span<char> room = out.room();
    const uint64_t left = bytes_max - out.size();
    const auto given = static_cast<uInt>(std::min<uint64_t>({room.size(), UINT32_MAX, left < UINT64_MAX ? left + 1 : left}));
    stream_.next_out = reinterpret_cast<Bytef*>(room.data());
    stream_.avail_out = given;
    const int result = ::inflate(&stream_, Z_SYNC_FLUSH);
    out.extend(given - stream_.avail_out);
    if (out.size() > bytes_max) return Outcome::too_big;
    if (result == Z_STREAM_END) {
      // A block was marked as the last one, and others may follow it (RFC 7692 7.2.3.4). The window stays.
      (void)inflateResetKeep(&stream_);
      if (stream_.avail_in == 0) return Outcome::ok;
      continue;
    }
    if (result == Z_MEM_ERROR) return Outcome::no_memory;
    if (result != Z_OK && result != Z_BUF_ERROR) return Outcome::corrupt;
    if (stream_.avail_out > 0) return Outcome::ok;  // it has read all, and has nothing more to write
  }
}

MessageInflater::Outcome MessageInflater::end_message(ByteBuffer& out, uint64_t bytes_max) noexcept {
  is_in_message_ = false;
  const Outcome outcome = expand(sync_tail, out, bytes_max);
  if (outcome != Outcome::ok) return outcome;
  constexpr int between_blocks = 128;  // of data_type, as zlib.h says
  if ((stream_.data_type & between_blocks) == 0) return Outcome::corrupt;  // the message ends inside a block
  if (forgets_) release();
  return Outcome::ok;
}

void MessageInflater::release() noexcept {
  if (is_made_) (void)inflateEnd(&stream_);
  is_made_ = false;
}

}  // namespace cxxloop::web
