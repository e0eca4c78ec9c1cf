// SPDX-License-Identifier: MIT
//
// base/timer_queue.h: a loop's timers in the order they run: by deadline, equal deadlines in the order they were added.
//
// Decision: a timer that is due when it is added (call_later(0)) waits in a lane beside the heap. Such timers come in
// the order of their deadlines, so the heap would only sort what is sorted (measured: a quarter of call_later(0)).
// Thread: one.  Owns: no node.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/ring_queue.h"
#include "base/timer_heap.h"

namespace cxxloop {

class TimerQueue {
 public:
  [[nodiscard]] size_t size() const noexcept { return heap_.size() + lane_count_; }
  [[nodiscard]] bool empty() const noexcept { return size() == 0; }

  // False: out of memory, the node is not queued. REQUIRES: !node->queued().
  [[nodiscard]] bool push(TimerNode* node) noexcept { return heap_.push(node); }

  // As push(), for a node whose deadline has come already.
  [[nodiscard]] bool push_due(TimerNode* node) noexcept {
    if (lane_count_ > 0 && node->deadline_ns < lane_last_ns_) return heap_.push(node);
    if (!lane_.push_back(node)) return false;
    node->sequence = heap_.take_sequence();
    node->heap_index = lane_flag | (static_cast<uint32_t>(lane_popped_ + lane_.size() - 1) & lane_mask);
    lane_last_ns_ = node->deadline_ns;
    ++lane_count_;
    return true;
  }

  // TimerNode::sequence of the next node that is added: smaller for all that are queued.
  [[nodiscard]] uint64_t next_sequence() const noexcept { return heap_.next_sequence(); }

  // The next to run, or nullptr.
  [[nodiscard]] TimerNode* top() noexcept {
    drop_holes();
    TimerNode* const of_heap = heap_.top();
    if (lane_.empty()) return of_heap;
    TimerNode* const of_lane = lane_.front();
    return of_heap != nullptr && before(*of_heap, *of_lane) ? of_heap : of_lane;
  }

  // REQUIRES: node is queued here.
  void remove(TimerNode* node) noexcept {
    if ((node->heap_index & lane_flag) == 0) return heap_.remove(node);
    lane_[((node->heap_index & lane_mask) - static_cast<uint32_t>(lane_popped_)) & lane_mask] = nullptr;
    node->heap_index = TimerNode::not_queued;
    --lane_count_;
    drop_holes();
  }

  // f(node) for every node, in no useful order; f must not change the queue.
  template <class F>
  void each(F&& f) const noexcept {
    for (size_t i = 0; i < heap_.size(); ++i) f(heap_.at(i));
    for (size_t i = 0; i < lane_.size(); ++i) {
      if (lane_[i] != nullptr) f(lane_[i]);
    }
  }

 private:
  // TimerNode::heap_index of a node in the lane: the flag and its place, counted from the lane's first node ever.
  static constexpr uint32_t lane_flag = 1U << 31;
  static constexpr uint32_t lane_mask = (1U << 30) - 1;

  static bool before(const TimerNode& a, const TimerNode& b) noexcept {
    return a.deadline_ns != b.deadline_ns ? a.deadline_ns < b.deadline_ns : a.sequence < b.sequence;
  }

  // Removed nodes leave a hole, which goes when it comes to the front.
  void drop_holes() noexcept {
    while (!lane_.empty() && lane_.front() == nullptr) {
      lane_.pop_front();
      ++lane_popped_;
    }
  }

  TimerHeap heap_;
  RingQueue<TimerNode*> lane_;
  size_t lane_count_ = 0;     // nodes in the lane, holes not counted
  size_t lane_popped_ = 0;    // nodes that have left the front
  int64_t lane_last_ns_ = 0;  // the deadline of the last node added
};

}  // namespace cxxloop
