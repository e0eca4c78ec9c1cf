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

// Immutable facts of a build; two of one build are equal.
struct BuildInfo {
  std::string version = CXXLOOP_VERSION;
  std::string backend;
  std::string library;
  std::string poller;
  std::string compiler = __VERSION__;
  std::string python = PY_VERSION;
  std::string pybind11 = dotted({PYBIND11_VERSION_MAJOR, PYBIND11_VERSION_MINOR, PYBIND11_VERSION_MICRO});
  bool assertions = built_with_assertions;

  friend bool operator==(const BuildInfo&, const BuildInfo&) = default;
};

BuildInfo build_info() {
  const io::BackendEntry& entry = *io::find_backend("auto");
  const io::BackendBase base = entry.base();
  BuildInfo info;
  info.backend = entry.name;
  info.library = std::string(base.library) + " " + dotted({base.version_major, base.version_minor});
  info.poller = base.poller;
  return info;
}

py::tuple names_of_backends() {
  py::list names;
  for (const io::BackendEntry& entry : io::backends()) names.append(entry.name);
  return py::tuple(names);
}

std::string repr_of(const BuildInfo& info) {
  return "BuildInfo(version='" + info.version + "', backend='" + info.backend + "', library='" + info.library +
         "', poller='" + info.poller + "', compiler='" + info.compiler + "', python='" + info.python +
         "', pybind11='" + info.pybind11 + "', assertions=" + (info.assertions ? "True" : "False") + ")";
}

void bind_build_info(py::module_& core) {
  py::class_<BuildInfo>(core, "BuildInfo", "What a build of cxxloop is made of.")
      .def_readonly("version", &BuildInfo::version, "cxxloop's version.")
      .def_readonly("backend", &BuildInfo::backend, "The backend new loops use.")
      .def_property_readonly(
          "backends", [](const BuildInfo&) { return names_of_backends(); }, "The backends of this build.")
      .def_readonly("library", &BuildInfo::library, "The library that the backend stands on, with its version.")
      .def_readonly("poller", &BuildInfo::poller, "The kernel interface that the library drives.")
      .def_readonly("compiler", &BuildInfo::compiler, "The C++ compiler's version.")
      .def_readonly("python", &BuildInfo::python, "The Python it was built for.")
      .def_readonly("pybind11", &BuildInfo::pybind11, "pybind11's version.")
      .def_readonly("assertions", &BuildInfo::assertions, "True if internal assertions are checked.")
      .def_static("__new__", [](const py::args&, const py::kwargs&) -> py::object {
        throw py::type_error("cannot create 'cxxloop._core.BuildInfo' instances");  // they would be of no build
      })
      .def("__reduce__", [](const BuildInfo&) {
        return py::make_tuple(py::module_::import("cxxloop._core").attr("build_info"), py::tuple());
      })
      .def("__repr__", &repr_of)
      .def("__eq__", [](const BuildInfo& a, const BuildInfo& b) { return a == b; });
  core.def("build_info", &build_info, "Return what this build is made of.");
}

}  // namespace

bool add_bindings(Gil, PyObject* module) noexcept {
  try {
    // Semi-private: PYBIND11_MODULE would do it, but leaves a module no room for state. pybind11 is pinned for it.
    py::detail::ensure_internals();
    auto core = py::reinterpret_borrow<py::module_>(module);
    bind_build_info(core);
    return true;
  } catch (py::error_already_set& error) {
    error.restore();
  } catch (const std::exception& error) {
    PyErr_SetString(PyExc_ImportError, error.what());
  }
  return false;
}

}  // namespace cxxloop::python
