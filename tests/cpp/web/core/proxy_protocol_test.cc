// SPDX-License-Identifier: MIT
#include "web/core/proxy_protocol.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>

#include <algorithm>
#include <array>
#include <optional>
#include <string>

namespace cxxloop::web {
namespace {

using Outcome = ProxyHeader::Outcome;

// What a header is read as: "more", "refused", or the client; and how many bytes it took.
struct Read {
  std::string what;
  size_t used = 0;
  friend bool operator==(const Read&, const Read&) = default;
};

std::string text_of(const io::Address& address) {
  if (address.size == 0) return "local";
  std::array<char, INET6_ADDRSTRLEN> text{};
  if (address.storage.ss_family == AF_UNIX) return "unix";
  if (address.storage.ss_family == AF_INET) {
    const auto& four = reinterpret_cast<const sockaddr_in&>(address.storage);
    return std::string(inet_ntop(AF_INET, &four.sin_addr, text.data(), text.size())) + " " + std::to_string(ntohs(four.sin_port));
  }
  const auto& six = reinterpret_cast<const sockaddr_in6&>(address.storage);
  return std::string(inet_ntop(AF_INET6, &six.sin6_addr, text.data(), text.size())) + " " + std::to_string(ntohs(six.sin6_port));
}

Read read(std::string_view bytes, size_t size) {
  ProxyHeader header;
  size_t used = 0;
  for (size_t at = 0; at < bytes.size(); at += size) {
    const ProxyHeader::Step step = header.next(bytes.substr(at, size));
    used += step.used;
    if (step.outcome == Outcome::refused) return {"refused", used};
    if (step.outcome == Outcome::whole) {
      EXPECT_EQ(header.has_address(), header.address().size > 0);
      return {text_of(header.address()), used};
    }
    EXPECT_EQ(step.used, std::min(size, bytes.size() - at));
  }
  return {"more", used};
}

// The same whatever the pieces.
Read read(std::string_view bytes) {
  const Read whole = read(bytes, bytes.size());
  for (size_t size = 1; size < bytes.size(); ++size) EXPECT_EQ(read(bytes, size), whole) << size;
  return whole;
}

std::string binary(uint8_t version_and_command, uint8_t family_and_transport, std::string_view payload, std::optional<size_t> bytes = {}) {
  const size_t size = bytes.value_or(payload.size());
  std::string header("\r\n\r\n\0\r\nQUIT\n", 12);
  for (const size_t byte : {size_t{version_and_command}, size_t{family_and_transport}, size >> 8, size & 0xff}) {
    header.push_back(static_cast<char>(byte));
  }
  return header.append(payload);
}

const std::string inet("\xc0\x00\x02\x07\xc0\x00\x02\x01\x13\x88\x00\x50", 12);
const std::string inet6 = std::string("\x20\x01\x0d\xb8", 4) + std::string(11, '\0') + "\x07" + std::string(16, '\1') + std::string("\x13\x88\x00\x50", 4);

TEST(ProxyHeader, ReadsTheLineOfVersion1) {
  const std::string four = "PROXY TCP4 192.0.2.7 192.0.2.1 5000 80\r\n";
  EXPECT_EQ(read(four + "GET /"), (Read{"192.0.2.7 5000", four.size()}));
  const std::string six = "PROXY TCP6 2001:db8::7 ::1 65535 0\r\n";
  EXPECT_EQ(read(six), (Read{"2001:db8::7 65535", six.size()}));
  EXPECT_EQ(read("PROXY UNKNOWN\r\n").what, "local");
  EXPECT_EQ(read("PROXY UNKNOWN ffff::1 x y z and more\r\nGET /").what, "local");
  // The longest line there is, with CR and LF.
  const std::string longest = "PROXY UNKNOWN " + std::string(91, 'f') + "\r\n";
  ASSERT_EQ(longest.size(), 107U);
  EXPECT_EQ(read(longest).what, "local");
}

TEST(ProxyHeader, RefusesOtherLines) {
  for (const char* const line : {
           "PROXY\r\n", "PROXY \r\n", "proxy TCP4 192.0.2.7 192.0.2.1 5000 80\r\n", "PROXY  TCP4 192.0.2.7 192.0.2.1 5000 80\r\n",
           "PROXY TCP4 192.0.2.7 192.0.2.1 5000 80\n", "PROXY TCP4 192.0.2.7 192.0.2.1 5000\r\n",
           "PROXY TCP4 192.0.2.7 192.0.2.1 5000 80 \r\n", "PROXY TCP4 192.0.2.7 192.0.2.1 5000 80 90\r\n",
           "PROXY TCP4 192.0.2.7  192.0.2.1 5000 80\r\n", "PROXY TCP4 192.0.2.7\t192.0.2.1 5000 80\r\n",
           "PROXY TCP4 192.0.2.256 192.0.2.1 5000 80\r\n", "PROXY TCP4 192.0.2 192.0.2.1 5000 80\r\n",
           "PROXY TCP4 2001:db8::7 ::1 5000 80\r\n", "PROXY TCP6 192.0.2.7 192.0.2.1 5000 80\r\n",
           "PROXY TCP6 fe80::1%eth0 ::1 5000 80\r\n", "PROXY TCP4 192.0.2.7 192.0.2.1 65536 80\r\n",
           "PROXY TCP4 192.0.2.7 192.0.2.1 -1 80\r\n", "PROXY TCP4 192.0.2.7 192.0.2.1 +5 80\r\n",
           "PROXY TCP4 192.0.2.7 192.0.2.1 05000 80\r\n", "PROXY TCP4 192.0.2.7 192.0.2.1 5000 \r\n",
           "PROXY TCP4 192.0.2.7 192.0.2.1 5000 80x\r\n", "PROXY TCP4 192.0.2.7 192.0.2.1 5000 80\r\r\n",
           "PROXY UDP4 192.0.2.7 192.0.2.1 5000 80\r\n", "PROXY UNKNOWNS\r\n", "GET / HTTP/1.1\r\n", "\n", "PROXZ", "\r\n\r\n\r\n"}) {
    EXPECT_EQ(read(line).what, "refused") << line;
  }
  EXPECT_EQ(read("PROXY UNKNOWN " + std::string(92, 'f') + "\r\n"), (Read{"refused", 107}));
}

TEST(ProxyHeader, ReadsTheBytesOfVersion2) {
  const std::string four = binary(0x21, 0x11, inet);
  EXPECT_EQ(read(four + "GET /"), (Read{"192.0.2.7 5000", four.size()}));
  const std::string six = binary(0x21, 0x21, inet6);
  EXPECT_EQ(read(six + "GET /"), (Read{"2001:db8::7 5000", six.size()}));
  EXPECT_EQ(read(binary(0x21, 0x31, std::string(216, 'p'))).what, "unix");
}

TEST(ProxyHeader, SkipsWhatFollowsTheAddresses) {
  const std::string tlv = std::string("\x04\x00\x03", 3) + "abc";
  const std::string four = binary(0x21, 0x11, inet + tlv + tlv);
  EXPECT_EQ(read(four + "\r\n\r\n"), (Read{"192.0.2.7 5000", four.size()}));
  EXPECT_EQ(read(binary(0x21, 0x31, std::string(216, 'p') + tlv)).what, "unix");
  const std::string large = binary(0x21, 0x11, inet + std::string(ProxyHeader::payload_bytes_max - inet.size(), 't'));
  EXPECT_EQ(read(large, 7), (Read{"192.0.2.7 5000", large.size()}));
  EXPECT_EQ(read(binary(0x21, 0x11, inet, ProxyHeader::payload_bytes_max + 1), 7), (Read{"refused", 16}));
}

TEST(ProxyHeader, KeepsTheProxysAddressWhereItSpeaksForItself) {
  EXPECT_EQ(read(binary(0x20, 0x00, "") + "GET /"), (Read{"local", 16}));
  EXPECT_EQ(read(binary(0x20, 0x11, inet) + "GET /"), (Read{"local", 28})) << "LOCAL: the addresses are to be ignored";
  EXPECT_EQ(read(binary(0x21, 0x00, "")).what, "local");
  EXPECT_EQ(read(binary(0x21, 0x00, "anything")).what, "local");
}

TEST(ProxyHeader, RefusesOtherBytes) {
  EXPECT_EQ(read(binary(0x11, 0x11, inet)).what, "refused") << "version 1";
  EXPECT_EQ(read(binary(0x31, 0x11, inet)).what, "refused");
  EXPECT_EQ(read(binary(0x22, 0x11, inet)).what, "refused") << "an unknown command";
  EXPECT_EQ(read(binary(0x21, 0x41, inet)).what, "refused") << "an unknown family";
  EXPECT_EQ(read(binary(0x21, 0x13, inet)).what, "refused") << "an unknown transport";
  EXPECT_EQ(read(binary(0x21, 0x12, inet)).what, "refused") << "datagrams";
  EXPECT_EQ(read(binary(0x21, 0x01, inet)).what, "refused");
  EXPECT_EQ(read(binary(0x21, 0x10, inet)).what, "refused");
  EXPECT_EQ(read(binary(0x21, 0x11, inet.substr(1))).what, "refused") << "too short for the addresses";
  EXPECT_EQ(read(binary(0x21, 0x21, inet6.substr(1))).what, "refused");
  EXPECT_EQ(read(binary(0x21, 0x31, std::string(215, 'p'))).what, "refused");
  EXPECT_EQ(read(std::string("\r\n\r\n\0\r\nQUIX", 11)).what, "refused");
}

TEST(ProxyHeader, WaitsForTheRest) {
  const std::string line = "PROXY TCP4 192.0.2.7 192.0.2.1 5000 80\r\n";
  const std::string bytes = binary(0x21, 0x11, inet + "tlv");
  for (const std::string& header : {line, bytes}) {
    for (size_t size = 1; size < header.size(); ++size) EXPECT_EQ(read(header.substr(0, size), size).what, "more") << size;
  }
}

}  // namespace
}  // namespace cxxloop::web
