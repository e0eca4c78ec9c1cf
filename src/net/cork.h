// SPDX-License-Identifier: MIT
//
// net/cork.h: the streams written to during one callback, sent when it ends: one vectored send each.
//
// Decision: held until the end of the callback and not of the turn, because a slow callback later in the turn would delay
// a response that is finished. A writer that serves many streams may ask for patience: what it writes then waits for the
// next callbacks of the same turn too, up to a bound. To wake a client that sleeps costs the kernel as
// much as the rest of a send; one that is awake still when the next response comes is not woken again.
// In a forked child the streams that the parent has written to are still linked. The parent sends those bytes; the child
// drops its copy of them.
// Thread: loop thread, except may_hold().  Python: none.  Owns: nothing; a stream unlinks itself when it dies.
#pragma once

#include <algorithm>
#include <cstddef>
#include <thread>
#include <utility>

#include "base/fork_generation.h"
#include "base/intrusive_list.h"
#include "net/stream.h"

namespace cxxloop::net {

// Who puts its bytes into a stream only when the callback ends: TLS, which encrypts all that was written as one piece.
class LateWriter : public ListNode {
 public:
  // The cork is pulled. May write to any stream, or destroy the writer as its last act.
  virtual void on_pull() noexcept = 0;

 protected:
  ~LateWriter() = default;
};

class Cork {
 public:
  // What a callback writes beyond this is sent at once: the kernel can send while the callback goes on.
  static constexpr size_t held_bytes_max = 64 * 1024;
  // Patience: so many writes and so long, until the callback ends that reaches the bound.
  static constexpr uint32_t patient_writes_max = 16;
  static constexpr int64_t patience_ns = 200'000;
  // After a callback that took longer than patience_ns nobody is patient for so many times as long: a response waits for
  // a slow callback once in a while, not behind each of them.
  static constexpr int64_t haste_per_delay = 64;

  // From now on, until close(), this thread calls pull() after each callback.
  void open() noexcept { puller_ = std::this_thread::get_id(); }
  void close() noexcept { puller_ = std::thread::id(); }
  [[nodiscard]] bool is_open() const noexcept { return puller_ != std::thread::id(); }

  // May a write that leaves this much queued wait for the end of the callback? Not if nobody would pull the cork (another
  // thread writes, no loop runs, or the parent's loop ran when it forked), and not if the writer has to be paused.
  [[nodiscard]] bool may_hold(size_t queued_bytes, size_t high_mark_bytes) const noexcept {
    return queued_bytes <= std::min(high_mark_bytes, held_bytes_max) && puller_ == std::this_thread::get_id() &&
           !is_inherited();
  }

  [[nodiscard]] bool empty() const noexcept { return dirty_.empty(); }

  void add(Stream& stream) noexcept {
    is_patient_ = false;
    if (!stream.is_linked()) dirty_.push_back(stream);
  }
  // `writer` has something for the stream; to be unlinked together with it.
  void add(Stream& stream, LateWriter& writer) noexcept {
    add(stream);
    if (!writer.is_linked()) late_.push_back(writer);
  }

  // As add(), with patience. `now_ns`: when the callback began.
  void add_patiently(Stream& stream, int64_t now_ns) noexcept {
    if (stream.is_linked()) return;
    if (dirty_.empty()) {
      is_patient_ = now_ns >= haste_until_ns_;
      patient_writes_ = seen_writes_ = 0;
      first_ns_ = now_ns;
    } else if (now_ns - last_ns_ > patience_ns) {
      haste_until_ns_ = now_ns + (now_ns - last_ns_) * haste_per_delay;
    }
    last_ns_ = now_ns;
    if (++patient_writes_ >= patient_writes_max || now_ns - first_ns_ > patience_ns) is_patient_ = false;
    dirty_.push_back(stream);
  }

  // A callback has ended. True: what is held may wait for the next one, if that follows at once. One that has written has
  // told the time; for another one clock() tells it, as it may have been slow.
  template <class F>
  [[nodiscard]] bool may_wait(F&& clock) noexcept {
    if (!is_patient_ || std::exchange(seen_writes_, patient_writes_) != patient_writes_) return is_patient_;
    const int64_t now_ns = clock();
    if (now_ns - last_ns_ > patience_ns) haste_until_ns_ = now_ns + (now_ns - last_ns_) * haste_per_delay;
    return now_ns - first_ns_ <= patience_ns;
  }

  // True exactly in a process forked from the one that made the cork.
  [[nodiscard]] bool is_inherited() const noexcept { return generation_ != fork_generation(); }

  // The end of a callback. Flushes in the order of the first write; a handler that writes again during the flush is
  // flushed too. Backend::flush() must follow.
  void pull() noexcept {
    is_patient_ = false;  // what is written meanwhile is flushed too
    while (Stream* const stream = next()) {
      is_inherited() ? drop(*stream) : stream->flush_later();
    }
  }

  // As pull(), before the callback ends.
  void pull_early() noexcept {
    while (Stream* const stream = next()) {
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
  // The next stream; whoever writes late has written.
  Stream* next() noexcept {
    while (LateWriter* const writer = late_.pop_front()) {
      if (!is_inherited()) writer->on_pull();
    }
    return dirty_.pop_front();
  }

  // What waits for room in the kernel stays: later writes of the child queue up behind it and are not sent either.
  static void drop(Stream& stream) noexcept {
    if (!stream.is_send_waiting()) stream.drop_writes();
  }

  IntrusiveList<Stream> dirty_;
  IntrusiveList<LateWriter> late_;  // their streams are in dirty_
  bool is_patient_ = false;      // True exactly when everything in dirty_ was added patiently, within the bounds
  uint32_t patient_writes_ = 0;  // this and the next three: since dirty_ was empty
  uint32_t seen_writes_ = 0;     // at the end of the last callback
  int64_t first_ns_ = 0;
  int64_t last_ns_ = 0;
  int64_t haste_until_ns_ = 0;
  const uint64_t generation_ = fork_generation();
  std::thread::id puller_;
};

}  // namespace cxxloop::net
