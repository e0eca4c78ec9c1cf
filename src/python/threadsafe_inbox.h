// SPDX-License-Identifier: MIT
//
// python/threadsafe_inbox.h: how other threads reach a loop: a lock-free queue and one coalesced wake-up.
//
// Thread: push() any; the rest loop thread.  Owns: a reference to each queued handle.
#pragma once

#include "base/mpsc_queue.h"
#include "base/parking_flag.h"
#include "io/backend.h"
#include "python/handle.h"

namespace cxxloop::python {

class ThreadsafeInbox {
 public:
  // Handles moved per turn, so that a flood from threads does not starve timers and I/O.
  static constexpr size_t batch_max = 512;

  // Takes a reference. Wakes the loop only when it sleeps.
  void push(HandleObject* handle, io::Backend& backend) noexcept {
    queue_.push(&handle->inbox_node);
    if (parking_.take_wake_duty()) backend.wake();
  }
  // The oldest handle (its reference), or null.
  [[nodiscard]] HandleObject* pop() noexcept {
    MpscNode* const node = queue_.pop();
    return node != nullptr ? handle_of_inbox(node) : nullptr;
  }
  [[nodiscard]] bool empty() noexcept { return queue_.empty(); }
  // True: the loop may sleep, pushes will wake it. False: there is something to do.
  [[nodiscard]] bool try_park() noexcept {
    return parking_.try_park([this] { return queue_.empty(); });
  }
  void unpark() noexcept { parking_.unpark(); }

 private:
  MpscQueue queue_;
  ParkingFlag parking_;
};

}  // namespace cxxloop::python
