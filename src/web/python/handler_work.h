// SPDX-License-Identifier: MIT
//
// web/python/handler_work.h: a handler and the request that it is to be called with.
//
// Thread: loop thread.
#pragma once

#include "python/interp/ref.h"

namespace cxxloop::python {

struct HandlerWork {
  Ref handler;  // null: there is none, nor anything else
  Ref request;  // a cxxloop.web.Request
  Ref scope;    // the HandlerScope that the request reads from
  Ref table;    // the HandlerTable that says what becomes of the result

  // What the handler returns; null: the indicator is set. Runs Python: the handler.
  [[nodiscard]] Ref call(Gil) const noexcept {
    const Ref pin = Ref::borrow(handler.get());
    const Ref argument = Ref::borrow(request.get());
    PyObject* const args[] = {nullptr, argument.get()};
    return Ref::steal(PyObject_Vectorcall(pin.get(), args + 1, 1 | PY_VECTORCALL_ARGUMENTS_OFFSET, nullptr));
  }

  template <class F>
  void each_ref(F& f) noexcept {
    f(handler, request, scope, table);
  }
};

}  // namespace cxxloop::python
