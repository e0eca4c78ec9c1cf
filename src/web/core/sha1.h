// SPDX-License-Identifier: MIT
//
// web/core/sha1.h: SHA-1 (FIPS 180-4), which proves that a server has read a WebSocket handshake, and secures nothing.
//
// Decision: our own. Every library that has it is one that a machine with Python may lack, or a second libcrypto beside the one
// that Python's ssl has loaded.
// Thread: any.  Python: none.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace cxxloop::web {

[[nodiscard]] std::array<uint8_t, 20> sha1(std::string_view text) noexcept;

}  // namespace cxxloop::web
