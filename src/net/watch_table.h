// SPDX-License-Identifier: MIT
//
// net/watch_table.h: who wants to know that a descriptor is readable or writable (add_reader, add_writer, sock_*).
//
// Thread: loop thread.  Python: none; a watcher is an opaque token, handed back when it is replaced or removed.
// Owns: two poll ops per descriptor ever watched. Dies: when none of them is in the kernel, which is after the last
// unwatch() with a backend that cancels at once, and after the last completions with one that does not.
#pragma once

#include <array>
#include <cstdint>

#include "base/fd_map.h"
#include "io/backend.h"
#include "io/op.h"

namespace cxxloop::net {

enum class Direction : uint8_t { read = 0, write = 1 };

class WatchTable {
 public:
  // Called with the token while its descriptor is ready. May do anything to the table.
  using ReadyFn = void (*)(void* context, void* token, int fd, Direction direction) noexcept;

  WatchTable(io::Backend& backend, ReadyFn on_ready, void* context) noexcept
      : backend_(backend), on_ready_(on_ready), context_(context) {}
  WatchTable(const WatchTable&) = delete;
  WatchTable& operator=(const WatchTable&) = delete;
  ~WatchTable();

  // Watch `fd`, or hand its watch over to `token`; *replaced is the former token or null. On an error `token` watches
  // nothing; nor does the former token if it was handed back: its watch was lost with the descriptor it was for.
  // REQUIRES: fd >= 0, token is not null.
  [[nodiscard]] Errno watch(int fd, Direction direction, void* token, void** replaced) noexcept;
  // Stop watching; returns the token, or null if nobody watched.
  void* unwatch(int fd, Direction direction) noexcept;
  [[nodiscard]] void* token(int fd, Direction direction) const noexcept;

  // f(fd, direction, token) for every watch; f may change the table.
  template <class F>
  void each(F&& f) const noexcept {
    entries_.for_each([&f](const Entry* entry) {
      for (size_t i = 0; entry != nullptr && i < 2; ++i) {
        if (entry->tokens[i] != nullptr) f(entry->ops[i].fd, static_cast<Direction>(i), entry->tokens[i]);
      }
    });
  }

 private:
  struct Entry {
    Entry(WatchTable* table_of_entry, int fd) noexcept;
    std::array<io::Op, 2> ops;
    std::array<void*, 2> tokens{};
    std::array<bool, 2> resubmit{};  // True exactly when the op is on its way out and watched again
    WatchTable* table;
  };

  static void on_complete(io::Op& op, int32_t result) noexcept;
  // Null: nobody has watched `fd` yet.
  [[nodiscard]] Entry* find(int fd) const noexcept;
  // Null: no memory.
  [[nodiscard]] Entry* find_or_make(int fd) noexcept;

  io::Backend& backend_;
  ReadyFn on_ready_;
  void* context_;
  FdMap<Entry*> entries_;  // owned
};

}  // namespace cxxloop::net
