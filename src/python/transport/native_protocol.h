// SPDX-License-Identifier: MIT
//
// python/transport/native_protocol.h: a protocol whose receiving side is native: it takes bytes where they were received.
//
// Decision: a base type with a function pointer, so that a stream transport knows no room above its own. To the program
// such a protocol is whatever its Python class says; its other callbacks are called by name.
// Thread: loop thread.  Dies: with the protocol object; the transport that delivers to it holds that.
#pragma once

#include <cstddef>
#include <span>

#include "python/interp/module_state.h"

namespace cxxloop::python {

// The front of every native protocol object.
struct NativeProtocolObject {
  PyObject_HEAD
  // Set by the constructor of the kind. The bytes are valid during the call. False: the indicator is set.
  bool (*on_data)(PyObject* self, Gil gil, std::span<const std::byte> data) noexcept;
};

// `object` if its receiving side is native, else null.
inline NativeProtocolObject* native_protocol_of(const ModuleState& state, PyObject* object) noexcept {
  return PyObject_TypeCheck(object, state.native_protocol_type) != 0 ? reinterpret_cast<NativeProtocolObject*>(object)
                                                                    : nullptr;
}

[[nodiscard]] bool add_native_protocol_type(Gil gil, PyObject* module, ModuleState& state) noexcept;

}  // namespace cxxloop::python
