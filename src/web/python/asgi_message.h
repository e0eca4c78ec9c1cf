// SPDX-License-Identifier: MIT
//
// web/python/asgi_message.h: reads a message that an application sends: a dict with a type.
//
// Thread: any that holds the GIL.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "web/python/web_state.h"

namespace cxxloop::python {

// Borrowed; null: there is none, or the indicator is set.
[[nodiscard]] inline PyObject* find(const WebState& state, PyObject* message, Name key) noexcept {
  return PyDict_GetItemWithError(message, state.name(key));
}

// Borrowed; null: KeyError or another exception is set.
[[nodiscard]] PyObject* require(const WebState& state, PyObject* message, Name key) noexcept;
// 1 or 0, as bool(message.get(key, False)); -1: the indicator is set.
[[nodiscard]] int find_truth(const WebState& state, PyObject* message, Name key) noexcept;
// What message.get(key) says of a size or an offset; nothing if it is not there, or None. False: the indicator is set.
[[nodiscard]] bool find_number(const WebState& state, PyObject* message, Name key, std::optional<uint64_t>* number) noexcept;
// The status of a response: 200 to 599; -1: the indicator is set.
[[nodiscard]] int require_status(const WebState& state, PyObject* message) noexcept;
// Empty: the indicator is set. Valid as long as the message keeps its type.
[[nodiscard]] std::string_view type_of(const WebState& state, PyObject* message) noexcept;
// False, with RuntimeError set if there is a fault; else true.
[[nodiscard]] bool raise_fault(const char* fault) noexcept;

}  // namespace cxxloop::python
