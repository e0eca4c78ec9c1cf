// SPDX-License-Identifier: MIT
//
// web/python/handler_call.cc: what AsgiCall does for a handler that is a coroutine function.
#include "python/interp/error.h"
#include "web/python/asgi_call.h"
#include "web/python/handler_scope.h"
#include "web/python/web_server.h"

namespace cxxloop::python {

void AsgiCall::begin_handler(Gil gil, web::Exchange& exchange, HandlerWork work, Ref context) noexcept {
  HandlerScope& scope = HandlerScope::of(work.scope.get());
  exchange_.open(exchange, server_.wants_access() ? scope.whole(gil) : Ref());
  work_ = std::move(work);
  run(gil, std::move(context));
}

PySendResult AsgiCall::handler_returned(Gil gil, PyObject** result) noexcept {
  const Ref value = Ref::steal(std::exchange(*result, nullptr));
  HandlerResponse response;
  // Runs Python: what makes JSON.
  if (!response.take(gil, HandlerTable::of(work_.table.get()), value.get())) return handler_failed(gil, result);
  return answer(gil, response, result);
}

PySendResult AsgiCall::handler_failed(Gil gil, PyObject** result) noexcept {
  HandlerResponse response;
  // Runs Python: the error log.
  if (response.take_exception_of(gil, server_, work_)) return answer(gil, response, result);
  HandlerWork done = std::move(work_);  // the call is one of an application from here on
  return failed(gil, result);
}

// The handler's part is over: whatever fails from here on fails as in an application.
PySendResult AsgiCall::answer(Gil gil, HandlerResponse& response, PyObject** result) noexcept {
  const HandlerWork done = std::move(work_);
  HandlerScope& scope = HandlerScope::of(done.scope.get());
  if (response.is_application()) {
    app_ = response.take_application();
    scope_ = scope.whole(gil);
    if (!scope_ || !call(gil)) return failed(gil, result);
    const Ref coroutine = Ref::borrow(coroutine_.get());
    // Runs Python: the response's send().
    return after_step(gil, PyIter_Send(coroutine.get(), Py_None, result), result);
  }
  // Runs Python: the access log.
  if (!response.is_nothing() && !exchange_.send_response(gil, response, scope.is_head())) return failed(gil, result);
  finish(gil);
  static_cast<void>(channel().end_unfinished(false));
  *result = Py_NewRef(Py_None);
  return PYGEN_RETURN;
}

// State first: on_end() is called inside.
bool AsgiExchange::send_response(Gil gil, HandlerResponse& response, bool is_head) noexcept {
  phase_ = Phase::complete;
  return response.send(gil, server_, exchange_, is_head);
}

}  // namespace cxxloop::python
