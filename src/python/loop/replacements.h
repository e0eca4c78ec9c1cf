// SPDX-License-Identifier: MIT
//
// python/loop/replacements.h: which of the methods that asyncio's code calls through the loop a program has replaced.
//
// asyncio obeys a call_at() overridden in a subclass or assigned to one loop, a fake clock, a traced Handle._run().
// Native code takes its short cut only while the program has replaced nothing. A flag per method records a replacement;
// the flags are set when a loop is made, a run starts or an attribute is assigned, for handles in each turn, and for
// sockets whenever one is about to be served.
// Thread: loop thread.
#pragma once

#include "python/interp/gil.h"

namespace cxxloop::python {

struct LoopCore;

struct Replacements {
  bool time = false;
  bool call_at = false;
  bool call_soon = false;
  bool create_future = false;
  bool run_once = false;
  bool handle_run = false;
  bool socket_methods = false;  // of Python's class of sockets, changed in place
  bool monotonic = false;       // time.monotonic() is a program's
  unsigned loop_version = 0;    // of asyncio's loop class when Loop._follow_patches() last looked; 0: never
  unsigned handle_version = 0;  // of asyncio.Handle when handle_run was set; 0: never set
  unsigned socket_version = 0;  // of the class of sockets when socket_methods was set; 0: never set
};

// True if the native code takes a short cut past the method of this (interned) name.
[[nodiscard]] bool is_replaceable(const LoopCore& core, PyObject* name) noexcept;
// Looks at the loop's class and at its own attributes. Runs Python: descriptors of a metaclass.
// False: the indicator is set.
[[nodiscard]] bool notice_replacements(Gil gil, LoopCore& core) noexcept;
// True if asyncio.Handle was not touched since the last look.
[[nodiscard]] bool handle_is_as_before(const LoopCore& core) noexcept;
[[nodiscard]] bool notice_replaced_handle_run(Gil gil, LoopCore& core) noexcept;
// *plain: nobody but the kernel has a say in what the socket does, so that native code may use its descriptor. A
// subclass may have replaced recv(), send() or accept(), or a program has those of the class itself: asyncio's own code
// calls them. False: the indicator is set.
[[nodiscard]] bool is_plain_socket(Gil gil, LoopCore& core, PyObject* sock, bool* plain) noexcept;

}  // namespace cxxloop::python
