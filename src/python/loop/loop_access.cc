// SPDX-License-Identifier: MIT
#include "python/loop/loop_access.h"

#include "base/fork_generation.h"
#include "python/loop/loop.h"

namespace cxxloop::python {
namespace {

// Null: TypeError is set.
LoopCore* loop_core_of(Gil, PyObject* loop) noexcept {
  const ModuleState* const state = state_of_type(Py_TYPE(loop));
  if (state != nullptr && PyObject_TypeCheck(loop, state->loop_type)) return &core_of(loop);
  PyErr_Format(PyExc_TypeError, "loop must be a loop of cxxloop, not %R", Py_TYPE(loop));
  return nullptr;
}

net::Engine* engine_of(Gil gil, PyObject* loop) noexcept {
  LoopCore* const core = loop_core_of(gil, loop);
  return core != nullptr && check_closed(gil, *core) && check_forked(gil, *core) ? &core->engine : nullptr;
}

io::Backend* backend_of(Gil gil, PyObject* loop) noexcept {
  return engine_of(gil, loop) != nullptr ? core_of(loop).backend.get() : nullptr;
}

void add_guest(Gil, PyObject* loop, LoopGuest& guest) noexcept { core_of(loop).guests.push_back(guest); }

bool has_task_factory(PyObject* loop) noexcept { return static_cast<bool>(core_of(loop).task_factory); }

bool is_running(PyObject* loop) noexcept { return core_of(loop).thread_id != 0; }

void report_callback(Gil gil, PyObject* loop, const char* message) noexcept {
  report_or_leave(gil, core_of(loop), message);
}

constexpr LoopAccess::Layout layout;
constexpr LoopAccess access = {
    .layout = &layout,
    .engine_of = engine_of,
    .backend_of = backend_of,
    .add_guest = add_guest,
    .has_task_factory = has_task_factory,
    .is_running = is_running,
    .report_or_leave = report_callback,
    .fork_generation = fork_generation,
};

}  // namespace

bool add_loop_access(Gil, PyObject* module) noexcept {
  const Ref capsule = Ref::steal(PyCapsule_New(const_cast<LoopAccess*>(&access), LoopAccess::capsule_name, nullptr));
  return capsule && PyModule_AddObjectRef(module, "_loop_access", capsule.get()) == 0;
}

}  // namespace cxxloop::python
