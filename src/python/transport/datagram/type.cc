// SPDX-License-Identifier: MIT
//
// python/transport/datagram/type.cc: the Python face of DatagramTransport: asyncio.DatagramTransport's methods and the
// type.
#include "python/handle/call_args.h"
#include "python/transport/datagram/datagram_transport.h"
#include "python/interp/fd_witness.h"

namespace cxxloop::python {
namespace {

DatagramTransport& native_of(PyObject* self) noexcept {
  return reinterpret_cast<DatagramTransportObject*>(self)->native();
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

PyObject* get_address(PyObject* self, void*) { return native_of(self).address.new_ref_or_none(); }
PyObject* get_buffer_size(PyObject* self, void*) { return PyLong_FromSize_t(native_of(self).write_buffer_size()); }

constexpr Attribute transport_attributes[] = {
    {"_address", get_address},
    {"_buffer_size", get_buffer_size},
    {},
};

constexpr Method transport_methods[] = {
    {"sendto", transport_sendto,
     "sendto($self, data, addr=None)\n--\n\n"
     "Send one datagram now, or as soon as the kernel takes it; see asyncio.DatagramTransport.sendto().\n\n"
     "Raises TypeError if data is not bytes-like, ValueError if addr is not the endpoint's own remote address.\n"
     "Other errors go to protocol.error_received()."},
    {},
};

}  // namespace

PyObject* make_datagram_transport(Gil gil, LoopCore& core, const DatagramArgs& args) noexcept {
  const int fd = parse_fileobj(gil, core, args.sock);
  if (fd < 0) return nullptr;
  const int* const fd_witness = fd_witness_of(core.state, args.sock, fd);
  Ref transport = make_transport_object<DatagramTransportObject, DatagramTransport>(core.state.datagram_transport_type,
                                                                                    core, fd, fd_witness);
  if (!transport || !native_of(transport.get()).open(gil, args)) return nullptr;
  return transport.release();
}

// As asyncio's it has the methods of both.
bool add_datagram_transport_type(Gil gil, PyObject* module, ModuleState& state) noexcept {
  const Ref second_base = import_from(gil, "asyncio.transports", "DatagramTransport");
  const Ref bases = second_base ? Ref::steal(PyTuple_Pack(2, state.socket_transport_type, second_base.get())) : Ref();
  if (!bases) return false;
  state.datagram_transport_type = make_heap_type(gil, module, {
      .name = "cxxloop._core.DatagramTransport",
      .object_bytes = sizeof(DatagramTransportObject),
      .flags = Py_TPFLAGS_DISALLOW_INSTANTIATION,
      .doc = "A UDP or UNIX datagram transport of a cxxloop loop (asyncio.DatagramTransport).",
      .base = bases.get(),
      .methods = {transport_methods},
      .attributes = {transport_attributes},
      .traverse = traverse<native_of>,
      .clear = clear<native_of>,
      .dealloc = dealloc_transport,
  });
  if (state.datagram_transport_type == nullptr) return false;
  const Ref header_size = Ref::steal(PyLong_FromSize_t(DatagramTransport::header_bytes));
  return header_size && PyObject_SetAttrString(reinterpret_cast<PyObject*>(state.datagram_transport_type), "_header_size",
                                               header_size.get()) == 0;
}

}  // namespace cxxloop::python
