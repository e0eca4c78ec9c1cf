// SPDX-License-Identifier: MIT
//
// python/transport/stream/type.cc: the Python face of StreamTransport: asyncio.Transport's methods and the type.
#include "python/handle/call_args.h"
#include "python/interp/fd_witness.h"
#include "python/transport/stream/stream_transport.h"

namespace cxxloop::python {
namespace {

StreamTransport& native_of(PyObject* self) noexcept { return reinterpret_cast<StreamTransportObject*>(self)->native(); }

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
PyObject* transport_make_empty_waiter(PyObject* self, PyObject*) {
  return native_of(self).make_empty_waiter(Gil::in_slot());
}

PyObject* transport_reset_empty_waiter(PyObject* self, PyObject*) {
  native_of(self).empty_waiter.reset();
  Py_RETURN_NONE;
}

PyObject* transport_send_held_back(PyObject* self, PyObject*) {
  native_of(self).send_held_back();
  Py_RETURN_NONE;
}

PyObject* transport_share_descriptor(PyObject* self, PyObject*) {
  native_of(self).share_descriptor();
  Py_RETURN_NONE;
}

PyObject* get_server(PyObject* self, void*) { return native_of(self).server.new_ref_or_none(); }
PyObject* get_eof(PyObject* self, void*) { return PyBool_FromLong(native_of(self).eof_written); }
PyObject* get_buffer(PyObject* self, void*) { return native_of(self).copy_write_buffer(Gil::in_slot()); }

constexpr Attribute transport_attributes[] = {
    {"_server", get_server},
    {"_buffer", get_buffer},
    {"_eof", get_eof},
    {},
};

constexpr Method transport_methods[] = {
    {"write", transport_write,
     "write($self, data)\n--\n\n"
     "Send data, a bytes-like object, without blocking; see asyncio.WriteTransport.write().\n\n"
     "The writes of one callback leave together when it ends."},
    {"writelines", transport_writelines,
     "writelines($self, list_of_data)\n--\n\nSend an iterable of bytes-like objects, in order."},
    {"write_eof", transport_write_eof, METH_NOARGS,
     "write_eof($self, /)\n--\n\nClose the write end once everything queued was sent."},
    {"can_write_eof", transport_can_write_eof, METH_NOARGS, "can_write_eof($self, /)\n--\n\nReturn True."},
    {"_make_empty_waiter", transport_make_empty_waiter, METH_NOARGS, nullptr},
    {"_reset_empty_waiter", transport_reset_empty_waiter, METH_NOARGS, nullptr},
    {"_send_held_back", transport_send_held_back, METH_NOARGS, nullptr},
    {"_share_descriptor", transport_share_descriptor, METH_NOARGS, nullptr},
    {},
};

}  // namespace

PyObject* make_stream_transport(Gil gil, LoopCore& core, const TransportArgs& args) noexcept {
  const Ref number = Ref::steal(PyObject_CallMethodNoArgs(args.sock, core.state.names.fileno));
  const long fd = number ? PyLong_AsLong(number.get()) : -1;
  if (fd == -1 && PyErr_Occurred() != nullptr) return nullptr;
  if (fd < 0 || fd > INT32_MAX) {
    PyErr_Format(PyExc_ValueError, "Invalid file descriptor: %ld", fd);
    return nullptr;
  }
  const int* const fd_witness = fd_witness_of(core.state, args.sock, static_cast<int>(fd));
  Ref transport = make_transport_object<StreamTransportObject, StreamTransport>(core.state.stream_transport_type, core,
                                                                                static_cast<int>(fd), fd_witness);
  if (!transport || !native_of(transport.get()).open(gil, args)) return nullptr;
  return transport.release();
}

bool add_stream_transport_type(Gil gil, PyObject* module, ModuleState& state) noexcept {
  state.stream_transport_type = make_heap_type(gil, module, {
      .name = "cxxloop._core.StreamTransport",
      .object_bytes = sizeof(StreamTransportObject),
      .flags = Py_TPFLAGS_DISALLOW_INSTANTIATION,
      .doc = "A TCP or UNIX stream transport of a cxxloop loop (asyncio.Transport).",
      .base = reinterpret_cast<PyObject*>(state.socket_transport_type),
      .methods = {transport_methods},
      .attributes = {transport_attributes},
      .traverse = traverse<native_of>,
      .clear = clear<native_of>,
      .dealloc = dealloc_transport,
  });
  if (state.stream_transport_type == nullptr) return false;
  PyObject* const type = reinterpret_cast<PyObject*>(state.stream_transport_type);
  return PyObject_SetAttrString(type, "_start_tls_compatible", Py_True) == 0 &&
         PyObject_SetAttrString(type, "_sendfile_compatible", state.imports.sendfile_mode_try_native) == 0;
}

}  // namespace cxxloop::python
