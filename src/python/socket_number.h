// SPDX-License-Identifier: MIT
//
// python/socket_number.h: tells whether a socket object still has the descriptor its transport works with.
//
// A program may close the socket object under its transport. asyncio's next send() on it fails; ours, by number, would
// reach whoever has the number by then. Reading the first field of the socket object costs less than fileno().
// Thread: loop thread.  Borrows: the socket object, from watch() to forget().
#pragma once

#include "python/module_state.h"

namespace cxxloop::python {

class SocketNumber {
 public:
  explicit SocketNumber(int fd) noexcept : fd_(fd) {}

  void watch(const ModuleState& state, PyObject* sock) noexcept;
  void forget() noexcept { field_ = nullptr; }
  // False: the descriptor was closed, and its number may be another file's by now.
  [[nodiscard]] bool is_ours() const noexcept { return field_ == nullptr || *field_ == fd_; }

 private:
  const int fd_;
  const int* field_ = nullptr;  // the descriptor inside the socket object; null: it cannot be seen
};

}  // namespace cxxloop::python
