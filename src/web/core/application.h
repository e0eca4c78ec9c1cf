// SPDX-License-Identifier: MIT
//
// web/core/application.h: what a server serves: it is told of connections and requests, and answers through exchanges.
#pragma once

#include "base/errno.h"
#include "io/address.h"
#include "web/core/exchange.h"
#include "web/core/request_head.h"
#include "web/core/tls_session.h"

namespace cxxloop::web {

// A request as the application sees it; valid inside on_request() only.
struct Request {
  const RequestHead& head;
  void* connection;         // what on_connect() has returned
  TlsSession* tls = nullptr;    // null: the connection is not secured
  bool asks_websocket = false;  // Exchange::accept() may answer; each_subprotocol() of the head
};

class Application {
 public:
  // A connection was accepted and takes requests. `peer`: of a proxy, whom it has named; without an address: whoever is
  // connected. Returns what the application keeps of it, or null.
  virtual void* on_connect(int fd, const io::Address& peer) noexcept = 0;
  // The connection has ended; no exchange of it is left.
  virtual void on_connection_end(void* connection) noexcept = 0;
  // A connection is a proxy's, which speaks for many: it does not count for connections_per_address_max, and begins with a
  // header of the PROXY protocol where that is spoken.
  virtual bool is_proxy(int fd, const io::Address& peer) noexcept { return static_cast<void>(fd), static_cast<void>(peer), false; }
  // The head of a request is whole. The application calls exchange.set_user() and may take the body and answer at once.
  virtual void on_request(Exchange& exchange, const Request& request) noexcept = 0;
  // accept() has failed: EMFILE, say. The server tries again by itself.
  virtual void on_accept_error(Errno error) noexcept = 0;
  // After Server::drain(): the last connection has ended.
  virtual void on_idle() noexcept = 0;

 protected:
  ~Application() = default;
};

}  // namespace cxxloop::web
