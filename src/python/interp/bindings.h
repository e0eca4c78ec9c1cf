// SPDX-License-Identifier: MIT
//
// python/interp/bindings.h: the cold surface of the module, bound with pybind11.
#pragma once

#include "python/interp/gil.h"

namespace cxxloop::python {

// Adds build_facts(). False: the indicator is set. pybind11's exceptions end here.
[[nodiscard]] bool add_bindings(Gil gil, PyObject* module) noexcept;

}  // namespace cxxloop::python
