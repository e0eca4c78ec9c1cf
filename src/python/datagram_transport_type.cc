// SPDX-License-Identifier: MIT
//
// python/datagram_transport_type.cc: the Python face of DatagramTransport: asyncio.DatagramTransport's methods and the
// type.
#include <Python.h>
#include <structmember.h>

#include <cstddef>

#include "python/call_args.h"
#include "python/datagram_transport.h"
#include "python/error.h"
#include "python/file_number.h"

namespace cxxloop::python {
namespace {

DatagramTransport& native_of(PyObject* self) noexcept {
  return reinterpret_cast<DatagramTransportObject*>(self)->native();
}

// None, or null when `succeeded` is false.
PyObject* none_if(bool succeeded) noexcept {
  if (!succeeded) return nullptr;
  Py_RETURN_NONE;
}

// sendto(data, addr=None), without a tuple per call.
PyObject* transport_sendto(PyObject* self, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames) {
  PyObject* values[] = {nargs > 0 ? args[0] : nullptr, nargs > 1 ? args[1] : nullptr};
  const Py_ssize_t keywords_count = kwnames != nullptr ? PyTuple_GET_SIZE(kwnames) : 0;
  bool valid = nargs <= 2;
  for (Py_ssize_t i = 0; valid && i < keywords_count; ++i) {
    PyObject* const name = PyTuple_GET_ITEM(kwnames, i);
    const size_t index = PyUnicode_CompareWithASCIIString(name, "data") == 0 ? 0 : 1;
    valid = values[index] == nullptr && (index == 0 || PyUnicode_CompareWithASCIIString(name, "addr") == 0);
    values[index] = args[nargs + i];
  }
  if (!valid || values[0] == nullptr) {
    PyErr_SetString(PyExc_TypeError, "sendto() takes data and, optionally, addr");
    return nullptr;
  }
  return none_if(native_of(self).send_to(Gil::in_slot(), values[0], values[1] != nullptr ? values[1] : Py_None));
}

PyObject* transport_close(PyObject* self, PyObject*) { return none_if(native_of(self).close(Gil::in_slot())); }
PyObject* transport_abort(PyObject* self, PyObject*) {
  return none_if(native_of(self).force_close(Gil::in_slot(), Py_None));
}
PyObject* transport_is_closing(PyObject* self, PyObject*) { return PyBool_FromLong(native_of(self).is_closing()); }
PyObject* transport_is_reading(PyObject* self, PyObject*) {
  const DatagramTransport& transport = native_of(self);
  return PyBool_FromLong(!transport.is_closing() && !transport.is_paused());
}
PyObject* transport_pause_reading(PyObject* self, PyObject*) {
  return none_if(native_of(self).pause_reading(Gil::in_slot()));
}
PyObject* transport_resume_reading(PyObject* self, PyObject*) {
  return none_if(native_of(self).resume_reading(Gil::in_slot()));
}
PyObject* transport_start_reading(PyObject* self, PyObject*) {
  return none_if(native_of(self).start_receiving(Gil::in_slot()));
}
PyObject* transport_set_protocol(PyObject* self, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames) {
  PyObject* const protocol = only_argument("set_protocol", "protocol", args, nargs, kwnames);
  if (protocol == nullptr) return nullptr;
  native_of(self).protocol = Ref::borrow(protocol);
  Py_RETURN_NONE;
}
PyObject* transport_get_protocol(PyObject* self, PyObject*) { return native_of(self).protocol.new_ref_or_none(); }
PyObject* transport_get_write_buffer_size(PyObject* self, PyObject*) {
  return PyLong_FromSize_t(native_of(self).write_buffer_size());
}
PyObject* transport_get_write_buffer_limits(PyObject* self, PyObject*) {
  const FlowControl& flow = native_of(self).flow();
  return Py_BuildValue("nn", static_cast<Py_ssize_t>(flow.low_water()), static_cast<Py_ssize_t>(flow.high_water()));
}

PyObject* transport_set_write_buffer_limits(PyObject* self, PyObject* args, PyObject* keywords) {
  const char* const names[] = {"high", "low", nullptr};
  PyObject* high = Py_None;
  PyObject* low = Py_None;
  if (PyArg_ParseTupleAndKeywords(args, keywords, "|OO:set_write_buffer_limits", const_cast<char**>(names), &high,
                                  &low) == 0) {
    return nullptr;
  }
  return none_if(native_of(self).set_write_limits(Gil::in_slot(), high, low));
}

PyObject* transport_fatal_error(PyObject* self, PyObject* args, PyObject* keywords) {
  const char* const names[] = {"exc", "message", nullptr};
  PyObject* exception = nullptr;
  PyObject* message = nullptr;
  if (PyArg_ParseTupleAndKeywords(args, keywords, "O|O:_fatal_error", const_cast<char**>(names), &exception,
                                  &message) == 0) {
    return nullptr;
  }
  const Ref text = message != nullptr ? Ref::borrow(message) : Ref::steal(PyUnicode_FromString("Fatal error on transport"));
  return none_if(text && native_of(self).fatal_error(Gil::in_slot(), exception, text.get()));
}

PyObject* transport_force_close(PyObject* self, PyObject* exception) {
  return none_if(native_of(self).force_close(Gil::in_slot(), exception));
}
PyObject* transport_call_connection_lost(PyObject* self, PyObject* exception) {
  return none_if(native_of(self).call_connection_lost(Gil::in_slot(), exception));
}

PyObject* transport_repr(PyObject* self) { return native_of(self).repr(Gil::in_slot()); }

// --- attributes -----------------------------------------------------------------------------------------------

PyObject* get_loop(PyObject* self, void*) { return native_of(self).loop.new_ref_or_none(); }
PyObject* get_sock(PyObject* self, void*) { return native_of(self).sock.new_ref_or_none(); }
PyObject* get_sock_fd(PyObject* self, void*) { return PyLong_FromLong(native_of(self).fd); }
PyObject* get_protocol(PyObject* self, void*) { return native_of(self).protocol.new_ref_or_none(); }
PyObject* get_address(PyObject* self, void*) { return native_of(self).address.new_ref_or_none(); }
PyObject* get_closing(PyObject* self, void*) { return PyBool_FromLong(native_of(self).is_closing()); }
PyObject* get_paused(PyObject* self, void*) { return PyBool_FromLong(native_of(self).is_paused()); }
PyObject* get_conn_lost(PyObject* self, void*) { return PyLong_FromUnsignedLong(native_of(self).conn_lost); }
PyObject* get_buffer_size(PyObject* self, void*) { return PyLong_FromSize_t(native_of(self).write_buffer_size()); }
PyObject* get_protocol_paused(PyObject* self, void*) { return PyBool_FromLong(native_of(self).flow().is_paused()); }

PyGetSetDef transport_getset[] = {
    {"__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict, nullptr, nullptr},
    {"_loop", get_loop, nullptr, nullptr, nullptr},
    {"_sock", get_sock, nullptr, nullptr, nullptr},
    {"_sock_fd", get_sock_fd, nullptr, nullptr, nullptr},
    {"_protocol", get_protocol, nullptr, nullptr, nullptr},
    {"_address", get_address, nullptr, nullptr, nullptr},
    {"_closing", get_closing, nullptr, nullptr, nullptr},
    {"_paused", get_paused, nullptr, nullptr, nullptr},
    {"_conn_lost", get_conn_lost, nullptr, nullptr, nullptr},
    {"_buffer_size", get_buffer_size, nullptr, nullptr, nullptr},
    {"_protocol_paused", get_protocol_paused, nullptr, nullptr, nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr},
};

PyMemberDef transport_members[] = {
    {"__dictoffset__", T_PYSSIZET, offsetof(DatagramTransportObject, dict), READONLY, nullptr},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(DatagramTransportObject, weakrefs), READONLY, nullptr},
    {nullptr, 0, 0, 0, nullptr},
};

#define CXL_WITH_KEYWORDS(function) reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(function))

PyMethodDef transport_methods[] = {
    {"sendto", CXL_WITH_KEYWORDS(transport_sendto), METH_FASTCALL | METH_KEYWORDS,
     "sendto($self, data, addr=None)\n--\n\n"
     "Send one datagram now, or as soon as the kernel takes it; see asyncio.DatagramTransport.sendto().\n\n"
     "Raises TypeError if data is not bytes-like, ValueError if addr is not the endpoint's own remote address.\n"
     "Other errors go to protocol.error_received()."},
    {"close", transport_close, METH_NOARGS,
     "close($self, /)\n--\n\nStop receiving, send what is queued, then close; connection_lost(None) follows."},
    {"abort", transport_abort, METH_NOARGS,
     "abort($self, /)\n--\n\nClose at once; what is queued is lost. connection_lost(None) follows."},
    {"is_closing", transport_is_closing, METH_NOARGS,
     "is_closing($self, /)\n--\n\nReturn True if the transport is closing or closed."},
    {"is_reading", transport_is_reading, METH_NOARGS,
     "is_reading($self, /)\n--\n\nReturn True if the transport receives datagrams."},
    {"pause_reading", transport_pause_reading, METH_NOARGS,
     "pause_reading($self, /)\n--\n\nStop calling datagram_received() until resume_reading()."},
    {"resume_reading", transport_resume_reading, METH_NOARGS,
     "resume_reading($self, /)\n--\n\nReceive datagrams again after pause_reading()."},
    {"set_protocol", CXL_WITH_KEYWORDS(transport_set_protocol), METH_FASTCALL | METH_KEYWORDS,
     "set_protocol($self, protocol)\n--\n\nDeliver to another protocol from now on."},
    {"get_protocol", transport_get_protocol, METH_NOARGS, "get_protocol($self, /)\n--\n\nReturn the current protocol."},
    {"get_write_buffer_size", transport_get_write_buffer_size, METH_NOARGS,
     "get_write_buffer_size($self, /)\n--\n\nReturn the size of the queued datagrams, by asyncio's count."},
    {"get_write_buffer_limits", transport_get_write_buffer_limits, METH_NOARGS,
     "get_write_buffer_limits($self, /)\n--\n\nReturn (low, high) of the write flow control, in bytes."},
    {"set_write_buffer_limits", CXL_WITH_KEYWORDS(transport_set_write_buffer_limits), METH_VARARGS | METH_KEYWORDS,
     "set_write_buffer_limits($self, high=None, low=None)\n--\n\n"
     "Set the marks of the write flow control, in bytes; ValueError unless high >= low >= 0."},
    {"_start_reading", transport_start_reading, METH_NOARGS, nullptr},
    {"_force_close", transport_force_close, METH_O, nullptr},
    {"_fatal_error", CXL_WITH_KEYWORDS(transport_fatal_error), METH_VARARGS | METH_KEYWORDS, nullptr},
    {"_call_connection_lost", transport_call_connection_lost, METH_O, nullptr},
    {nullptr, nullptr, 0, nullptr},
};

// --- the type -------------------------------------------------------------------------------------------------

int transport_traverse(PyObject* self, visitproc visit, void* arg) {
  DatagramTransportObject& object = *reinterpret_cast<DatagramTransportObject*>(self);
  Py_VISIT(Py_TYPE(self));
  Py_VISIT(object.extra);
  Py_VISIT(object.dict);
  return object.native().each_ref([visit, arg](Ref& ref) -> int {
    Py_VISIT(ref.get());
    return 0;
  });
}

int transport_clear(PyObject* self) {
  DatagramTransportObject& object = *reinterpret_cast<DatagramTransportObject*>(self);
  Py_CLEAR(object.extra);
  Py_CLEAR(object.dict);
  return object.native().each_ref([](Ref& ref) {
    ref.reset();
    return 0;
  });
}

void transport_finalize(PyObject* self) {
  const Gil gil = Gil::in_slot();
  Ref exception = take_exception(gil);
  native_of(self).finalize(gil);
  if (exception) set_exception(gil, std::move(exception));
}

void transport_dealloc(PyObject* self) {
  DatagramTransportObject& object = *reinterpret_cast<DatagramTransportObject*>(self);
  if (PyObject_CallFinalizerFromDealloc(self) < 0) return;  // resurrected
  PyTypeObject* const type = Py_TYPE(self);
  PyObject_GC_UnTrack(self);
  if (object.weakrefs != nullptr) PyObject_ClearWeakRefs(self);
  Py_CLEAR(object.extra);
  Py_CLEAR(object.dict);
  object.native().~DatagramTransport();
  type->tp_free(self);
  Py_DECREF(type);
}

// As asyncio's: it has the methods of both.
Ref import_bases() noexcept {
  const Ref transports = Ref::steal(PyImport_ImportModule("asyncio.transports"));
  if (!transports) return {};
  const Ref stream = Ref::steal(PyObject_GetAttrString(transports.get(), "Transport"));
  const Ref datagram = Ref::steal(PyObject_GetAttrString(transports.get(), "DatagramTransport"));
  if (!stream || !datagram) return {};
  for (const Ref* base : {&stream, &datagram}) {
    if (reinterpret_cast<PyTypeObject*>(base->get())->tp_basicsize != offsetof(DatagramTransportObject, dict)) {
      PyErr_SetString(PyExc_ImportError, "cxxloop: asyncio's transports do not have the layout this build expects");
      return {};
    }
  }
  return Ref::steal(PyTuple_Pack(2, stream.get(), datagram.get()));
}

}  // namespace

PyObject* make_datagram_transport(Gil gil, LoopCore& core, const DatagramArgs& args) noexcept {
  const int fd = parse_fileobj(gil, args.sock);
  if (fd < 0) return nullptr;
  DatagramTransportObject* const object = PyObject_GC_New(DatagramTransportObject, core.state.datagram_transport_type);
  if (object == nullptr) return nullptr;
  object->extra = nullptr;
  object->dict = nullptr;
  object->weakrefs = nullptr;
  new (object->native_storage) DatagramTransport(*object, core, fd, number_field_of(core.state, args.sock, fd));
  Ref result = Ref::steal(reinterpret_cast<PyObject*>(object));
  PyObject_GC_Track(result.get());
  if (!object->native().open(gil, args)) return nullptr;
  return result.release();
}

bool add_datagram_transport_type(Gil, PyObject* module, ModuleState& state) noexcept {
  const Ref bases = import_bases();
  if (!bases) return false;
  PyType_Slot slots[] = {
      {Py_tp_methods, transport_methods},
      {Py_tp_members, transport_members},
      {Py_tp_getset, transport_getset},
      {Py_tp_repr, reinterpret_cast<void*>(transport_repr)},
      {Py_tp_traverse, reinterpret_cast<void*>(transport_traverse)},
      {Py_tp_clear, reinterpret_cast<void*>(transport_clear)},
      {Py_tp_finalize, reinterpret_cast<void*>(transport_finalize)},
      {Py_tp_dealloc, reinterpret_cast<void*>(transport_dealloc)},
      {Py_tp_doc, const_cast<char*>("A UDP or UNIX datagram transport of a cxxloop loop (asyncio.DatagramTransport).")},
      {0, nullptr},
  };
  PyType_Spec spec = {"cxxloop._core.DatagramTransport", sizeof(DatagramTransportObject), 0,
                      Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION, slots};
  state.datagram_transport_type =
      reinterpret_cast<PyTypeObject*>(PyType_FromModuleAndSpec(module, &spec, bases.get()));
  if (state.datagram_transport_type == nullptr) return false;
  const Ref max_size = Ref::steal(PyLong_FromLong(DatagramTransport::received_bytes_max));
  const Ref header_size = Ref::steal(PyLong_FromSize_t(DatagramTransport::header_bytes));
  PyObject* const type = reinterpret_cast<PyObject*>(state.datagram_transport_type);
  return max_size && header_size && PyObject_SetAttrString(type, "max_size", max_size.get()) == 0 &&
         PyObject_SetAttrString(type, "_header_size", header_size.get()) == 0 &&
         PyModule_AddType(module, state.datagram_transport_type) == 0;
}

}  // namespace cxxloop::python
