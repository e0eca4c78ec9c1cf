// SPDX-License-Identifier: MIT
//
// python/tls/type.cc: the Python face of TlsProtocol, and write() of the transport above it.
#include <Python.h>
#include <structmember.h>

#include <cstddef>
#include <type_traits>

#include "python/handle/call_args.h"
#include "python/interp/bytes_like.h"
#include "python/interp/heap_type.h"
#include "python/tls/tls_protocol.h"

namespace cxxloop::python {
namespace {

TlsProtocol& native_of(PyObject* self) noexcept { return reinterpret_cast<TlsProtocolObject*>(self)->native(); }

PyObject* tls_do_handshake(PyObject* self, PyObject*) {
  return none_if(native_of(self).do_handshake(Gil::in_slot()));
}
PyObject* tls_do_read(PyObject* self, PyObject*) { return none_if(native_of(self).read(Gil::in_slot())); }
PyObject* tls_do_write(PyObject* self, PyObject*) { return none_if(native_of(self).write_backlog(Gil::in_slot())); }
PyObject* tls_process_outgoing(PyObject* self, PyObject*) {
  return none_if(native_of(self).send_outgoing(Gil::in_slot()));
}
PyObject* tls_write_appdata(PyObject* self, PyObject* list_of_data) {
  return none_if(native_of(self).write_lines(Gil::in_slot(), list_of_data));
}

PyObject* tls_get_read_buffer_size(PyObject* self, PyObject*) {
  const Py_ssize_t size = native_of(self).read_buffer_size(Gil::in_slot());
  return size < 0 ? nullptr : PyLong_FromSsize_t(size);
}

// Called if the transport below is not ours: it fills asyncio's buffer, and asyncio's code writes that into the BIO.
PyObject* tls_buffer_updated(PyObject* self, PyObject* count) {
  const ModuleState& state = *state_of_type(Py_TYPE(self));
  native_of(self).stop_counting_records();
  PyObject* const args[] = {self, count};
  const Ref method = Ref::steal(PyObject_GetAttr(state.imports.ssl_protocol, state.names.buffer_updated));
  return method ? PyObject_Vectorcall(method.get(), args, 2, nullptr) : nullptr;
}

// --- attributes -----------------------------------------------------------------------------------------------

PyObject* get_sslobj(PyObject* self, void*) { return native_of(self).sslobj.new_ref_or_none(); }
int set_sslobj(PyObject* self, PyObject* value, void*) {
  return native_of(self).set_sslobj(Gil::in_slot(), value != nullptr ? value : Py_None) ? 0 : -1;
}

// asyncio's constructor makes a buffer of max_size bytes, which we do not read into: an empty one will do, and grows
// if another transport asks for it.
PyObject* get_max_size(PyObject* self, void*) {
  const ModuleState& state = *state_of_type(Py_TYPE(self));
  if (!native_of(self).sslobj) return PyLong_FromLong(0);
  return PyObject_GetAttr(state.imports.ssl_protocol, state.names.max_size);
}

constexpr Attribute tls_attributes[] = {
    {"_sslobj", get_sslobj, set_sslobj},
    {"max_size", get_max_size},
    {},
};

static_assert(std::is_standard_layout_v<TlsFields> && sizeof(Ref) == sizeof(PyObject*), "a Ref is a slot");

constexpr PyMemberDef field(const char* name, int type, size_t offset) noexcept {
  return {name, type, static_cast<Py_ssize_t>(offsetof(TlsProtocolObject, native_storage) + offset), 0, nullptr};
}

constexpr PyMemberDef tls_members[] = {
    field("_loop", T_OBJECT_EX, offsetof(TlsFields, loop)),
    field("_state", T_OBJECT_EX, offsetof(TlsFields, state)),
    field("_incoming", T_OBJECT_EX, offsetof(TlsFields, incoming)),
    field("_outgoing", T_OBJECT_EX, offsetof(TlsFields, outgoing)),
    field("_transport", T_OBJECT_EX, offsetof(TlsFields, transport)),
    field("_app_protocol", T_OBJECT_EX, offsetof(TlsFields, app_protocol)),
    field("_app_transport", T_OBJECT_EX, offsetof(TlsFields, app_transport)),
    field("_write_backlog", T_OBJECT_EX, offsetof(TlsFields, backlog)),
    field("_outgoing_high_water", T_OBJECT_EX, offsetof(TlsFields, outgoing_high)),
    field("_outgoing_low_water", T_OBJECT_EX, offsetof(TlsFields, outgoing_low)),
    field("_incoming_high_water", T_OBJECT_EX, offsetof(TlsFields, incoming_high)),
    field("_incoming_low_water", T_OBJECT_EX, offsetof(TlsFields, incoming_low)),
    field("_write_buffer_size", T_PYSSIZET, offsetof(TlsFields, backlog_size)),
    field("_app_protocol_is_buffer", T_BOOL, offsetof(TlsFields, app_protocol_is_buffer)),
    field("_app_reading_paused", T_BOOL, offsetof(TlsFields, app_reading_paused)),
    field("_app_writing_paused", T_BOOL, offsetof(TlsFields, app_writing_paused)),
    field("_ssl_reading_paused", T_BOOL, offsetof(TlsFields, ssl_reading_paused)),
    field("_ssl_writing_paused", T_BOOL, offsetof(TlsFields, ssl_writing_paused)),
    {nullptr, 0, 0, 0, nullptr},
};

constexpr Method tls_methods[] = {
    {"buffer_updated", tls_buffer_updated, METH_O, nullptr},
    {"_do_handshake", tls_do_handshake, METH_NOARGS, nullptr},
    {"_do_read", tls_do_read, METH_NOARGS, nullptr},
    {"_do_write", tls_do_write, METH_NOARGS, nullptr},
    {"_process_outgoing", tls_process_outgoing, METH_NOARGS, nullptr},
    {"_get_read_buffer_size", tls_get_read_buffer_size, METH_NOARGS, nullptr},
    {"_write_appdata", tls_write_appdata, METH_O, nullptr},
    {},
};

// --- the transport above --------------------------------------------------------------------------------------

// write(transport, data) of asyncio's _SSLProtocolTransport.
PyObject* transport_write(PyObject* module, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames) {
  const ModuleState& state = *static_cast<ModuleState*>(PyModule_GetState(module));
  if (nargs == 0) {
    PyErr_SetString(PyExc_TypeError, "write() needs a transport");
    return nullptr;
  }
  PyObject* const data = only_argument("write", "data", args + 1, nargs - 1, kwnames);
  if (data == nullptr) return nullptr;
  const Gil gil = Gil::in_slot();
  if (!is_bytes_like(data)) return none_if(raise_not_bytes_like(gil, data, "data: expecting a bytes-like instance, got %U"));
  const Py_ssize_t size = PyObject_Size(data);
  if (size <= 0) return none_if(size == 0);
  const Ref protocol = Ref::steal(PyObject_GetAttr(args[0], state.names._ssl_protocol));
  if (!protocol) return nullptr;
  TlsProtocol* const native = tls_protocol_of(state, protocol.get());
  if (native != nullptr) return none_if(native->write(gil, data));
  const Ref list = Ref::steal(PyTuple_Pack(1, data));
  return list ? PyObject_CallMethodOneArg(protocol.get(), state.names._write_appdata, list.get()) : nullptr;
}

constexpr Method transport_write_method = {
    "write", transport_write,
    "write($module, transport, data)\n--\n\nEncrypt data and send it, without blocking; see asyncio.WriteTransport.write()."};

// --- the type -------------------------------------------------------------------------------------------------

bool tls_on_data(PyObject* self, Gil gil, std::span<const std::byte> data) noexcept {
  return native_of(self).on_data(gil, data);
}

PyObject* tls_new(PyTypeObject* type, PyObject*, PyObject*) {
  ModuleState* const state = state_of_type(type);
  if (state == nullptr) return nullptr;
  PyObject* const self = type->tp_alloc(type, 0);
  if (self == nullptr) return nullptr;
  TlsProtocolObject& object = *reinterpret_cast<TlsProtocolObject*>(self);
  new (object.native_storage) TlsProtocol(object, *state, PyType_GetModuleByDef(type, &core_module));
  object.front.on_data = tls_on_data;
  return self;
}

}  // namespace

TlsProtocol* tls_protocol_of(const ModuleState& state, PyObject* object) noexcept {
  return PyObject_TypeCheck(object, state.tls_protocol_type) != 0 ? &native_of(object) : nullptr;
}

bool add_tls_types(Gil gil, PyObject* module, ModuleState& state) noexcept {
  state.tls_protocol_type = make_heap_type(gil, module, {
      .name = "cxxloop._core.TlsProtocol",
      .object_bytes = sizeof(TlsProtocolObject),
      .flags = Py_TPFLAGS_BASETYPE,
      .doc = "The native half of the protocol between a TLS connection and its transport.",
      .base = reinterpret_cast<PyObject*>(state.native_protocol_type),
      .methods = {tls_methods},
      .attributes = {tls_attributes},
      .members = tls_members,
      .make = tls_new,
      .traverse = traverse<native_of>,
      .clear = clear<native_of>,
      .dealloc = dealloc<native_of>,
  });
  if (state.tls_protocol_type == nullptr) return false;
  // A function that becomes a method of the Python class it is assigned to; plain built-in ones do not.
  const Ref function = Ref::steal(PyCFunction_NewEx(transport_write_method.definition(), module, nullptr));
  const Ref write = function ? Ref::steal(PyInstanceMethod_New(function.get())) : Ref();
  return write && PyModule_AddObjectRef(module, "_tls_transport_write", write.get()) == 0;
}

}  // namespace cxxloop::python
