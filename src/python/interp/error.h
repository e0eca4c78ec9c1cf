// SPDX-License-Identifier: MIT
//
// python/interp/error.h: the one place where an Errno becomes a Python exception; the indicator as a value.
#pragma once

#include "base/errno.h"
#include "python/interp/module_state.h"

namespace cxxloop::python {

// Sets OSError (its subclass for the number). Returns null for `return raise_errno(...)`.
PyObject* raise_errno(Gil gil, Errno error) noexcept;
// A new OSError instance, or the MemoryError that its creation met. Never null; the indicator is not set.
Ref make_os_error(Gil gil, Errno error) noexcept;

// The current exception, taken out of the indicator (normalised, with its traceback); null if there is none.
Ref take_exception(Gil gil) noexcept;
void set_exception(Gil gil, Ref exception) noexcept;

// True exactly for SystemExit and KeyboardInterrupt: they leave run_forever(), everything else is reported.
bool is_exit(PyObject* exception) noexcept;

// Runs a scope as an `except` block that handles `exception`: sys.exc_info() and logging.exception() find it there.
class HandledScope {
 public:
  HandledScope(Gil, PyObject* exception) noexcept : former_(Ref::steal(PyErr_GetHandledException())) {
    PyErr_SetHandledException(exception);
  }
  HandledScope(const HandledScope&) = delete;
  HandledScope& operator=(const HandledScope&) = delete;
  ~HandledScope() { PyErr_SetHandledException(former_.get()); }

 private:
  Ref former_;
};

// Runs a scope in a contextvars.Context, whatever indicator the scope leaves behind. A null context (memory was out when
// it should have been copied): the scope runs in the current one.
class ContextScope {
 public:
  ContextScope(Gil gil, PyObject* context) noexcept
      : gil_(gil), context_(Ref::borrow(context)), entered_(context == nullptr || PyContext_Enter(context) == 0) {}
  ContextScope(const ContextScope&) = delete;
  ContextScope& operator=(const ContextScope&) = delete;
  ~ContextScope();

  // False: it could not be entered, the indicator is set.
  [[nodiscard]] bool entered() const noexcept { return entered_; }

 private:
  Gil gil_;
  Ref context_;
  bool entered_;
};

}  // namespace cxxloop::python
