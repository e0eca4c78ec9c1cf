// SPDX-License-Identifier: MIT
//
// python/interp/gil.h: proof, in types, that the calling thread holds the GIL.
//
// A function that may touch Python takes a Gil; one without it must not. The token is empty and costs no register.
// PyGILState_* is banned: once sub-interpreters exist it answers for the wrong one.
#pragma once

#define PY_SSIZE_T_CLEAN
#include <Python.h>

namespace cxxloop::python {

class Gil {
 public:
  // At the entry of a slot or method: CPython calls those with the GIL held.
  static Gil in_slot() noexcept { return Gil(); }

  // For io::SleepHooks: the two halves of released().
  [[nodiscard]] PyThreadState* save() const noexcept { return PyEval_SaveThread(); }
  static Gil restore(PyThreadState* thread) noexcept {
    PyEval_RestoreThread(thread);
    return Gil();
  }

  // Run `f` without the GIL. f must not touch Python.
  template <class F>
  auto released(F&& f) const noexcept {
    struct Away {
      PyThreadState* const thread = PyEval_SaveThread();
      ~Away() { PyEval_RestoreThread(thread); }
    };
    const Away away;
    return f();
  }

 private:
  Gil() = default;
};

}  // namespace cxxloop::python
