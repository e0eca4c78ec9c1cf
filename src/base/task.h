// SPDX-License-Identifier: MIT
//
// base/task.h: what a queue or a timer runs: an intrusive node and a function. Whoever has something to run embeds one.
//
// Thread: of the queue.  Owns: nothing; it must stay where it is while it is queued.
#pragma once

#include "base/mpsc_queue.h"
#include "base/timer_heap.h"

namespace cxxloop {

// Run once for each time it was posted (net::Engine::post).
struct Task {
  // The task is in no queue when it is called: it may post itself again or be destroyed.
  using RunFn = void (*)(Task&) noexcept;

  MpscNode node;
  RunFn run = nullptr;

  // REQUIRES: the node is a task's.
  static Task* of_node(MpscNode* node) noexcept { return reinterpret_cast<Task*>(node); }
};

// Run once when node.deadline_ns has come (net::Engine::add_timer).
struct TimerTask {
  using RunFn = void (*)(TimerTask&) noexcept;

  TimerNode node;
  RunFn run = nullptr;

  static TimerTask* of_node(TimerNode* node) noexcept { return reinterpret_cast<TimerTask*>(node); }
};

}  // namespace cxxloop
