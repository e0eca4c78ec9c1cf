// SPDX-License-Identifier: MIT
//
// python/transport/type.cc: the Python face of SocketTransport: the methods and attributes that all transports
// have, in a type that theirs derive from.
#include <Python.h>
#include <structmember.h>

#include <cstddef>

#include "python/handle/call_args.h"
#include "python/interp/error.h"
#include "python/transport/socket_transport.h"

namespace cxxloop::python {
namespace {

PyObject* transport_close(PyObject* self, PyObject*) { return none_if(transport_of(self).close(Gil::in_slot())); }
PyObject* transport_abort(PyObject* self, PyObject*) { return none_if(transport_of(self).abort(Gil::in_slot())); }
// Send what the cork holds back: StreamWriter.drain() calls is_closing(), and the code behind drain() may block.
PyObject* transport_is_closing(PyObject* self, PyObject*) {
  transport_of(self).send_held_back();
  return PyBool_FromLong(transport_of(self).is_closing());
}
PyObject* transport_is_reading(PyObject* self, PyObject*) { return PyBool_FromLong(transport_of(self).is_reading()); }
PyObject* transport_pause_reading(PyObject* self, PyObject*) {
  return none_if(transport_of(self).pause_reading(Gil::in_slot()));
}
PyObject* transport_resume_reading(PyObject* self, PyObject*) {
  return none_if(transport_of(self).resume_reading(Gil::in_slot()));
}
PyObject* transport_start_reading(PyObject* self, PyObject*) {
  return none_if(transport_of(self).start_reading(Gil::in_slot()));
}
PyObject* transport_set_protocol(PyObject* self, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames) {
  PyObject* const protocol = only_argument("set_protocol", "protocol", args, nargs, kwnames);
  return protocol != nullptr ? none_if(transport_of(self).set_protocol(Gil::in_slot(), protocol)) : nullptr;
}
PyObject* transport_get_protocol(PyObject* self, PyObject*) { return transport_of(self).protocol.new_ref_or_none(); }
PyObject* transport_get_write_buffer_size(PyObject* self, PyObject*) {
  return PyLong_FromSize_t(transport_of(self).write_buffer_size());
}
PyObject* transport_get_write_buffer_limits(PyObject* self, PyObject*) {
  const net::WriteMarks& marks = transport_of(self).write_marks();
  return Py_BuildValue("nn", static_cast<Py_ssize_t>(marks.low_bytes()), static_cast<Py_ssize_t>(marks.high_bytes()));
}

PyObject* transport_set_write_buffer_limits(PyObject* self, PyObject* args, PyObject* keywords) {
  const char* const names[] = {"high", "low", nullptr};
  PyObject* high = Py_None;
  PyObject* low = Py_None;
  if (PyArg_ParseTupleAndKeywords(args, keywords, "|OO:set_write_buffer_limits", const_cast<char**>(names), &high,
                                  &low) == 0) {
    return nullptr;
  }
  return none_if(transport_of(self).set_write_limits(Gil::in_slot(), high, low));
}

// asyncio's constructor would have the transport serve another socket, and the inherited one would forget the extra info.
PyObject* transport_init(PyObject* self, PyObject*, PyObject*) {
  PyErr_Format(PyExc_TypeError, "%s.__init__(): a transport cannot be made anew", Py_TYPE(self)->tp_name);
  return nullptr;
}

// --- what asyncio's own code (sslproto, sendfile) calls -------------------------------------------------------

PyObject* transport_force_close(PyObject* self, PyObject* exception) {
  return none_if(transport_of(self).force_close(Gil::in_slot(), exception));
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
  return none_if(text && transport_of(self).fatal_error(Gil::in_slot(), exception, text.get()));
}

PyObject* transport_call_connection_lost(PyObject* self, PyObject* exception) {
  return none_if(transport_of(self).call_connection_lost(Gil::in_slot(), exception));
}

PyObject* transport_repr(PyObject* self) { return transport_of(self).repr(Gil::in_slot()); }

// --- attributes -----------------------------------------------------------------------------------------------

PyObject* get_loop(PyObject* self, void*) { return transport_of(self).loop.new_ref_or_none(); }
PyObject* get_sock(PyObject* self, void*) { return transport_of(self).sock.new_ref_or_none(); }
PyObject* get_sock_fd(PyObject* self, void*) { return PyLong_FromLong(transport_of(self).fd); }
PyObject* get_protocol(PyObject* self, void*) { return transport_of(self).protocol.new_ref_or_none(); }
PyObject* get_closing(PyObject* self, void*) { return PyBool_FromLong(transport_of(self).is_closing()); }
PyObject* get_conn_lost(PyObject* self, void*) { return PyLong_FromUnsignedLong(transport_of(self).conn_lost()); }
PyObject* get_paused(PyObject* self, void*) { return PyBool_FromLong(transport_of(self).is_paused()); }
PyObject* get_protocol_paused(PyObject* self, void*) { return PyBool_FromLong(transport_of(self).write_marks().is_paused()); }

constexpr Attribute transport_attributes[] = {
    {"__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict},
    {"_loop", get_loop},
    {"_sock", get_sock},
    {"_sock_fd", get_sock_fd},
    {"_protocol", get_protocol},
    {"_closing", get_closing},
    {"_conn_lost", get_conn_lost},
    {"_paused", get_paused},
    {"_protocol_paused", get_protocol_paused},
    {},
};

constexpr PyMemberDef transport_members[] = {
    {"__dictoffset__", T_PYSSIZET, offsetof(TransportObject, dict), READONLY, nullptr},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(TransportObject, weakrefs), READONLY, nullptr},
    {nullptr, 0, 0, 0, nullptr},
};

constexpr Method transport_methods[] = {
    {"__init__", transport_init, nullptr},
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
    {"set_protocol", transport_set_protocol,
     "set_protocol($self, protocol)\n--\n\nDeliver to another protocol from now on."},
    {"get_protocol", transport_get_protocol, METH_NOARGS, "get_protocol($self, /)\n--\n\nReturn the current protocol."},
    {"get_write_buffer_size", transport_get_write_buffer_size, METH_NOARGS,
     "get_write_buffer_size($self, /)\n--\n\nReturn the number of bytes the kernel has not taken yet."},
    {"get_write_buffer_limits", transport_get_write_buffer_limits, METH_NOARGS,
     "get_write_buffer_limits($self, /)\n--\n\nReturn (low, high) of the write flow control, in bytes."},
    {"set_write_buffer_limits", transport_set_write_buffer_limits,
     "set_write_buffer_limits($self, high=None, low=None)\n--\n\n"
     "Set the marks of the write flow control, in bytes; ValueError unless high >= low >= 0."},
    {"_start_reading", transport_start_reading, METH_NOARGS, nullptr},
    {"_force_close", transport_force_close, METH_O, nullptr},
    {"_fatal_error", transport_fatal_error, nullptr},
    {"_call_connection_lost", transport_call_connection_lost, METH_O, nullptr},
    {},
};

// --- the type -------------------------------------------------------------------------------------------------

void transport_finalize(PyObject* self) {
  const Gil gil = Gil::in_slot();
  Ref exception = take_exception(gil);
  transport_of(self).finalize(gil);
  if (exception) set_exception(gil, std::move(exception));
}

}  // namespace

void dealloc_transport(PyObject* self) noexcept {
  TransportObject& object = *reinterpret_cast<TransportObject*>(self);
  if (PyObject_CallFinalizerFromDealloc(self) < 0) return;  // resurrected
  PyObject_GC_UnTrack(self);
  if (object.weakrefs != nullptr) PyObject_ClearWeakRefs(self);
  drop_refs(object.extra, object.dict);
  object.native->~SocketTransport();
  free_object(self);
}

bool add_socket_transport_type(Gil gil, PyObject* module, ModuleState& state) noexcept {
  const Ref base = import_from(gil, "asyncio.transports", "Transport");
  if (!base) return false;
  if (reinterpret_cast<PyTypeObject*>(base.get())->tp_basicsize != offsetof(TransportObject, dict)) {
    PyErr_SetString(PyExc_ImportError, "cxxloop: asyncio.Transport does not have the layout this build expects");
    return false;
  }
  state.socket_transport_type = make_heap_type(gil, module, {
      .name = "cxxloop._core.SocketTransport",
      .object_bytes = sizeof(TransportObject),
      .flags = Py_TPFLAGS_BASETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
      .doc = "What the transports of a cxxloop loop over sockets have in common.",
      .base = base.get(),
      .methods = {transport_methods},
      .attributes = {transport_attributes},
      .members = transport_members,
      .traverse = traverse<transport_of>,
      .clear = clear<transport_of>,
      .finalize = transport_finalize,
      .dealloc = dealloc_transport,
      .repr = transport_repr,
  });
  if (state.socket_transport_type == nullptr) return false;
  const Ref max_size = Ref::steal(PyLong_FromSize_t(LoopCore::read_buffer_size));
  return max_size && PyObject_SetAttrString(reinterpret_cast<PyObject*>(state.socket_transport_type), "max_size",
                                            max_size.get()) == 0;
}

}  // namespace cxxloop::python
