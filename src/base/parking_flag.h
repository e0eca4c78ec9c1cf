// SPDX-License-Identifier: MIT
//
// base/parking_flag.h: decides who must wake a consumer that goes to sleep, so that nobody does it in vain.
//
// The consumer announces that it is about to sleep and then looks at its queue once more; a producer appends and then
// looks whether the consumer sleeps. No wake-up is lost: all four steps are sequentially consistent, so they have one
// order that every thread agrees on. In it either the append comes before the consumer's second look, which then sees
// the element and does not sleep, or the second look comes first, and so does the announcement, which stands before
// it; then the producer's look sees `parked_`. Of several producers that see it, the exchange picks one.
//
// REQUIRES: the queue's append and its emptiness check are memory_order_seq_cst (MpscQueue's are).
#pragma once

#include <atomic>

namespace cxxloop {

class ParkingFlag {
 public:
  // Consumer only. True: the queue is empty and from now on a producer will take the duty to wake us.
  // False: there is something to do, do not sleep.
  template <class QueueIsEmpty>
  [[nodiscard]] bool try_park(QueueIsEmpty&& queue_is_empty) noexcept {
    parked_.store(true, std::memory_order_seq_cst);
    if (queue_is_empty()) return true;
    unpark();
    return false;
  }

  // Consumer only, after the sleep. A producer that took the duty before this still wakes us: one sleep too short.
  void unpark() noexcept { parked_.store(false, std::memory_order_seq_cst); }

  // Producer, after its append. True exactly when the consumer was parked and the caller is the one to wake it.
  [[nodiscard]] bool take_wake_duty() noexcept {
    // The load alone answers the usual case without taking the cache line away from the consumer.
    return parked_.load(std::memory_order_seq_cst) && parked_.exchange(false, std::memory_order_seq_cst);
  }

 private:
  std::atomic<bool> parked_{false};
};

}  // namespace cxxloop
