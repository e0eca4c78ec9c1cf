// SPDX-License-Identifier: MIT
//
// python/module.cc: the extension module cxxloop._core: its state, its types, once per interpreter.
#include "python/interp/bindings.h"
#include "python/interp/cpython.h"
#include "python/transport/datagram/datagram_transport.h"
#include "python/handle/handle.h"
#include "python/interp/heap_type.h"
#include "python/interp/module_state.h"
#include "python/loop/loop.h"
#include "python/transport/native_protocol.h"
#include "python/transport/pipe/pipe_transport.h"
#include "python/transport/socket_transport.h"
#include "python/transport/stream/stream_transport.h"
#include "python/tls/tls_protocol.h"

namespace cxxloop::python {
namespace {

ModuleState& state_of(PyObject* module) noexcept { return *static_cast<ModuleState*>(PyModule_GetState(module)); }

int module_exec(PyObject* module) {
  const Gil gil = Gil::in_slot();
  ModuleState& state = state_of(module);
  const bool added = init_module_state(gil, state) && check_cpython(gil, state) && add_handle_types(gil, module, state) &&
                     add_sock_op_type(gil, module, state) && add_listener_type(gil, module, state) &&
                     add_socket_transport_type(gil, module, state) &&
                     add_stream_transport_type(gil, module, state) &&
                     add_datagram_transport_type(gil, module, state) && add_pipe_types(gil, module, state) &&
                     add_native_protocol_type(gil, module, state) && add_tls_types(gil, module, state) &&
                     add_loop_type(gil, module, state) && add_loop_access(gil, module) && add_bindings(gil, module);
  return added ? 0 : -1;
}

int module_traverse(PyObject* module, visitproc visit, void* arg) {
  ShowRefs show(visit, arg);
  state_of(module).each_ref(show);
  return show.result();
}

void module_free(void* module) { clear<state_of>(static_cast<PyObject*>(module)); }

PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, reinterpret_cast<void*>(module_exec)},
#if PY_VERSION_HEX >= 0x030C0000
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#endif
    {0, nullptr},
};

}  // namespace

PyModuleDef core_module = {
    PyModuleDef_HEAD_INIT,
    "cxxloop._core",
    "The native half of cxxloop.",
    sizeof(ModuleState),
    nullptr,
    module_slots,
    module_traverse,
    clear<state_of>,
    module_free,
};

}  // namespace cxxloop::python

PyMODINIT_FUNC PyInit__core() { return PyModuleDef_Init(&cxxloop::python::core_module); }
