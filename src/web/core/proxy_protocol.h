// SPDX-License-Identifier: MIT
//
// web/core/proxy_protocol.h: the header in front of a connection by which a proxy tells whose connection it is (HAProxy's
// PROXY protocol, versions 1 and 2).
//
// Decision: strict. What is no header, or one that the specification does not know, is refused: guessing would let a client
// choose its address. TLVs are counted off without being kept, so that a header needs no memory beside this object.
// Thread: loop thread.  Python: none.  Dies: when the header has been read.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "io/address.h"

namespace cxxloop::web {

class ProxyHeader {
 public:
  // What may follow the 16 bytes of a header of version 2, TLVs included.
  static constexpr size_t payload_bytes_max = 4096;

  enum class Outcome : uint8_t { more, whole, refused };
  struct Step {
    Outcome outcome;
    size_t used;  // of the bytes that were given; what follows a whole header is the connection's
  };

  // REQUIRES: it has returned nothing but `more` so far.
  [[nodiscard]] Step next(std::string_view bytes) noexcept;

  // True: address() is the client's. False: the proxy speaks for itself (LOCAL, UNKNOWN), and its own address counts.
  [[nodiscard]] bool has_address() const noexcept { return address_.size > 0; }
  // An IP address with its port, or AF_UNIX without a path.
  [[nodiscard]] const io::Address& address() const noexcept { return address_; }

 private:
  static constexpr size_t line_bytes_max = 107;  // of version 1, its CR and LF included
  static constexpr size_t begin_bytes = 16;      // of version 2: signature, version and command, family, length

  [[nodiscard]] Outcome look() noexcept;
  [[nodiscard]] bool read_begin() noexcept;
  [[nodiscard]] bool read_line(std::string_view line) noexcept;
  void read_addresses() noexcept;

  std::array<char, line_bytes_max> held_;
  size_t held_bytes_ = 0;
  size_t addresses_bytes_ = 0;  // of version 2: what is read of the payload
  size_t skipped_bytes_ = 0;    // of version 2: what is left of the payload, and not looked at
  io::Address address_;
};

}  // namespace cxxloop::web
