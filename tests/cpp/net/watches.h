// SPDX-License-Identifier: MIT
//
// net/watches.h: a watch table, and how often each of its watchers was called.
#pragma once

#include <functional>
#include <vector>

#include "net/watch_table.h"

namespace cxxloop::net {

struct Watches {
  explicit Watches(io::Backend& backend) : table(backend, on_ready, this) {}

  // Watchers are numbered from 1; 0 stands for none.
  static void* token(size_t watcher) { return reinterpret_cast<void*>(watcher); }
  static size_t watcher(void* token) { return reinterpret_cast<size_t>(token); }

  Errno watch(int fd, Direction direction, size_t by, size_t* replaced = nullptr) {
    void* former = nullptr;
    const Errno error = table.watch(fd, direction, token(by), &former);
    if (replaced != nullptr) *replaced = watcher(former);
    return error;
  }
  size_t unwatch(int fd, Direction direction) { return watcher(table.unwatch(fd, direction)); }
  size_t who(int fd, Direction direction) const { return watcher(table.token(fd, direction)); }

  static void on_ready(void* context, void* token, int fd, Direction direction) noexcept {
    auto& self = *static_cast<Watches*>(context);
    const size_t by = watcher(token);
    if (self.calls.size() <= by) self.calls.resize(by + 1);
    ++self.calls[by];
    if (const auto react = self.then) react(by, fd, direction);
  }

  int called(size_t by) const { return by < calls.size() ? calls[by] : 0; }

  WatchTable table;
  std::vector<int> calls;
  std::function<void(size_t by, int fd, Direction direction)> then;
};

}  // namespace cxxloop::net
