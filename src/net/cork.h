// SPDX-License-Identifier: MIT
//
// net/cork.h: the streams written to during one callback, sent when it ends: one vectored send each.
//
// In a forked child the streams that the parent has written to are still linked. The parent sends those bytes; the child
// drops its copy of them.
// Thread: loop thread.  Python: none.  Owns: nothing; a stream unlinks itself when it dies.
#pragma once

#include "base/fork_generation.h"
#include "base/intrusive_list.h"
#include "net/stream.h"

namespace cxxloop::net {

class Cork {
 public:
  [[nodiscard]] bool empty() const noexcept { return dirty_.empty(); }

  void add(Stream& stream) noexcept {
    if (!stream.is_linked()) dirty_.push_back(stream);
  }

  // True exactly in a process forked from the one that made the cork.
  [[nodiscard]] bool is_inherited() const noexcept { return generation_ != fork_generation(); }

  // The end of a callback. Flushes in the order of the first write; a handler that writes again during the flush is
  // flushed too. Backend::flush() must follow.
  void pull() noexcept {
    while (Stream* const stream = dirty_.pop_front()) {
      is_inherited() ? drop(*stream) : stream->flush_later();
    }
  }

  // As pull(), before the callback ends.
  void pull_early() noexcept {
    while (Stream* const stream = dirty_.pop_front()) {
      is_inherited() ? drop(*stream) : stream->flush();
    }
  }

  // Flushes one stream before the callback ends. No effect on a stream of which nothing is held back.
  void pull_early(Stream& stream) noexcept {
    if (!stream.is_held_back()) return;
    stream.unlink();
    is_inherited() ? drop(stream) : stream.flush();
  }

 private:
  // What waits for room in the kernel stays: later writes of the child queue up behind it and are not sent either.
  static void drop(Stream& stream) noexcept {
    if (!stream.is_send_waiting()) stream.drop_writes();
  }

  IntrusiveList<Stream> dirty_;
  const uint64_t generation_ = fork_generation();
};

}  // namespace cxxloop::net
