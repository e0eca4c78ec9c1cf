// SPDX-License-Identifier: MIT
//
// python/loop/lingering.h: what the loop serves no more, but whose ops the kernel has not let go of.
//
// Linked into the loop's list from the Backend::cancel() that answered "not yet" to the op's last completion, or to the end
// of the loop, which drains the backend. It keeps itself alive meanwhile.
// Thread: loop thread.
#pragma once

#include "base/intrusive_list.h"
#include "python/interp/gil.h"

namespace cxxloop::python {

class Lingering : public ListNode {
 public:
  // The backend was drained: no completion will come any more. May destroy this.
  virtual void on_backend_drained(Gil gil) noexcept = 0;

 protected:
  ~Lingering() = default;
};

}  // namespace cxxloop::python
