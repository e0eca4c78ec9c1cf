// SPDX-License-Identifier: MIT
#include "web/core/sha1.h"

#include <bit>
#include <cstddef>
#include <cstring>

namespace cxxloop::web {
namespace {

constexpr size_t block_bytes = 64;
constexpr size_t length_bytes = 8;

using State = std::array<uint32_t, 5>;

// FIPS 180-4 6.1.2.
void add_block(State& state, const uint8_t* block) noexcept {
  std::array<uint32_t, 80> words;
  for (size_t t = 0; t < 16; ++t) {
    const uint8_t* const at = block + 4 * t;
    words[t] = uint32_t{at[0]} << 24 | uint32_t{at[1]} << 16 | uint32_t{at[2]} << 8 | uint32_t{at[3]};
  }
  for (size_t t = 16; t < 80; ++t) words[t] = std::rotl(words[t - 3] ^ words[t - 8] ^ words[t - 14] ^ words[t - 16], 1);
  auto [a, b, c, d, e] = state;
  for (size_t t = 0; t < 80; ++t) {
    const uint32_t f = t < 20   ? ((b & c) ^ (~b & d)) + 0x5A827999
                       : t < 40 ? (b ^ c ^ d) + 0x6ED9EBA1
                       : t < 60 ? ((b & c) ^ (b & d) ^ (c & d)) + 0x8F1BBCDC
                                : (b ^ c ^ d) + 0xCA62C1D6;
    const uint32_t next = std::rotl(a, 5) + f + e + words[t];
    e = d;
    d = c;
    c = std::rotl(b, 30);
    b = a;
    a = next;
  }
  state = {state[0] + a, state[1] + b, state[2] + c, state[3] + d, state[4] + e};
}

}  // namespace

std::array<uint8_t, 20> sha1(std::string_view text) noexcept {
  State state = {0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476, 0xC3D2E1F0};
  const auto* at = reinterpret_cast<const uint8_t*>(text.data());
  size_t left = text.size();
  for (; left >= block_bytes; left -= block_bytes, at += block_bytes) add_block(state, at);
  // The rest, a one, zeros, and the number of bits: one block or two.
  std::array<uint8_t, 2 * block_bytes> tail{};
  if (left > 0) std::memcpy(tail.data(), at, left);
  tail[left] = 0x80;
  const size_t tail_bytes = left < block_bytes - length_bytes ? block_bytes : 2 * block_bytes;
  const uint64_t bits = uint64_t{text.size()} * 8;
  for (size_t i = 0; i < length_bytes; ++i) tail[tail_bytes - 1 - i] = static_cast<uint8_t>(bits >> 8 * i);
  for (size_t done = 0; done < tail_bytes; done += block_bytes) add_block(state, tail.data() + done);
  std::array<uint8_t, 20> digest;
  for (size_t i = 0; i < digest.size(); ++i) digest[i] = static_cast<uint8_t>(state[i / 4] >> 8 * (3 - i % 4));
  return digest;
}

}  // namespace cxxloop::web
