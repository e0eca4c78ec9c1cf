// SPDX-License-Identifier: MIT
//
// python/transport/pipe/pipe_transport.h: what asyncio's pipe transports do per packet: ReadPipe and WritePipe.
//
// Decision: they are classes without fields that stand in front of asyncio's own transports (cxxloop/_pipes.py), as
// _core.Loop stands in front of asyncio's loop: what happens once per pipe, and every text and repr, stays that of the
// running Python. They see the transport through its attributes; the pipe is watched through the loop's watch table.
// Thread: loop thread.
#pragma once

#include "python/interp/module_state.h"

namespace cxxloop::python {

[[nodiscard]] bool add_pipe_types(Gil gil, PyObject* module, ModuleState& state) noexcept;

}  // namespace cxxloop::python
