// SPDX-License-Identifier: MIT
//
// web/python/handler_exchange.h: serves the requests of an App's handlers, without its __call__(), a scope, receive or send.
//
// A handler that is an ordinary function is called, and answered for, in the callback that has brought the end of its request,
// in a context of its own; a coroutine function becomes an AsgiCall.
// Thread: loop thread.
#pragma once

#include "web/core/application.h"
#include "web/python/handler_table.h"

namespace cxxloop::python {

class WebServer;

// Inside Application::on_request(). False: nothing has happened, the App itself must serve the request: a mount's, or one of a
// handler that runs in a thread or takes the body as it comes. `table`: a HandlerTable. Runs Python: the handler.
[[nodiscard]] bool serve_handler(Gil gil, WebServer& server, PyObject* table, web::Exchange& exchange,
                                 const web::Request& request) noexcept;

}  // namespace cxxloop::python
