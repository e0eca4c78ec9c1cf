// SPDX-License-Identifier: MIT
#include "net/watch_table.h"

#include <new>
#include <utility>

namespace cxxloop::net {

WatchTable::Entry::Entry(WatchTable* table_of_entry, int fd) noexcept
    : ops{io::Op{io::OpKind::poll_read, this, on_complete}, io::Op{io::OpKind::poll_write, this, on_complete}},
      table(table_of_entry) {
  for (io::Op& op : ops) op.fd = fd;
}

WatchTable::~WatchTable() {
  entries_.for_each([](Entry* entry) { delete entry; });
}

WatchTable::Entry* WatchTable::find(int fd) const noexcept {
  Entry* const* const place = entries_.find(fd);
  return place != nullptr ? *place : nullptr;
}

WatchTable::Entry* WatchTable::find_or_make(int fd) noexcept {
  Entry** const place = entries_.find_or_make(fd);
  if (place == nullptr) return nullptr;
  if (*place == nullptr) *place = new (std::nothrow) Entry(this, fd);
  return *place;
}

Errno WatchTable::watch(int fd, Direction direction, void* token, void** replaced) noexcept {
  CXL_ASSERT(fd >= 0 && token != nullptr);
  Entry* const entry = find_or_make(fd);
  if (entry == nullptr) return Errno::no_memory;
  const size_t side = static_cast<size_t>(direction);
  io::Op& op = entry->ops[side];
  // A watch that is replaced is registered anew: the descriptor may have been closed and its number used again.
  if (op.state == io::OpState::armed) (void)backend_.cancel(op);
  entry->resubmit[side] = op.in_kernel();
  const Errno error = op.in_kernel() ? Errno::ok : backend_.submit(op);
  *replaced = std::exchange(entry->tokens[side], error == Errno::ok ? token : nullptr);
  return error;
}

void* WatchTable::unwatch(int fd, Direction direction) noexcept {
  void* const former = token(fd, direction);
  if (former == nullptr) return nullptr;
  Entry& entry = *find(fd);
  io::Op& op = entry.ops[static_cast<size_t>(direction)];
  entry.tokens[static_cast<size_t>(direction)] = nullptr;
  entry.resubmit[static_cast<size_t>(direction)] = false;
  if (op.state == io::OpState::armed) (void)backend_.cancel(op);
  return former;
}

void* WatchTable::token(int fd, Direction direction) const noexcept {
  const Entry* const entry = find(fd);
  return entry != nullptr ? entry->tokens[static_cast<size_t>(direction)] : nullptr;
}

void WatchTable::on_complete(io::Op& op, int32_t) noexcept {
  Entry& entry = *static_cast<Entry*>(op.owner);
  WatchTable& table = *entry.table;
  const size_t side = op.reads() ? 0 : 1;
  void* const token = entry.tokens[side];
  if (token == nullptr) return;
  if (entry.resubmit[side]) {
    // This completion is from before the new watch: arm the op again. If that fails, report the descriptor as ready; the
    // watcher's own system call then meets the error, and a watch that never fires would hang it.
    entry.resubmit[side] = false;
    if (table.backend_.submit(op) == Errno::ok) return;
  }
  table.on_ready_(table.context_, token, op.fd, static_cast<Direction>(side));
}

}  // namespace cxxloop::net
