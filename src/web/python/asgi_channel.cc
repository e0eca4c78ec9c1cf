// SPDX-License-Identifier: MIT
#include "web/python/asgi_channel.h"

namespace cxxloop::python {

bool AsgiChannel::send(Gil gil, PyObject* message) noexcept {
  if (!PyDict_Check(message)) {
    if (PyMapping_Check(message) == 0) {
      PyErr_Format(PyExc_TypeError, "an ASGI message is a mapping, not %R", Py_TYPE(message));
      return false;
    }
    const Ref copy = Ref::steal(PyDict_New());
    return copy && PyDict_Update(copy.get(), message) == 0 && send(gil, copy.get());
  }
  // An iterator of headers, say, may call back: two messages cannot be taken at once.
  if (is_in_send_) {
    PyErr_SetString(PyExc_RuntimeError, "send() was called while it takes another message");
    return false;
  }
  is_in_send_ = true;
  const bool is_taken = take_message(gil, message);
  is_in_send_ = false;
  return is_taken;
}

void AsgiChannel::wake(IntrusiveList<AsgiOp>& ops) noexcept {
  const Gil gil = Gil::in_slot();
  const Ref pin = Ref::borrow(object_);
  while (AsgiOp* const op = ops.pop_front()) op->wake(gil);
}

}  // namespace cxxloop::python
