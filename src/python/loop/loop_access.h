// SPDX-License-Identifier: MIT
//
// python/loop/loop_access.h: what another extension module of this package may ask of a loop, behind a capsule of _core.
//
// Decision: a table of functions and no symbols, so that _core exports nothing and a module that is not imported costs
// nothing. Both modules are compiled from one tree: the check of the layout refuses a mixture of two builds.
// Thread: loop thread; the functions with a Gil set the indicator as CPython's do.
#pragma once

#include <cstddef>
#include <cstdint>

#include "net/engine.h"
#include "python/interp/ref.h"
#include "python/loop/lingering.h"

namespace cxxloop::python {

// What another module serves on a loop. Linked into the loop's list from LoopAccess::add_guest() on; it unlinks itself
// when it dies.
class LoopGuest : public Lingering {
 public:
  [[nodiscard]] virtual PyObject* object() const noexcept = 0;  // borrowed
  // True exactly while the poller may call it: the loop's reference to object() is shown to the garbage collector then.
  [[nodiscard]] virtual bool is_pinned() const noexcept = 0;
  // The loop closes: take every op back. The guest is in no list any more. False: the kernel has not let go of an op, or the
  // cork is open, so that a callback of the guest may stand on the stack; on_backend_drained() follows, then without one. May
  // destroy this if it returns true.
  [[nodiscard]] virtual bool on_loop_close(Gil gil) noexcept = 0;

 protected:
  ~LoopGuest() = default;
};

struct LoopAccess {
  static constexpr const char* capsule_name = "cxxloop._core._loop_access";

  // Of what both modules look into.
  struct Layout {
    uint32_t version = 1;
    uint32_t access_bytes = sizeof(LoopAccess);
    uint32_t engine_bytes = sizeof(net::Engine);
    uint32_t stream_bytes = sizeof(net::Stream);
    uint32_t backend_bytes = sizeof(io::Backend);
    uint32_t python_version = PY_VERSION_HEX;

    bool operator==(const Layout&) const noexcept = default;
  };

  const Layout* layout;  // of _core; its first field stands where it is in every version
  // Null: the object is no loop of cxxloop, the loop is closed, or it was inherited from a process that forked; the
  // indicator is set. Both live until the loop closes.
  net::Engine* (*engine_of)(Gil gil, PyObject* loop) noexcept;
  io::Backend* (*backend_of)(Gil gil, PyObject* loop) noexcept;
  // REQUIRES: engine_of(loop) is not null; the same holds for all below.
  void (*add_guest)(Gil gil, PyObject* loop, LoopGuest& guest) noexcept;
  bool (*has_task_factory)(PyObject* loop) noexcept;
  bool (*is_running)(PyObject* loop) noexcept;
  // For a callback of the backend, with the indicator set: to loop.call_exception_handler(), or out of run_forever() if it
  // is a SystemExit or KeyboardInterrupt. The loop may be closed. Runs Python: the user's handler.
  void (*report_or_leave)(Gil gil, PyObject* loop, const char* message) noexcept;
  uint64_t (*fork_generation)() noexcept;  // of _core's copy of base
};

// Adds the capsule to _core. False: the indicator is set.
[[nodiscard]] bool add_loop_access(Gil gil, PyObject* module) noexcept;

}  // namespace cxxloop::python
