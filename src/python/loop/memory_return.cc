// SPDX-License-Identifier: MIT
//
// python/loop/memory_return.cc: freelists, tables, and the C library's heap.
#include "python/loop/memory_return.h"

#include "base/c_heap.h"
#include "python/interp/error.h"
#include "python/handle/handle.h"
#include "python/loop/loop.h"

namespace cxxloop::python {

namespace {

// Calls Loop._after_flood(), which shrinks what asyncio keeps (_memory.py). True: a full collection is cheap enough.
bool tidy_up_after_flood(Gil gil, LoopCore& core) noexcept {
  const Ref connections = Ref::steal(PyLong_FromSize_t(core.state.tls_gauge.flood()));
  const Ref servers = connections ? servers_of(gil, core) : Ref();
  PyObject* const args[] = {as_object(core.self), servers.get(), connections.get()};
  const Ref answer =
      servers ? Ref::steal(PyObject_VectorcallMethod(core.state.names._after_flood, args, 3, nullptr)) : Ref();
  return answer && answer.get() == Py_True;
}

}  // namespace

bool return_memory(Gil gil, LoopCore& core) noexcept {
  core.state.tls_gauge.mark_returned();
  const bool is_flood_over = core.state.tls_gauge.is_flood_over();
  if (is_flood_over) {
    const bool collect = tidy_up_after_flood(gil, core);
    core.state.tls_gauge.mark_trimmed();
    if (PyErr_Occurred() != nullptr) report_or_leave(gil, core, "Exception in Loop._after_flood()");
    if (!take_exit(gil, core)) return false;
    // Collect here, where no object of ours is alive that would go to one of Python's freelists afterwards.
    if (collect) PyGC_Collect();
    if (!check_closed(gil, core)) return false;  // a finalizer may close a loop whose _run_once() the program calls itself
  }
  // Each dead handle may be the only object that keeps one of Python's arenas (1 MiB) from being freed.
  free_handles(core);
  core.backend->release_memory();
  free_empty_rows(core);
  if (core.ready.empty()) core.ready.shrink();
  gil.released([] { trim_heap(); });
  return true;
}

void make_frame_object_early(Gil) noexcept { Py_XDECREF(PyThreadState_GetFrame(PyThreadState_Get())); }

}  // namespace cxxloop::python
