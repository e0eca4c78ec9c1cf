// SPDX-License-Identifier: MIT
#include "python/transport/flow_control.h"

#include <algorithm>

#include "python/interp/report.h"

namespace cxxloop::python {

bool FlowControl::tell(Gil gil, const Parties& parties, PyObject* method, const char* failure) noexcept {
  const Ref protocol = Ref::borrow(parties.protocol);
  const Ref loop = Ref::borrow(parties.loop);
  const Ref transport = Ref::borrow(parties.transport);
  // Runs Python: the protocol may write, close or abort.
  if (Ref::steal(PyObject_CallMethodNoArgs(protocol.get(), method))) return true;
  return report(gil, state_, loop.get(), failure,
                {{state_.names.transport, transport.get()}, {state_.names.protocol, protocol.get()}});
}

bool FlowControl::pause(Gil gil, const Parties& parties) noexcept {
  return tell(gil, parties, state_.names.pause_writing, "protocol.pause_writing() failed");
}

bool FlowControl::maybe_resume(Gil gil, const Parties& parties, size_t queued_bytes) noexcept {
  return !marks_.falls(queued_bytes) ||
         tell(gil, parties, state_.names.resume_writing, "protocol.resume_writing() failed");
}

bool FlowControl::set_limits(Gil, PyObject* high, PyObject* low) noexcept {
  const Ref four = Ref::steal(PyLong_FromLong(4));
  Ref high_number = high != Py_None ? Ref::borrow(high) : Ref();
  Ref low_number = low != Py_None ? Ref::borrow(low) : Ref();
  if (!high_number) {
    high_number = low_number ? Ref::steal(PyNumber_Multiply(four.get(), low_number.get()))
                             : Ref::steal(PyLong_FromLong(net::WriteMarks::high_bytes_default));
    if (!high_number) return false;
  }
  if (!low_number) {
    low_number = Ref::steal(PyNumber_FloorDivide(high_number.get(), four.get()));
    if (!low_number) return false;
  }
  const double high_value = PyFloat_AsDouble(high_number.get());
  const double low_value = PyFloat_AsDouble(low_number.get());
  if (PyErr_Occurred() != nullptr) return false;
  if (!(high_value >= low_value && low_value >= 0)) {
    PyErr_Format(PyExc_ValueError, "high (%R) must be >= low (%R) must be >= 0", high_number.get(), low_number.get());
    return false;
  }
  constexpr double size_max = 9e18;
  marks_.set(static_cast<size_t>(std::min(high_value, size_max)), static_cast<size_t>(std::min(low_value, size_max)));
  return true;
}

}  // namespace cxxloop::python
