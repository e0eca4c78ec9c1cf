// SPDX-License-Identifier: MIT
//
// The header of the PROXY protocol: however its bytes are cut, the same must be read.
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "web/core/proxy_protocol.h"

namespace cxxloop::web {
namespace {

struct Read {
  ProxyHeader header;
  ProxyHeader::Outcome outcome = ProxyHeader::Outcome::more;
  size_t used = 0;
};

Read read(std::string_view bytes, size_t size) {
  Read read;
  while (read.outcome == ProxyHeader::Outcome::more && read.used < bytes.size()) {
    const std::string_view piece = bytes.substr(read.used, size);
    const ProxyHeader::Step step = read.header.next(piece);
    if (step.used > piece.size() || (step.outcome == ProxyHeader::Outcome::more && step.used != piece.size())) std::abort();
    read.used += step.used;
    read.outcome = step.outcome;
  }
  return read;
}

bool is_same(const io::Address& left, const io::Address& right) {
  return left.size == right.size && std::memcmp(&left.storage, &right.storage, left.size) == 0;
}

}  // namespace
}  // namespace cxxloop::web

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using cxxloop::web::ProxyHeader;
  if (size == 0) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data + 1), size - 1);
  const cxxloop::web::Read whole = cxxloop::web::read(bytes, bytes.size() + 1);
  const cxxloop::web::Read pieces = cxxloop::web::read(bytes, data[0] % 16 + 1);
  if (whole.outcome != pieces.outcome || whole.used != pieces.used) std::abort();
  if (whole.outcome != ProxyHeader::Outcome::whole) return 0;
  if (!cxxloop::web::is_same(whole.header.address(), pieces.header.address())) std::abort();
  if (whole.used > 16 + ProxyHeader::payload_bytes_max) std::abort();
  return 0;
}
