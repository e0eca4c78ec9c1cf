// SPDX-License-Identifier: MIT
//
// base/mpsc_queue.h: an intrusive lock-free queue, many producers and one consumer (Dmitry Vyukov's algorithm).
//
// Decision: intrusive, so that a push allocates nothing and cannot fail. First in, first out for each producer, and
// between producers in the order of their exchanges.
// Every operation on head_ is sequentially consistent: ParkingFlag relies on it.
#pragma once

#include <atomic>
#include <cstddef>

namespace cxxloop {

struct MpscNode {
  std::atomic<MpscNode*> next{nullptr};
};

class MpscQueue {
 public:
  MpscQueue() noexcept : head_(&stub_), tail_(&stub_) {}
  MpscQueue(const MpscQueue&) = delete;
  MpscQueue& operator=(const MpscQueue&) = delete;

  // Any thread. `node` is in no queue and stays valid until it is popped.
  void push(MpscNode* node) noexcept {
    node->next.store(nullptr, std::memory_order_relaxed);
    MpscNode* const previous = head_.exchange(node, std::memory_order_seq_cst);
    // Between these two steps the queue is cut: the consumer sees it as not empty, with nothing to pop yet.
    previous->next.store(node, std::memory_order_release);
  }

  // Consumer only. The oldest node, or nullptr: the queue is empty or a producer is between its two steps.
  [[nodiscard]] MpscNode* pop() noexcept {
    MpscNode* tail = tail_;
    MpscNode* next = tail->next.load(std::memory_order_acquire);
    if (tail == &stub_) {
      if (next == nullptr) return nullptr;
      tail_ = tail = next;
      next = tail->next.load(std::memory_order_acquire);
    }
    if (next == nullptr) {
      if (tail != head_.load(std::memory_order_seq_cst)) return nullptr;
      // `tail` is the last node: it can only leave once another one, the stub, stands behind it.
      push(&stub_);
      next = tail->next.load(std::memory_order_acquire);
      if (next == nullptr) return nullptr;
    }
    tail_ = next;
    return tail;
  }

  // f(MpscNode*) for each, the oldest first. While no producer pushes.
  template <class F>
  void each(F&& f) noexcept {
    for (MpscNode* node = tail_; node != nullptr; node = node->next.load(std::memory_order_acquire)) {
      if (node != &stub_) f(node);
    }
  }

  // Consumer only. True exactly when no push has begun that was not popped.
  [[nodiscard]] bool empty() const noexcept {
    return tail_ == &stub_ && head_.load(std::memory_order_seq_cst) == &stub_;
  }

 private:
  // Padding instead of alignas(64): objects of Python, which the queue is a part of, are aligned to 16 bytes only.
  static constexpr size_t cache_line_size = 64;

  [[maybe_unused]] std::byte before_head_[cache_line_size];
  std::atomic<MpscNode*> head_;  // where producers append; a cache line of their own
  [[maybe_unused]] std::byte before_tail_[cache_line_size];
  MpscNode* tail_;               // where the consumer takes
  MpscNode stub_;
};

}  // namespace cxxloop
