// SPDX-License-Identifier: MIT
//
// python/transport/pipe/pipe_buffer.h: what a write pipe's transport still has to write; stands where asyncio's has a bytearray.
//
// Decision: a queue of references instead of one bytearray, because a large write to a pipe goes out in pieces of 64 KiB
// and every byte of it would be copied once more.
// Thread: loop thread.  Owns: the queued bytes objects.
#pragma once

#include "net/write_queue.h"
#include "python/interp/module_state.h"

namespace cxxloop::python {

struct PipeBufferObject {
  PyObject_HEAD
  alignas(net::WriteQueue) unsigned char native_storage[sizeof(net::WriteQueue)];

  net::WriteQueue& queue() noexcept { return *reinterpret_cast<net::WriteQueue*>(native_storage); }
};

// Queue `bytes` without its first `written` ones, by reference. False: the indicator is set.
[[nodiscard]] bool append_to_buffer(Gil gil, PipeBufferObject& buffer, Ref bytes, size_t written) noexcept;
[[nodiscard]] bool add_pipe_buffer_type(Gil gil, PyObject* module, ModuleState& state) noexcept;

}  // namespace cxxloop::python
