// SPDX-License-Identifier: MIT
#include "python/loop/served.h"

#include "python/loop/loop.h"

namespace cxxloop::python {

bool register_transport(Gil, LoopCore& core, int fd, Served* transport) noexcept {
  if (fd < 0) return true;  // a closed socket: its transport fails when it begins to read
  FdRow* const row = core.fd_rows.find_or_make(fd);
  if (row == nullptr) return PyErr_NoMemory() != nullptr;
  row->transport = transport;
  return true;
}

void unregister_transport(LoopCore& core, int fd, Served* transport) noexcept {
  FdRow* const row = core.fd_rows.find(fd);
  if (row != nullptr && row->transport == transport) row->transport = nullptr;
}

void free_empty_rows(LoopCore& core) noexcept {
  core.fd_rows.free_unused([](const FdRow& row) { return row.is_empty(); });
}

Served* transport_of_fd(LoopCore& core, int fd) noexcept {
  const FdRow* const row = core.fd_rows.find(fd);
  return row != nullptr ? row->transport : nullptr;
}

}  // namespace cxxloop::python
