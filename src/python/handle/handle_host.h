// SPDX-License-Identifier: MIT
//
// python/handle/handle_host.h: what a handle asks of its loop: who it is, its timers, its memory, a context to run in.
//
// LoopCore derives from it, so that a handle reaches each field with one load and knows nothing else of the loop.
// Decision: dead handles wait in a freelist of their loop. A handle keeps its loop alive, so the list outlives every
// handle that may be put on it, also when an interpreter ends and modules die before what they made.
// Thread: loop thread, except what a thread-safe handle does.  Dies: with the loop object.
#pragma once

#include <array>
#include <condition_variable>
#include <cstddef>
#include <mutex>

#include "net/engine.h"
#include "python/interp/module_state.h"

namespace cxxloop::python {

struct HandleObject;

// Dead handles kept for the next call_soon(): an allocation less per callback.
class HandleFreelist {
 public:
  static constexpr size_t handles_max = 256;

  // Null: none is left.
  [[nodiscard]] HandleObject* take() noexcept { return count_ > 0 ? handles_[--count_] : nullptr; }
  // Takes over the memory of a handle whose references are gone. False: the list is full.
  [[nodiscard]] bool keep(HandleObject* handle) noexcept {
    if (count_ == handles_max) return false;
    handles_[count_++] = handle;
    return true;
  }

 private:
  size_t count_ = 0;
  std::array<HandleObject*, handles_max> handles_;  // the first count_ are valid
};

struct HandleHost {
  HandleHost(PyObject* loop_object, ModuleState& module_state) noexcept : loop(loop_object), state(module_state) {}
  HandleHost(const HandleHost&) = delete;
  HandleHost& operator=(const HandleHost&) = delete;
  ~HandleHost();  // no handle of the loop is left

  PyObject* const loop;      // borrowed: the object that the host lies in
  ModuleState& state;
  Ref spare_context;         // empty, for handles without a context of their own
  unsigned long thread_id = 0;  // of the thread in run_forever(), 0 outside
  bool debug = false;
  net::Engine engine;        // attached to the backend; its tasks and timers that are handles' are owned
  // Other threads wait here for the callback of a thread-safe handle to end.
  std::mutex running_mutex;
  std::condition_variable running_ended;
  HandleFreelist freelist;
  HandleFreelist timer_freelist;
};

}  // namespace cxxloop::python
