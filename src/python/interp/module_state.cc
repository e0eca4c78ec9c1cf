// SPDX-License-Identifier: MIT
#include "python/interp/module_state.h"

namespace cxxloop::python {
namespace {

bool intern_names(Names& names) noexcept {
#define CXL_INTERN_NAME(name)                          \
  names.name = PyUnicode_InternFromString(#name);      \
  if (names.name == nullptr) return false;
  CXL_NAMES(CXL_INTERN_NAME)
#undef CXL_INTERN_NAME
  return true;
}

// One import: where it comes from and where it goes. No attribute: the module itself.
struct Import {
  PyObject** target;
  const char* module;
  const char* attribute;
};

bool run_import(Gil gil, const Import& import) noexcept {
  *import.target = import_from(gil, import.module, import.attribute).release();
  return *import.target != nullptr;
}

bool run_imports(Gil gil, Imports& imports) noexcept {
  const Import list[] = {
      {&imports.tasks_module, "asyncio.tasks", nullptr},
      {&imports.futures_module, "asyncio.futures", nullptr},
      {&imports.buffered_protocol, "asyncio.protocols", "BufferedProtocol"},
      {&imports.set_result_unless_cancelled, "asyncio.futures", "_set_result_unless_cancelled"},
      {&imports.extract_stack, "asyncio.format_helpers", "extract_stack"},
      {&imports.format_callback_source, "asyncio.format_helpers", "_format_callback_source"},
      {&imports.format_handle, "asyncio.base_events", "_format_handle"},
      {&imports.base_events_module, "asyncio.base_events", nullptr},
      {&imports.logger, "asyncio.log", "logger"},
      {&imports.transport_socket, "cxxloop._trsock", "TransportSocket"},
      {&imports.constants_module, "asyncio.constants", nullptr},
      {&imports.socket_module, "socket", nullptr},
      {&imports.time_module, "time", nullptr},
      {&imports.selector_loop, "asyncio.unix_events", "_UnixSelectorEventLoop"},
      {&imports.socket_type, "cxxloop._sockets", "plain_socket"},
      {&imports.file_io, "io", "FileIO"},
      {&imports.sys_getframe, "sys", "_getframe"},
      {&imports.events_module, "asyncio.events", nullptr},
      {&imports.handle_type, "asyncio.events", "Handle"},
      {&imports.ssl_protocol, "asyncio.sslproto", "SSLProtocol"},
  };
  for (const Import& import : list) {
    if (!run_import(gil, import)) return false;
  }
  const Ref base_loop = import_from(gil, "asyncio.base_events", "BaseEventLoop");
  if (!base_loop) return false;
  imports.base_create_task = PyObject_GetAttrString(base_loop.get(), "create_task");
  if (imports.base_create_task == nullptr) return false;
  const Ref modes = Ref::steal(PyObject_GetAttrString(imports.constants_module, "_SendfileMode"));
  if (!modes) return false;
  imports.sendfile_mode_try_native = PyObject_GetAttrString(modes.get(), "TRY_NATIVE");
  return imports.sendfile_mode_try_native != nullptr;
}

bool run_ssl_imports(Gil gil, Imports& imports) noexcept {
  const Ref sslproto = import_from(gil, "asyncio.sslproto");
  const Ref states = sslproto ? Ref::steal(PyObject_GetAttrString(sslproto.get(), "SSLProtocolState")) : Ref();
  if (!states) return false;
  imports.ssl_states.do_handshake = PyObject_GetAttrString(states.get(), "DO_HANDSHAKE");
  imports.ssl_states.wrapped = PyObject_GetAttrString(states.get(), "WRAPPED");
  imports.ssl_states.flushing = PyObject_GetAttrString(states.get(), "FLUSHING");
  imports.ssl_states.shutdown = PyObject_GetAttrString(states.get(), "SHUTDOWN");
  const Ref ssl = Ref::steal(PyObject_GetAttrString(sslproto.get(), "ssl"));
  if (!ssl || ssl.get() == Py_None) return static_cast<bool>(ssl);  // a Python without it: nobody can ask for TLS
  imports.ssl_again_errors = PyObject_GetAttrString(sslproto.get(), "SSLAgainErrors");
  imports.ssl_object = PyObject_GetAttrString(ssl.get(), "SSLObject");
  imports.ssl_memory_bio = reinterpret_cast<PyTypeObject*>(PyObject_GetAttrString(ssl.get(), "MemoryBIO"));
  return PyErr_Occurred() == nullptr;
}

}  // namespace

Ref import_from(Gil, const char* module, const char* attribute) noexcept {
  Ref found = Ref::steal(PyImport_ImportModule(module));
  return found && attribute != nullptr ? Ref::steal(PyObject_GetAttrString(found.get(), attribute)) : std::move(found);
}

bool init_module_state(Gil gil, ModuleState& state) noexcept {
  if (!intern_names(state.names) || !run_imports(gil, state.imports) || !run_ssl_imports(gil, state.imports)) return false;
  PyObject* const create_task = state.imports.base_create_task;
  state.task_takes_keywords =
      PyFunction_Check(create_task) &&
      (reinterpret_cast<PyCodeObject*>(PyFunction_GET_CODE(create_task))->co_flags & CO_VARKEYWORDS) != 0;
  state.kwnames_loop = PyTuple_Pack(1, state.names.loop);
  return state.kwnames_loop != nullptr;
}

ModuleState* state_of_type(PyTypeObject* type) noexcept {
  PyObject* const module = PyType_GetModuleByDef(type, &core_module);
  return module != nullptr ? static_cast<ModuleState*>(PyModule_GetState(module)) : nullptr;
}

}  // namespace cxxloop::python
