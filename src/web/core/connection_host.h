// SPDX-License-Identifier: MIT
//
// web/core/connection_host.h: what the connections of a server share, and what they ask of it.
//
// Thread: loop thread.  Python: none.  Owns: the scratch memory that no connection keeps.
#pragma once

#include <optional>
#include <string_view>

#include "base/intrusive_list.h"
#include "io/backend.h"
#include "net/engine.h"
#include "web/core/address_counts.h"
#include "web/core/application.h"
#include "web/core/chunked_decoder.h"
#include "web/core/date_line.h"
#include "web/core/deadlines.h"
#include "web/core/limits.h"
#include "web/core/metrics_block.h"
#include "web/core/output.h"
#include "web/core/request_head.h"
#include "web/core/response_head.h"
#include "web/core/tls_stream.h"
#include "web/core/websocket_deflate.h"

namespace cxxloop::web {

class ConnectionHost {
  ServerCounters own_counts_;  // of a server that nobody gives a block

 public:
  // A base class of a connection: it is called again in a callback of its own, with nobody's call below it on the stack.
  class Ready : public ListNode {};
  // Another one: it stands in the list of all.
  class Member : public ListNode {};

  ConnectionHost(net::Engine& engine_of_all, io::Backend& backend_of_all, Application& application_of_all,
                 net::WriteQueue::ReleaseFn release, Deadlines::ExpireFn on_expired, ServerMetrics* metrics) noexcept
      : engine(engine_of_all),
        backend(backend_of_all),
        application(application_of_all),
        counts(metrics != nullptr ? metrics->counters : own_counts_),
        latency(metrics != nullptr ? &metrics->latency : nullptr),
        output(release, counts.sent_bytes),
        deadlines(engine_of_all, backend_of_all, on_expired) {}

  // The callback of the kernel or of a timer has begun, or the application has ended an exchange.
  void look_at_clock() noexcept { now_ns = backend.now_ns(); }
  // Has Ready called. No effect on one that waits already.
  virtual void make_ready(Ready& connection) noexcept = 0;
  // Counts a connection of `client`. False: it has too many, and this one is not counted for it.
  [[nodiscard]] virtual bool admit(const io::Address& client, AddressCounts::Entry** address) noexcept = 0;
  // A connection is gone: the last thing it does. `was_refused`: it was begun to answer 503.
  virtual void on_gone(bool was_refused) noexcept = 0;

  net::Engine& engine;
  io::Backend& backend;
  Application& application;
  Limits limits;
  std::string_view server_header;
  std::string_view health_path;
  bool has_date_header = true;
  bool has_websockets = true;
  std::optional<DeflateOptions> websocket_deflate;
  ServerCounters& counts;
  LatencyHistogram* const latency;  // of exchanges, from their heads on; null: nobody measures
  OutputPool output;
  TlsContext* tls = nullptr;                 // null: no TLS is spoken
  std::unique_ptr<TlsBuffers> tls_buffers;   // null exactly when `tls` is
  Deadlines deadlines;
  DateLine date;
  LastHead last_head;
  RequestHead head;    // of the request whose on_request() runs
  bool is_head_lent = false;  // True exactly while it does: who turns the loop inside takes the next heads elsewhere
  Trailers trailers;   // of the body whose end was just taken
  int64_t now_ns = 0;  // of the last look_at_clock()
  int64_t drain_ns = Deadlines::never_ns;  // when drain() was called

  [[nodiscard]] bool is_draining() const noexcept { return drain_ns != Deadlines::never_ns; }

 protected:
  ~ConnectionHost() = default;
};

}  // namespace cxxloop::web
