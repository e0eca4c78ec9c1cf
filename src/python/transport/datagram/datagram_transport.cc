// SPDX-License-Identifier: MIT
//
// python/transport/datagram/datagram_transport.cc: opening, receiving, closing. Sending is in send.cc.
#include "python/transport/datagram/datagram_transport.h"

#include "python/interp/error.h"

namespace cxxloop::python {
DatagramTransport::DatagramTransport(TransportObject& self, LoopCore& core, int fd_of_sock, const int* fd_witness) noexcept
    : SocketTransport(self, core, fd_of_sock),
      datagram_(*core.backend, fd_of_sock, *this, release_owner, header_bytes, fd_witness) {
  channel_ = &datagram_;
}

bool DatagramTransport::open(Gil gil, const DatagramArgs& args) noexcept {
  const Ref family = Ref::steal(PyObject_GetAttr(args.sock, state_.names.family));
  family_ = family ? static_cast<int>(PyLong_AsLong(family.get())) : -1;
  if (PyErr_Occurred() != nullptr) return false;
  PyObject* const peername = PyDict_GetItemWithError(args.extra, state_.names.peername);  // borrowed
  if (peername == nullptr && PyErr_Occurred() != nullptr) return false;
  const int connected = peername != nullptr ? PyObject_IsTrue(peername) : 0;
  if (connected < 0) return false;
  connected_ = connected == 1;
  self_.extra = Py_NewRef(args.extra);
  sock = Ref::borrow(args.sock);
  protocol = Ref::borrow(args.protocol);
  address = Ref::borrow(args.address);
  if (!register_transport(gil, *core_, fd, this)) return false;
  return schedule_start(gil, args.waiter);
}

// --- receiving ------------------------------------------------------------------------------------------------

// asyncio receives one datagram a turn. Receive another one in this turn only if a new turn would begin with it: no ready
// callback, no due timer and no other completion would run before it.
bool DatagramTransport::on_may_receive_more() noexcept {
  return core_ != nullptr && turn_is_idle(*core_);
}

void DatagramTransport::on_datagram(std::span<const std::byte> data, const io::Address& sender) noexcept {
  if (is_lost()) return;
  const Gil gil = Gil::in_slot();
  const Ref pin = Ref::borrow(self_object());
  const ContextScope scope(gil, read_context_.get());
  const Ref bytes = Ref::steal(PyBytes_FromStringAndSize(reinterpret_cast<const char*>(data.data()),
                                                         static_cast<Py_ssize_t>(data.size())));
  const Ref name = core_->addresses.object_of(gil, sender);
  if (!bytes || !name || !scope.entered()) return fail(gil, "Fatal read error on datagram transport");
  const Ref receiver = Ref::borrow(protocol.get());
  PyObject* const args[] = {receiver.get(), bytes.get(), name.get()};
  // Runs Python: the protocol may send, close or abort us, stop the loop, or raise.
  if (Ref::steal(PyObject_VectorcallMethod(state_.names.datagram_received, args, 3, nullptr))) return;
  report(gil, "Exception in callback DatagramTransport._read_ready()");
}

void DatagramTransport::on_receive_error(Errno error) noexcept {
  const Gil gil = Gil::in_slot();
  const Ref pin = Ref::borrow(self_object());
  if (!is_lost()) {
    const ContextScope scope(gil, read_context_.get());
    Ref exception = make_os_error(gil, error);
    if (PyErr_GivenExceptionMatches(exception.get(), PyExc_OSError) == 0) {  // no memory for one
      set_exception(gil, std::move(exception));
      fail(gil, "Fatal read error on datagram transport");
    } else if (!scope.entered() || !tell_error(gil, std::move(exception))) {
      report(gil, "Exception in callback DatagramTransport._read_ready()");
    }
  }
}

// protocol.error_received(exception). False: the indicator is set.
bool DatagramTransport::tell_error(Gil, Ref exception) noexcept {
  if (!exception) return false;
  const Ref receiver = Ref::borrow(protocol.get());
  // Runs Python: the protocol may do anything, as in on_datagram().
  return static_cast<bool>(
      Ref::steal(PyObject_CallMethodOneArg(receiver.get(), state_.names.error_received, exception.get())));
}

// The indicator is set by a callback of the protocol: report it as asyncio's handle does and go on.
void DatagramTransport::report(Gil gil, const char* message) noexcept {
  report_or_leave(gil, core_of(loop.get()), message,
                  {{state_.names.transport, self_object()}, {state_.names.protocol, protocol.get()}});
}

}  // namespace cxxloop::python
