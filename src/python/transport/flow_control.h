// SPDX-License-Identifier: MIT
//
// python/transport/flow_control.h: when a protocol is told to pause and to resume writing (asyncio's _FlowControlMixin).
#pragma once

#include "net/write_marks.h"
#include "python/interp/module_state.h"

namespace cxxloop::python {

class FlowControl {
 public:
  // The protocol that is paused, and what the exception handler is given if pause_writing() raises. All borrowed.
  struct Parties {
    PyObject* loop;
    PyObject* transport;
    PyObject* protocol;
  };

  explicit FlowControl(const ModuleState& state) noexcept : state_(state) {}

  // set_write_buffer_limits(); None: the default. False: the indicator is set.
  [[nodiscard]] bool set_limits(Gil gil, PyObject* high, PyObject* low) noexcept;
  // Tell the protocol if `queued_bytes` passed a mark. False: the indicator is set, with an exit or an error of the
  // reporting. Runs Python: the protocol may write, close or abort the transport.
  [[nodiscard]] bool maybe_pause(Gil gil, const Parties& parties, size_t queued_bytes) noexcept {
    return !marks_.rises(queued_bytes) || pause(gil, parties);
  }
  [[nodiscard]] bool maybe_resume(Gil gil, const Parties& parties, size_t queued_bytes) noexcept;

  [[nodiscard]] const net::WriteMarks& marks() const noexcept { return marks_; }

 private:
  [[nodiscard]] bool pause(Gil gil, const Parties& parties) noexcept;
  [[nodiscard]] bool tell(Gil gil, const Parties& parties, PyObject* method, const char* failure) noexcept;

  const ModuleState& state_;
  net::WriteMarks marks_;
};

}  // namespace cxxloop::python
