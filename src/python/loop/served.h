// SPDX-License-Identifier: MIT
//
// python/loop/served.h: what a loop knows of a transport that it serves; the transport stands in the row of its descriptor.
//
// Thread: loop thread.  Dies: with the Python object of the transport, which leaves its row before.
#pragma once

#include "python/interp/gil.h"

namespace cxxloop::python {

class Served {
 public:
  [[nodiscard]] virtual PyObject* object() const noexcept = 0;  // borrowed
  // False while it closes or has lent its descriptor to sendfile: the program may watch that.
  [[nodiscard]] virtual bool keeps_descriptor() const noexcept = 0;
  // True exactly while the poller may call it: the loop shows it to the garbage collector.
  [[nodiscard]] virtual bool is_pinned() const noexcept = 0;
  // Would asyncio's reader, or its writer, be registered?
  [[nodiscard]] virtual bool is_polled(bool sends) const noexcept = 0;
  // The loop closes: its backend is about to go.
  virtual void detach_from_loop(Gil gil) noexcept = 0;

 protected:
  ~Served() = default;
};

}  // namespace cxxloop::python
