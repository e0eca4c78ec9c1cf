// SPDX-License-Identifier: MIT
//
// python/interp/bytes_like.h: what asyncio's transports take as data: bytes, bytearray and memoryview.
//
// The texts of their errors differ by transport and version; each is written where asyncio has it.
// Thread: any that holds the GIL.
#pragma once

#include "python/interp/ref.h"

namespace cxxloop::python {

[[nodiscard]] inline bool is_bytes_like(PyObject* data) noexcept {
  return PyBytes_Check(data) || PyByteArray_Check(data) || PyMemoryView_Check(data);
}

// TypeError of `text`, in which %R or %U stands for the name of the type of `data`. Always false.
bool raise_not_bytes_like(Gil gil, PyObject* data, const char* text) noexcept;

}  // namespace cxxloop::python
