// SPDX-License-Identifier: MIT
//
// python/interp/bindings.cc: the only file with pybind11 in it: a call through it costs several times a raw method, so it
// serves what is called once.
#include "python/interp/bindings.h"

#include <pybind11/pybind11.h>

#include <initializer_list>
#include <string>

#include "io/backends.h"

namespace py = pybind11;

namespace cxxloop::python {
namespace {

#ifdef CXXLOOP_ASSERTS
constexpr bool built_with_assertions = true;
#else
constexpr bool built_with_assertions = false;
#endif

std::string dotted(std::initializer_list<int> parts) {
  std::string text;
  for (const int part : parts) {
    if (!text.empty()) text += '.';
    text += std::to_string(part);
  }
  return text;
}

py::tuple names_of_backends() {
  py::list names;
  for (const io::BackendEntry& entry : io::backends()) names.append(entry.name);
  return py::tuple(names);
}

// By the names of the fields of cxxloop.BuildInfo.
py::dict build_facts() {
  const io::BackendEntry& entry = *io::find_backend("auto");
  const io::BackendBase base = entry.base();
  py::dict facts;
  facts["version"] = CXXLOOP_VERSION;
  facts["backend"] = entry.name;
  facts["backends"] = names_of_backends();
  facts["library"] = std::string(base.library) + " " + dotted({base.version_major, base.version_minor});
  facts["poller"] = base.poller;
  facts["compiler"] = __VERSION__;
  facts["python"] = PY_VERSION;
  facts["pybind11"] = dotted({PYBIND11_VERSION_MAJOR, PYBIND11_VERSION_MINOR, PYBIND11_VERSION_MICRO});
  facts["assertions"] = built_with_assertions;
  return facts;
}

}  // namespace

bool add_bindings(Gil, PyObject* module) noexcept {
  try {
    // Semi-private: PYBIND11_MODULE would do it, but leaves a module no room for state. pybind11 is pinned for it.
    py::detail::ensure_internals();
    auto core = py::reinterpret_borrow<py::module_>(module);
    core.def("build_facts", &build_facts, "Return what this build is made of, by name.");
    return true;
  } catch (py::error_already_set& error) {
    error.restore();
  } catch (const std::exception& error) {
    PyErr_SetString(PyExc_ImportError, error.what());
  }
  return false;
}

}  // namespace cxxloop::python
