// SPDX-License-Identifier: MIT
//
// web/python/trusted_peers.h: the proxies whose X-Forwarded-For and X-Forwarded-Proto are believed (uvicorn's
// --forwarded-allow-ips: addresses, networks, literals for what is no address, or "*").
//
// Thread: any.  Owns: its lists.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "io/address.h"
#include "python/interp/ref.h"

namespace cxxloop::python {

// Who a proxy says has sent a request.
struct ForwardedHost {
  std::string_view host;  // empty: nothing usable was said
  long port = 0;
};

class TrustedPeers {
 public:
  // A list of str, or a str with commas. False: the indicator is set. Runs Python: the ipaddress module.
  [[nodiscard]] bool assign(Gil gil, PyObject* trusted) noexcept;
  [[nodiscard]] bool contains(std::string_view host) const noexcept;
  // Of an IP address; no other one is contained, unless everybody is.
  [[nodiscard]] bool contains(const io::Address& address) const noexcept;
  [[nodiscard]] bool trusts_nobody() const noexcept { return !is_everybody_ && networks_.empty() && literals_.empty(); }
  // The client that the values of X-Forwarded-For name, joined by commas: the last host that is no trusted proxy.
  [[nodiscard]] ForwardedHost client_of(std::string_view forwarded_for) const noexcept;

 private:
  struct Network {
    std::array<uint8_t, 16> address;
    size_t address_bytes;
    size_t prefix_bits;
  };

  [[nodiscard]] bool contains(const std::array<uint8_t, 16>& address, size_t address_bytes) const noexcept;
  [[nodiscard]] bool add(Gil gil, PyObject* parse_network, PyObject* text) noexcept;

  std::vector<Network> networks_;
  std::vector<std::string> literals_;
  bool is_everybody_ = false;
};

}  // namespace cxxloop::python
