// SPDX-License-Identifier: MIT
//
// web/core/deadlines.h: one time limit per connection, moved at every request and almost never reached: a timing wheel.
//
// Decision: moving a deadline later is a store. The node stays in the slot of its old deadline and is placed anew when that
// slot comes up, so that a request costs no list work; a heap would cost O(log n) twice a request.
// Never early; late by a tick and what the engine is late.
// Thread: loop thread.  Python: none.  Owns: one timer of the engine, which runs only while a node is in the wheel.
// Dies: when no node is left.
#pragma once

#include <array>
#include <cstdint>
#include <limits>

#include "base/intrusive_list.h"
#include "base/task.h"
#include "io/backend.h"
#include "net/engine.h"

namespace cxxloop::web {

class Deadlines {
 public:
  static constexpr int64_t never_ns = std::numeric_limits<int64_t>::max();
  static constexpr int64_t tick_ns_min = int64_t{1} << 23;  // 8 ms
  static constexpr int64_t tick_ns_max = int64_t{1} << 30;  // 1.07 s
  static constexpr int64_t outside = -1;                    // the tick of a node that is in no wheel

  // A base class of whoever has a deadline.
  class Node : public ListNode {
   public:
    [[nodiscard]] int64_t deadline_ns() const noexcept { return deadline_ns_; }

   private:
    friend class Deadlines;

    int64_t deadline_ns_ = never_ns;
    int64_t tick_ = outside;  // of the slot in which it stands
  };

  // Called when a deadline has come, which is not due a second time before move(). It may move, remove and destroy any node.
  using ExpireFn = void (*)(Node& node, int64_t now_ns) noexcept;

  Deadlines(net::Engine& engine, io::Backend& backend, ExpireFn on_expired) noexcept;
  ~Deadlines();

  // The largest tick that is at most an eighth of the smallest limit. Places every node anew.
  void set_smallest_limit(int64_t limit_ns) noexcept;
  [[nodiscard]] int64_t tick_ns() const noexcept { return int64_t{1} << shift_; }

  // Into the wheel. REQUIRES: it is in none.
  void add(Node& node, int64_t deadline_ns) noexcept;
  // REQUIRES: it is in the wheel.
  void move(Node& node, int64_t deadline_ns) noexcept {
    node.deadline_ns_ = deadline_ns;
    if (deadline_ns < (node.tick_ - 1) << shift_) place(node);
  }
  // No effect on a node that is in no wheel.
  void remove(Node& node) noexcept;
  [[nodiscard]] size_t size() const noexcept { return size_; }

 private:
  static constexpr int64_t slots_count = 256;  // a power of two
  static constexpr int64_t tick_last = int64_t{1} << 32;  // of whatever is later; its time is still a number
  static constexpr int64_t no_slot = tick_last + 1;       // the tick of a node that has expired

  static void on_timer(TimerTask& timer) noexcept;
  void place(Node& node) noexcept;
  void turn(int64_t now_ns) noexcept;
  void arm() noexcept;

  struct Timer : TimerTask {
    Deadlines* deadlines;
  };

  net::Engine& engine_;
  io::Backend& backend_;
  const ExpireFn on_expired_;
  std::array<IntrusiveList<Node>, slots_count> slots_;
  IntrusiveList<Node> due_;   // of the slot that is being looked at
  Timer timer_;
  int64_t tick_ = 0;          // of the last slot that was looked at
  size_t size_ = 0;
  int shift_ = 30;
};

}  // namespace cxxloop::web
