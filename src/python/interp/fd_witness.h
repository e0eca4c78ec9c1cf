// SPDX-License-Identifier: MIT
//
// python/interp/fd_witness.h: where a file object keeps the number of its descriptor.
//
// A program may close the socket or pipe object under its transport. asyncio's next send() on a socket fails; ours, by
// number, would reach whoever has the number by then. Reading the first field of the object costs less than fileno().
// Thread: loop thread.  Owns: nothing; the field lives as long as the object.
#pragma once

#include "python/interp/module_state.h"

namespace cxxloop::python {

// Where a socket.socket or io.FileIO keeps its descriptor; null: `file` is neither.
[[nodiscard]] const int* number_field(const ModuleState& state, PyObject* file) noexcept;
// The same for an op on `fd` (io::Op::fd_witness); null also if the field says another number.
[[nodiscard]] const int* fd_witness_of(const ModuleState& state, PyObject* file, int fd) noexcept;

}  // namespace cxxloop::python
