// SPDX-License-Identifier: MIT
//
// python/file_number.h: tells whether a file object still has the descriptor its transport works with.
//
// A program may close the socket or pipe object under its transport. asyncio's next send() on a socket fails; ours, by
// number, would reach whoever has the number by then. Reading the first field of the object costs less than fileno().
// Thread: loop thread.
#pragma once

#include "python/module_state.h"

namespace cxxloop::python {

// Where a socket.socket or io.FileIO keeps its descriptor; null: `file` is neither.
const int* number_field(const ModuleState& state, PyObject* file) noexcept;

// Borrows the file object from watch() to forget().
class FileNumber {
 public:
  explicit FileNumber(int fd) noexcept : fd_(fd) {}

  void watch(const ModuleState& state, PyObject* file) noexcept;
  void forget() noexcept { field_ = nullptr; }
  // False: the descriptor was closed, and its number may be another file's by now.
  [[nodiscard]] bool is_ours() const noexcept { return field_ == nullptr || *field_ == fd_; }

 private:
  const int fd_;
  const int* field_ = nullptr;  // null: it cannot be seen
};

}  // namespace cxxloop::python
