// SPDX-License-Identifier: MIT
#include "web/core/proxy_protocol.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>
#include <charconv>
#include <cstring>

namespace cxxloop::web {
namespace {

using namespace std::string_view_literals;

constexpr std::string_view line_begin = "PROXY "sv;
constexpr std::string_view signature = "\r\n\r\n\0\r\nQUIT\n"sv;
static_assert(signature.size() == 12);

// The low nibble of the 13th byte, the high one of the 14th, and the low one of the 14th.
enum class Command : uint8_t { local, proxy };
enum class Family : uint8_t { none, inet, inet6, unix_socket };
enum class Transport : uint8_t { none, stream, datagram };

constexpr size_t inet_bytes = 12;   // two addresses, two ports
constexpr size_t inet6_bytes = 36;
constexpr size_t unix_bytes = 216;  // two paths

bool begins_alike(std::string_view text, std::string_view whole) noexcept {
  return text.substr(0, whole.size()) == whole.substr(0, text.size());
}

uint16_t port_at(const char* bytes) noexcept {
  uint16_t port;
  std::memcpy(&port, bytes, sizeof(port));
  return port;  // in the order of the network, as sockaddr_in wants it
}

// Decimal, as short as can be.
bool read_port(std::string_view text, uint16_t* port) noexcept {
  if (text.empty() || (text.size() > 1 && text.front() == '0')) return false;
  uint16_t number = 0;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  *port = htons(number);
  return error == std::errc() && stop == text.data() + text.size();
}

io::Address make_address(int family, const void* host, uint16_t port) noexcept {
  io::Address address;
  if (family == AF_INET) {
    sockaddr_in four{};
    four.sin_family = AF_INET;
    four.sin_port = port;
    std::memcpy(&four.sin_addr, host, sizeof(four.sin_addr));
    std::memcpy(&address.storage, &four, sizeof(four));
    address.size = sizeof(four);
  } else {
    sockaddr_in6 six{};
    six.sin6_family = AF_INET6;
    six.sin6_port = port;
    std::memcpy(&six.sin6_addr, host, sizeof(six.sin6_addr));
    std::memcpy(&address.storage, &six, sizeof(six));
    address.size = sizeof(six);
  }
  return address;
}

bool read_host(int family, std::string_view text, in6_addr* host) noexcept {
  std::array<char, INET6_ADDRSTRLEN> terminated{};
  if (text.size() >= terminated.size()) return false;
  std::memcpy(terminated.data(), text.data(), text.size());
  return inet_pton(family, terminated.data(), host) == 1;
}

}  // namespace

ProxyHeader::Step ProxyHeader::next(std::string_view bytes) noexcept {
  size_t used = 0;
  while (used < bytes.size()) {
    if (skipped_bytes_ > 0 && held_bytes_ == begin_bytes + addresses_bytes_) {
      const size_t skipped = std::min(skipped_bytes_, bytes.size() - used);
      used += skipped;
      skipped_bytes_ -= skipped;
      if (skipped_bytes_ == 0) return {Outcome::whole, used};
      break;
    }
    held_[held_bytes_++] = bytes[used++];
    const Outcome outcome = look();
    if (outcome != Outcome::more) return {outcome, used};
  }
  return {Outcome::more, used};
}

// One byte more is held.
ProxyHeader::Outcome ProxyHeader::look() noexcept {
  const std::string_view held(held_.data(), held_bytes_);
  if (begins_alike(held, line_begin)) {
    if (held.back() == '\n') return read_line(held) ? Outcome::whole : Outcome::refused;
    return held.size() < line_bytes_max ? Outcome::more : Outcome::refused;
  }
  if (!begins_alike(held, signature)) return Outcome::refused;
  if (held.size() < begin_bytes) return Outcome::more;
  if (held.size() == begin_bytes && !read_begin()) return Outcome::refused;
  if (held.size() < begin_bytes + addresses_bytes_) return Outcome::more;
  if (addresses_bytes_ > 0) read_addresses();
  return skipped_bytes_ > 0 ? Outcome::more : Outcome::whole;
}

// "PROXY TCP4 source destination port port" or "PROXY UNKNOWN", of which nothing further counts.
bool ProxyHeader::read_line(std::string_view line) noexcept {
  if (!line.ends_with("\r\n")) return false;
  line.remove_suffix(2);
  line.remove_prefix(line_begin.size());
  std::array<std::string_view, 5> words;
  size_t count = 0;
  for (bool is_last = false; !is_last; ++count) {
    const size_t space = line.find(' ');
    is_last = space == std::string_view::npos;
    if (count == words.size()) return words[0] == "UNKNOWN";
    words[count] = line.substr(0, space);
    if (!is_last) line.remove_prefix(space + 1);
  }
  if (words[0] == "UNKNOWN") return true;
  const int family = words[0] == "TCP4" ? AF_INET : AF_INET6;
  if ((family == AF_INET6 && words[0] != "TCP6") || count != words.size()) return false;
  in6_addr source;
  in6_addr destination;
  uint16_t source_port = 0;
  uint16_t destination_port = 0;
  if (!read_host(family, words[1], &source) || !read_host(family, words[2], &destination)) return false;
  if (!read_port(words[3], &source_port) || !read_port(words[4], &destination_port)) return false;
  address_ = make_address(family, &source, source_port);
  return true;
}

bool ProxyHeader::read_begin() noexcept {
  const auto byte = [this](size_t at) { return static_cast<uint8_t>(held_[at]); };
  const size_t payload_bytes = size_t{byte(14)} << 8 | byte(15);
  const auto command = Command{static_cast<uint8_t>(byte(12) & 0xf)};
  const auto family = Family{static_cast<uint8_t>(byte(13) >> 4)};
  const auto transport = Transport{static_cast<uint8_t>(byte(13) & 0xf)};
  if (byte(12) >> 4 != 2 || command > Command::proxy || payload_bytes > payload_bytes_max) return false;
  if (family > Family::unix_socket || transport > Transport::datagram) return false;
  skipped_bytes_ = payload_bytes;
  if (command == Command::local || (family == Family::none && transport == Transport::none)) return true;
  if (family == Family::none || transport != Transport::stream) return false;  // a connection is neither datagrams nor nothing
  if (family == Family::unix_socket) {
    address_.storage.ss_family = AF_UNIX;
    address_.size = sizeof(address_.storage.ss_family);
    return payload_bytes >= unix_bytes;
  }
  addresses_bytes_ = family == Family::inet ? inet_bytes : inet6_bytes;
  if (payload_bytes < addresses_bytes_) return false;
  skipped_bytes_ -= addresses_bytes_;
  return true;
}

void ProxyHeader::read_addresses() noexcept {
  const char* const addresses = held_.data() + begin_bytes;
  if (addresses_bytes_ == inet_bytes) {
    address_ = make_address(AF_INET, addresses, port_at(addresses + 8));
  } else {
    address_ = make_address(AF_INET6, addresses, port_at(addresses + 32));
  }
}

}  // namespace cxxloop::web
