// SPDX-License-Identifier: MIT
#include "python/transport/native_protocol.h"

namespace cxxloop::python {

bool add_native_protocol_type(Gil, PyObject* module, ModuleState& state) noexcept {
  PyType_Slot slots[] = {
      {Py_tp_doc, const_cast<char*>("A protocol that takes received bytes from where they are.")},
      {0, nullptr},
  };
  PyType_Spec spec = {"cxxloop._core.NativeProtocol", sizeof(NativeProtocolObject), 0,
                      Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION |
                          Py_TPFLAGS_IMMUTABLETYPE,
                      slots};
  state.native_protocol_type = reinterpret_cast<PyTypeObject*>(PyType_FromModuleAndSpec(module, &spec, nullptr));
  return state.native_protocol_type != nullptr;
}

}  // namespace cxxloop::python
