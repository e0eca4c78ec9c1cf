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

WatchTable::Entry* WatchTable::entry_for(int fd) noexcept {
  const size_t index = static_cast<size_t>(fd);
  if (index >= entries_.size()) entries_.resize(index + 1 + index / 2);
  if (!entries_[index]) entries_[index].reset(new (std::nothrow) Entry(this, fd));
  return entries_[index].get();
}

Errno WatchTable::watch(int fd, Direction direction, void* token, void** replaced) noexcept {
  CXL_ASSERT(fd >= 0 && token != nullptr);
  Entry* entry = entry_for(fd);
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
  Entry& entry = *entries_[static_cast<size_t>(fd)];
  io::Op& op = entry.ops[static_cast<size_t>(direction)];
  entry.tokens[static_cast<size_t>(direction)] = nullptr;
  entry.resubmit[static_cast<size_t>(direction)] = false;
  if (op.state == io::OpState::armed) (void)backend_.cancel(op);
  return former;
}

void* WatchTable::token(int fd, Direction direction) const noexcept {
  const size_t index = static_cast<size_t>(fd);
  if (fd < 0 || index >= entries_.size() || !entries_[index]) return nullptr;
  return entries_[index]->tokens[static_cast<size_t>(direction)];
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
