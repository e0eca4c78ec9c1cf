// SPDX-License-Identifier: MIT
//
// web/python/server_options.h: the dictionaries of options and limits that a server is given.
//
// Thread: any that holds the GIL.
#pragma once

#include "python/interp/ref.h"
#include "web/core/limits.h"

namespace cxxloop::python {

// Changes `limits` by the items of a dict that name one: sizes and numbers by their names in web/core/limits.h, times in
// seconds ("head_seconds" for head_ns). None switches one off. With `rest`, the others are put there; without it they are
// refused. False: the indicator is set, and nothing has changed.
[[nodiscard]] bool read_limits(Gil gil, PyObject* options, web::Limits* limits, PyObject* rest) noexcept;

// The options that are no limits; all owned.
struct ServerTexts {
  Ref root_path;      // a str
  Ref scheme;         // a str
  Ref server_header;  // a str; null: no Server line
  Ref health_path;    // likewise; null: none
  Ref headers;        // an iterable of (name, value); null: none
  Ref trusted;        // a list of str, or a str; null: nobody
  Ref proxies;        // likewise; their connections are those of many
  bool proxy_protocol = false;
  bool date_header = true;
  bool websockets = true;
  bool websocket_deflate = true;
  Ref tls;            // an ssl.SSLContext, not checked; null: no TLS
  Ref tls_engine;     // a str
  int metrics_fd = -1;  // of a web/core/metrics_block.h; -1: none
};

// Reads what read_limits() has left. False: the indicator is set.
[[nodiscard]] bool read_texts(Gil gil, PyObject* rest, ServerTexts* texts) noexcept;

}  // namespace cxxloop::python
