// SPDX-License-Identifier: MIT
#include "python/transport/native_protocol.h"

#include "python/interp/heap_type.h"

namespace cxxloop::python {

bool add_native_protocol_type(Gil gil, PyObject* module, ModuleState& state) noexcept {
  state.native_protocol_type = make_heap_type(gil, module, {
      .name = "cxxloop._core.NativeProtocol",
      .object_bytes = sizeof(NativeProtocolObject),
      .flags = Py_TPFLAGS_BASETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
      .doc = "A protocol that takes received bytes from where they are.",
      .is_public = false,
  });
  return state.native_protocol_type != nullptr;
}

}  // namespace cxxloop::python
