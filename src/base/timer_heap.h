// SPDX-License-Identifier: MIT
//
// base/timer_heap.h: the timers of a loop, soonest first, any of them removable in O(log n).
//
// Decision: four children per node, because the four keys are one cache line and the tree is half as deep as a binary
// one. Removal is immediate, because a cancelled timeout (most are) must not hold its memory until its deadline.
// Equal deadlines leave in the order in which they came.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "base/assert.h"

namespace cxxloop {

// What a timer embeds. It must stay where it is while queued.
struct TimerNode {
  static constexpr uint32_t not_queued = UINT32_MAX;

  int64_t deadline_ns = 0;  // do not change while queued
  uint64_t sequence = 0;    // written by the heap
  uint32_t heap_index = not_queued;

  [[nodiscard]] bool queued() const noexcept { return heap_index != not_queued; }
};

class TimerHeap {
 public:
  TimerHeap() noexcept = default;
  TimerHeap(const TimerHeap&) = delete;
  TimerHeap& operator=(const TimerHeap&) = delete;
  ~TimerHeap() { std::free(entries_); }  // Nodes still queued are forgotten, not touched: they may be gone already.

  [[nodiscard]] size_t size() const noexcept { return size_; }
  [[nodiscard]] bool empty() const noexcept { return size_ == 0; }
  [[nodiscard]] size_t capacity() const noexcept { return capacity_; }
  // The soonest timer, or nullptr.
  [[nodiscard]] TimerNode* top() const noexcept { return size_ == 0 ? nullptr : entries_[0].node; }
  // The node at a place of the heap, for a walk over all of them in no useful order.
  [[nodiscard]] TimerNode* at(size_t index) const noexcept {
    CXL_ASSERT(index < size_);
    return entries_[index].node;
  }

  // False: out of memory, the node is not queued. REQUIRES: !node->queued().
  [[nodiscard]] bool push(TimerNode* node) noexcept {
    CXL_ASSERT(!node->queued());
    if (size_ == capacity_ && !resize(std::max<size_t>(64, capacity_ * 2))) return false;
    node->sequence = take_sequence();
    sift_up(size_++, {node->deadline_ns, node});
    return true;
  }

  // The order of adding, for nodes that are kept elsewhere too (base/timer_queue.h).
  [[nodiscard]] uint64_t take_sequence() noexcept { return next_sequence_++; }
  [[nodiscard]] uint64_t next_sequence() const noexcept { return next_sequence_; }

  // Removes top(). REQUIRES: !empty().
  TimerNode* pop() noexcept {
    TimerNode* const node = entries_[0].node;
    remove(node);
    return node;
  }

  // REQUIRES: node is queued in this heap.
  void remove(TimerNode* node) noexcept {
    const size_t hole = node->heap_index;
    CXL_ASSERT(hole < size_ && entries_[hole].node == node);
    node->heap_index = TimerNode::not_queued;
    const Entry last = entries_[--size_];
    if (last.node != node) {
      if (hole > 0 && before(last, entries_[parent_of(hole)])) {
        sift_up(hole, last);
      } else {
        sift_down(hole, last);
      }
    }
    if (capacity_ > kept_capacity && size_ < capacity_ / 8) [[unlikely]] static_cast<void>(resize(capacity_ / 2));
  }

 private:
  // The deadline is repeated here so that most comparisons do not have to look at the node.
  struct Entry {
    int64_t deadline_ns;
    TimerNode* node;
  };
  static constexpr size_t children = 4;
  static constexpr size_t kept_capacity = 1024;

  static size_t parent_of(size_t index) noexcept { return (index - 1) / children; }
  static bool before(const Entry& a, const Entry& b) noexcept {
    return a.deadline_ns != b.deadline_ns ? a.deadline_ns < b.deadline_ns : a.node->sequence < b.node->sequence;
  }

  void place(size_t index, const Entry& entry) noexcept {
    entries_[index] = entry;
    entry.node->heap_index = static_cast<uint32_t>(index);
  }

  void sift_up(size_t hole, Entry entry) noexcept {
    for (; hole > 0 && before(entry, entries_[parent_of(hole)]); hole = parent_of(hole)) {
      place(hole, entries_[parent_of(hole)]);
    }
    place(hole, entry);
  }

  void sift_down(size_t hole, Entry entry) noexcept {
    for (;;) {
      const size_t first = hole * children + 1;
      if (first >= size_) break;
      const size_t end = std::min(first + children, size_);
      size_t soonest = first;
      for (size_t child = first + 1; child < end; ++child) {
        if (before(entries_[child], entries_[soonest])) soonest = child;
      }
      if (!before(entries_[soonest], entry)) break;
      place(hole, entries_[soonest]);
      hole = soonest;
    }
    place(hole, entry);
  }

  bool resize(size_t capacity) noexcept {
    if (capacity > (1U << 30)) return false;  // the index has two bits for base/timer_queue.h
    auto* entries = static_cast<Entry*>(std::realloc(entries_, capacity * sizeof(Entry)));
    if (entries == nullptr) return false;
    entries_ = entries;
    capacity_ = capacity;
    return true;
  }

  Entry* entries_ = nullptr;
  size_t size_ = 0;
  size_t capacity_ = 0;
  uint64_t next_sequence_ = 0;
};

}  // namespace cxxloop
