// SPDX-License-Identifier: MIT
//
// python/loop/threadsafe_inbox.h: how other threads reach a loop: a lock-free queue and one coalesced wake-up.
//
// Thread: push() any; the rest loop thread.  Owns: a reference to each queued handle.
#pragma once

#include <algorithm>
#include <atomic>
#include <ctime>

#include "base/mpsc_queue.h"
#include "base/parking_flag.h"
#include "io/backend.h"
#include "python/handle/handle.h"

namespace cxxloop::python {

class ThreadsafeInbox {
 public:
  // Handles moved per turn, so that a flood from threads does not starve timers and I/O.
  static constexpr size_t batch_max = 512;

  // A thread that floods a loop which cannot keep up pauses after so many calls: it would hold the GIL for its whole
  // switch interval each time, and the queue would grow without end. The longer the queue, the longer the pause: on a
  // busy machine the loop's thread gets the GIL at once, but not a core.
  static constexpr size_t backlog_before_pauses = 1024;
  static constexpr size_t calls_between_pauses = 256;
  static constexpr int64_t pause_ns_per_backlog = 50'000;  // for each backlog_before_pauses
  static constexpr int64_t pause_ns_max = 5'000'000;

  // Takes a reference. Wakes the loop only when it sleeps. Returns for how many nanoseconds the caller should pause().
  [[nodiscard]] int64_t push(HandleObject* handle, io::Backend& backend) noexcept {
    queue_.push(&handle->inbox_node);
    const size_t pushed = pushed_.fetch_add(1, std::memory_order_relaxed) + 1;
    if (parking_.take_wake_duty()) backend.wake();
    if (pushed % calls_between_pauses != 0) return 0;
    const size_t backlog = pushed - popped_.load(std::memory_order_relaxed);
    if (backlog <= backlog_before_pauses) return 0;
    return std::min(static_cast<int64_t>(backlog / backlog_before_pauses) * pause_ns_per_backlog, pause_ns_max);
  }
  // For the loop's own thread, which is awake: behind what others pushed. Takes a reference.
  void append(HandleObject* handle) noexcept {
    queue_.push(&handle->inbox_node);
    pushed_.fetch_add(1, std::memory_order_relaxed);
  }
  // Lets the loop's thread have the GIL for a while.
  static void pause(Gil gil, int64_t ns) noexcept {
    gil.released([ns] {
      const timespec duration{.tv_sec = 0, .tv_nsec = static_cast<long>(ns)};
      return nanosleep(&duration, nullptr);
    });
  }
  // The oldest handle (its reference), or null.
  [[nodiscard]] HandleObject* pop() noexcept {
    MpscNode* const node = queue_.pop();
    if (node == nullptr) return nullptr;
    popped_.store(popped_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
    return handle_of_inbox(node);
  }
  [[nodiscard]] bool empty() noexcept { return queue_.empty(); }
  // f(HandleObject*) for each, the oldest first. No thread may push meanwhile: the caller holds the GIL.
  template <class F>
  void each(F&& f) noexcept {
    queue_.each([&f](MpscNode* node) { f(handle_of_inbox(node)); });
  }
  // True: the loop may sleep, pushes will wake it. False: there is something to do.
  [[nodiscard]] bool try_park() noexcept {
    return parking_.try_park([this] { return queue_.empty(); });
  }
  void unpark() noexcept { parking_.unpark(); }

 private:
  MpscQueue queue_;
  ParkingFlag parking_;
  std::atomic<size_t> pushed_{0};
  std::atomic<size_t> popped_{0};  // written by the loop's thread only
};

}  // namespace cxxloop::python
