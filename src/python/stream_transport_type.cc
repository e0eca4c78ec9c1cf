// SPDX-License-Identifier: MIT
//
// python/stream_transport_type.cc: the Python face of StreamTransport: asyncio.Transport's methods and the type.
#include <Python.h>
#include <structmember.h>

#include <cstddef>

#include "python/call_args.h"
#include "python/file_number.h"
#include "python/stream_transport.h"

namespace cxxloop::python {
namespace {

StreamTransport& native_of(PyObject* self) noexcept { return reinterpret_cast<StreamTransportObject*>(self)->native(); }

// None, or null when `succeeded` is false.
PyObject* none_if(bool succeeded) noexcept {
  if (!succeeded) return nullptr;
  Py_RETURN_NONE;
}

PyObject* transport_write(PyObject* self, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames) {
  PyObject* const data = only_argument("write", "data", args, nargs, kwnames);
  return data != nullptr ? none_if(native_of(self).write(Gil::in_slot(), data)) : nullptr;
}
PyObject* transport_writelines(PyObject* self, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames) {
  PyObject* const lines = only_argument("writelines", "list_of_data", args, nargs, kwnames);
  return lines != nullptr ? none_if(native_of(self).write_lines(Gil::in_slot(), lines)) : nullptr;
}
PyObject* transport_write_eof(PyObject* self, PyObject*) { return none_if(native_of(self).write_eof(Gil::in_slot())); }
PyObject* transport_can_write_eof(PyObject*, PyObject*) { Py_RETURN_TRUE; }
PyObject* transport_close(PyObject* self, PyObject*) { return none_if(native_of(self).close(Gil::in_slot())); }
PyObject* transport_abort(PyObject* self, PyObject*) { return none_if(native_of(self).abort(Gil::in_slot())); }
// StreamWriter.drain() asks this, and who drains may block afterwards: what is held back leaves now.
PyObject* transport_is_closing(PyObject* self, PyObject*) {
  native_of(self).send_held_back();
  return PyBool_FromLong(native_of(self).is_closing());
}
PyObject* transport_is_reading(PyObject* self, PyObject*) { return PyBool_FromLong(native_of(self).is_reading()); }
PyObject* transport_pause_reading(PyObject* self, PyObject*) {
  return none_if(native_of(self).pause_reading(Gil::in_slot()));
}
PyObject* transport_resume_reading(PyObject* self, PyObject*) {
  return none_if(native_of(self).resume_reading(Gil::in_slot()));
}
PyObject* transport_start_reading(PyObject* self, PyObject*) {
  return none_if(native_of(self).start_reading(Gil::in_slot()));
}
PyObject* transport_set_protocol(PyObject* self, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames) {
  PyObject* const protocol = only_argument("set_protocol", "protocol", args, nargs, kwnames);
  return protocol != nullptr ? none_if(native_of(self).set_protocol(Gil::in_slot(), protocol)) : nullptr;
}
PyObject* transport_get_protocol(PyObject* self, PyObject*) { return native_of(self).protocol.new_ref_or_none(); }
PyObject* transport_get_write_buffer_size(PyObject* self, PyObject*) {
  return PyLong_FromSize_t(native_of(self).write_buffer_size(Gil::in_slot()));
}
PyObject* transport_get_write_buffer_limits(PyObject* self, PyObject*) {
  const StreamTransport& transport = native_of(self);
  return Py_BuildValue("nn", static_cast<Py_ssize_t>(transport.low_water), static_cast<Py_ssize_t>(transport.high_water));
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

// --- what asyncio's own code (sslproto, sendfile) calls -------------------------------------------------------

PyObject* transport_force_close(PyObject* self, PyObject* exception) {
  return none_if(native_of(self).force_close(Gil::in_slot(), exception));
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

PyObject* transport_call_connection_lost(PyObject* self, PyObject* exception) {
  return none_if(native_of(self).call_connection_lost(Gil::in_slot(), exception));
}

PyObject* transport_make_empty_waiter(PyObject* self, PyObject*) {
  return native_of(self).make_empty_waiter(Gil::in_slot());
}

PyObject* transport_reset_empty_waiter(PyObject* self, PyObject*) {
  native_of(self).empty_waiter.reset();
  Py_RETURN_NONE;
}

PyObject* transport_repr(PyObject* self) { return native_of(self).repr(Gil::in_slot()); }

// --- attributes -----------------------------------------------------------------------------------------------

PyObject* get_loop(PyObject* self, void*) { return native_of(self).loop.new_ref_or_none(); }
PyObject* get_sock(PyObject* self, void*) { return native_of(self).sock.new_ref_or_none(); }
PyObject* get_sock_fd(PyObject* self, void*) { return PyLong_FromLong(native_of(self).fd); }
PyObject* get_protocol(PyObject* self, void*) { return native_of(self).protocol.new_ref_or_none(); }
PyObject* get_server(PyObject* self, void*) { return native_of(self).server.new_ref_or_none(); }
PyObject* get_closing(PyObject* self, void*) { return PyBool_FromLong(native_of(self).is_closing()); }
PyObject* get_conn_lost(PyObject* self, void*) { return PyLong_FromUnsignedLong(native_of(self).conn_lost); }
PyObject* get_eof(PyObject* self, void*) { return PyBool_FromLong(native_of(self).eof_written); }
PyObject* get_paused(PyObject* self, void*) { return PyBool_FromLong(native_of(self).is_paused()); }
PyObject* get_protocol_paused(PyObject* self, void*) { return PyBool_FromLong(native_of(self).protocol_paused); }

PyObject* get_buffer(PyObject* self, void*) { return native_of(self).copy_write_buffer(Gil::in_slot()); }

PyGetSetDef transport_getset[] = {
    {"__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict, nullptr, nullptr},
    {"_loop", get_loop, nullptr, nullptr, nullptr},
    {"_sock", get_sock, nullptr, nullptr, nullptr},
    {"_sock_fd", get_sock_fd, nullptr, nullptr, nullptr},
    {"_protocol", get_protocol, nullptr, nullptr, nullptr},
    {"_server", get_server, nullptr, nullptr, nullptr},
    {"_buffer", get_buffer, nullptr, nullptr, nullptr},
    {"_closing", get_closing, nullptr, nullptr, nullptr},
    {"_conn_lost", get_conn_lost, nullptr, nullptr, nullptr},
    {"_eof", get_eof, nullptr, nullptr, nullptr},
    {"_paused", get_paused, nullptr, nullptr, nullptr},
    {"_protocol_paused", get_protocol_paused, nullptr, nullptr, nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr},
};

PyMemberDef transport_members[] = {
    {"__dictoffset__", T_PYSSIZET, offsetof(StreamTransportObject, dict), READONLY, nullptr},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(StreamTransportObject, weakrefs), READONLY, nullptr},
    {nullptr, 0, 0, 0, nullptr},
};

#define CXL_WITH_KEYWORDS(function) reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(function))

PyMethodDef transport_methods[] = {
    {"write", CXL_WITH_KEYWORDS(transport_write), METH_FASTCALL | METH_KEYWORDS,
     "write($self, data)\n--\n\n"
     "Send data, a bytes-like object, without blocking; see asyncio.WriteTransport.write().\n\n"
     "The writes of one callback leave together when it ends."},
    {"writelines", CXL_WITH_KEYWORDS(transport_writelines), METH_FASTCALL | METH_KEYWORDS,
     "writelines($self, list_of_data)\n--\n\nSend an iterable of bytes-like objects, in order."},
    {"write_eof", transport_write_eof, METH_NOARGS,
     "write_eof($self, /)\n--\n\nClose the write end once everything queued was sent."},
    {"can_write_eof", transport_can_write_eof, METH_NOARGS, "can_write_eof($self, /)\n--\n\nReturn True."},
    {"close", transport_close, METH_NOARGS,
     "close($self, /)\n--\n\nStop reading, send what is queued, then close; connection_lost(None) follows."},
    {"abort", transport_abort, METH_NOARGS,
     "abort($self, /)\n--\n\nClose at once; what is queued is lost. connection_lost(None) follows."},
    {"is_closing", transport_is_closing, METH_NOARGS,
     "is_closing($self, /)\n--\n\nReturn True if the transport is closing or closed."},
    {"is_reading", transport_is_reading, METH_NOARGS,
     "is_reading($self, /)\n--\n\nReturn True if the transport receives data."},
    {"pause_reading", transport_pause_reading, METH_NOARGS,
     "pause_reading($self, /)\n--\n\nStop calling data_received() until resume_reading()."},
    {"resume_reading", transport_resume_reading, METH_NOARGS,
     "resume_reading($self, /)\n--\n\nReceive data again after pause_reading()."},
    {"set_protocol", CXL_WITH_KEYWORDS(transport_set_protocol), METH_FASTCALL | METH_KEYWORDS,
     "set_protocol($self, protocol)\n--\n\nDeliver to another protocol from now on."},
    {"get_protocol", transport_get_protocol, METH_NOARGS, "get_protocol($self, /)\n--\n\nReturn the current protocol."},
    {"get_write_buffer_size", transport_get_write_buffer_size, METH_NOARGS,
     "get_write_buffer_size($self, /)\n--\n\nReturn the number of bytes the kernel has not taken yet."},
    {"get_write_buffer_limits", transport_get_write_buffer_limits, METH_NOARGS,
     "get_write_buffer_limits($self, /)\n--\n\nReturn (low, high) of the write flow control, in bytes."},
    {"set_write_buffer_limits", CXL_WITH_KEYWORDS(transport_set_write_buffer_limits), METH_VARARGS | METH_KEYWORDS,
     "set_write_buffer_limits($self, high=None, low=None)\n--\n\n"
     "Set the marks of the write flow control, in bytes; ValueError unless high >= low >= 0."},
    {"_start_reading", transport_start_reading, METH_NOARGS, nullptr},
    {"_force_close", transport_force_close, METH_O, nullptr},
    {"_fatal_error", CXL_WITH_KEYWORDS(transport_fatal_error), METH_VARARGS | METH_KEYWORDS, nullptr},
    {"_call_connection_lost", transport_call_connection_lost, METH_O, nullptr},
    {"_make_empty_waiter", transport_make_empty_waiter, METH_NOARGS, nullptr},
    {"_reset_empty_waiter", transport_reset_empty_waiter, METH_NOARGS, nullptr},
    {nullptr, nullptr, 0, nullptr},
};

// --- the type -------------------------------------------------------------------------------------------------

int transport_traverse(PyObject* self, visitproc visit, void* arg) {
  StreamTransportObject& object = *reinterpret_cast<StreamTransportObject*>(self);
  Py_VISIT(Py_TYPE(self));
  Py_VISIT(object.extra);
  Py_VISIT(object.dict);
  return object.native().each_ref([visit, arg](Ref& ref) -> int {
    Py_VISIT(ref.get());
    return 0;
  });
}

int transport_clear(PyObject* self) {
  StreamTransportObject& object = *reinterpret_cast<StreamTransportObject*>(self);
  Py_CLEAR(object.extra);
  Py_CLEAR(object.dict);
  return object.native().each_ref([](Ref& ref) {
    ref.reset();
    return 0;
  });
}

void transport_finalize(PyObject* self) {
  const Gil gil = Gil::in_slot();
  Ref exception;
#if PY_VERSION_HEX >= 0x030C0000
  exception = Ref::steal(PyErr_GetRaisedException());
#else
  PyObject *type = nullptr, *value = nullptr, *traceback = nullptr;
  PyErr_Fetch(&type, &value, &traceback);
#endif
  native_of(self).finalize(gil);
#if PY_VERSION_HEX >= 0x030C0000
  PyErr_SetRaisedException(exception.release());
#else
  PyErr_Restore(type, value, traceback);
#endif
}

void transport_dealloc(PyObject* self) {
  StreamTransportObject& object = *reinterpret_cast<StreamTransportObject*>(self);
  if (PyObject_CallFinalizerFromDealloc(self) < 0) return;  // resurrected
  PyTypeObject* const type = Py_TYPE(self);
  PyObject_GC_UnTrack(self);
  if (object.weakrefs != nullptr) PyObject_ClearWeakRefs(self);
  Py_CLEAR(object.extra);
  Py_CLEAR(object.dict);
  object.native().~StreamTransport();
  type->tp_free(self);
  Py_DECREF(type);
}

}  // namespace

PyObject* make_stream_transport(Gil gil, LoopCore& core, const TransportArgs& args) noexcept {
  const Ref number = Ref::steal(PyObject_CallMethodNoArgs(args.sock, core.state.names.fileno));
  if (!number) return nullptr;
  const long fd = PyLong_AsLong(number.get());
  if (fd == -1 && PyErr_Occurred() != nullptr) return nullptr;
  StreamTransportObject* const object = PyObject_GC_New(StreamTransportObject, core.state.stream_transport_type);
  if (object == nullptr) return nullptr;
  object->extra = nullptr;
  object->dict = nullptr;
  object->weakrefs = nullptr;
  const int* const owner_fd = number_field_of(core.state, args.sock, static_cast<int>(fd));
  new (object->native_storage) StreamTransport(*object, core, static_cast<int>(fd), owner_fd);
  Ref result = Ref::steal(reinterpret_cast<PyObject*>(object));
  PyObject_GC_Track(result.get());
  if (!object->native().open(gil, args)) return nullptr;
  return result.release();
}

bool add_stream_transport_type(Gil, PyObject* module, ModuleState& state) noexcept {
  const Ref transports = Ref::steal(PyImport_ImportModule("asyncio.transports"));
  if (!transports) return false;
  const Ref base = Ref::steal(PyObject_GetAttrString(transports.get(), "Transport"));
  if (!base) return false;
  if (reinterpret_cast<PyTypeObject*>(base.get())->tp_basicsize != offsetof(StreamTransportObject, dict)) {
    PyErr_SetString(PyExc_ImportError, "cxxloop: asyncio.Transport does not have the layout this build expects");
    return false;
  }
  PyType_Slot slots[] = {
      {Py_tp_methods, transport_methods},
      {Py_tp_members, transport_members},
      {Py_tp_getset, transport_getset},
      {Py_tp_repr, reinterpret_cast<void*>(transport_repr)},
      {Py_tp_traverse, reinterpret_cast<void*>(transport_traverse)},
      {Py_tp_clear, reinterpret_cast<void*>(transport_clear)},
      {Py_tp_finalize, reinterpret_cast<void*>(transport_finalize)},
      {Py_tp_dealloc, reinterpret_cast<void*>(transport_dealloc)},
      {Py_tp_doc, const_cast<char*>("A TCP or UNIX stream transport of a cxxloop loop (asyncio.Transport).")},
      {0, nullptr},
  };
  PyType_Spec spec = {"cxxloop._core.StreamTransport", sizeof(StreamTransportObject), 0,
                      Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION, slots};
  state.stream_transport_type =
      reinterpret_cast<PyTypeObject*>(PyType_FromModuleAndSpec(module, &spec, base.get()));
  if (state.stream_transport_type == nullptr) return false;
  const Ref max_size = Ref::steal(PyLong_FromSize_t(LoopCore::read_buffer_size));
  PyObject* const type = reinterpret_cast<PyObject*>(state.stream_transport_type);
  return max_size && PyObject_SetAttrString(type, "max_size", max_size.get()) == 0 &&
         PyObject_SetAttrString(type, "_start_tls_compatible", Py_True) == 0 &&
         PyObject_SetAttrString(type, "_sendfile_compatible", state.imports.sendfile_mode_try_native) == 0 &&
         PyModule_AddType(module, state.stream_transport_type) == 0;
}

}  // namespace cxxloop::python
