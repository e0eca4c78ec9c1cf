// SPDX-License-Identifier: MIT
#include "python/replacements.h"

#include "python/error.h"
#include "python/loop.h"

namespace cxxloop::python {
namespace {

// A method of the class that is not the native one, or an attribute of the loop itself.
bool is_replaced(LoopCore& core, PyObject* dict, PyObject* name, bool* replaced) noexcept {
  PyObject* const own = dict != nullptr ? PyDict_GetItemWithError(dict, name) : nullptr;
  if (own == nullptr && PyErr_Occurred() != nullptr) return false;
  PyObject* const type = reinterpret_cast<PyObject*>(Py_TYPE(as_object(core.self)));
  const Ref of_class = Ref::steal(PyObject_GetAttr(type, name));
  const Ref native = Ref::steal(PyObject_GetAttr(reinterpret_cast<PyObject*>(core.state.loop_type), name));
  *replaced = own != nullptr || of_class.get() != native.get();
  return of_class && native;
}

unsigned version_of(const PyObject* type) noexcept { return reinterpret_cast<const PyTypeObject*>(type)->tp_version_tag; }

}  // namespace

bool is_replaceable(const LoopCore& core, PyObject* name) noexcept {
  const Names& names = core.state.names;
  return name == names.time || name == names.call_at || name == names.call_soon || name == names.create_future ||
         name == names._run_once;
}

bool notice_replacements(Gil, LoopCore& core) noexcept {
  const Names& names = core.state.names;
  Replacements& found = core.replaced;
  const Ref dict = Ref::steal(PyObject_GenericGetDict(as_object(core.self), nullptr));
  if (!dict) PyErr_Clear();  // a loop of the native type alone has none
  return is_replaced(core, dict.get(), names.time, &found.time) &&
         is_replaced(core, dict.get(), names.call_at, &found.call_at) &&
         is_replaced(core, dict.get(), names.call_soon, &found.call_soon) &&
         is_replaced(core, dict.get(), names.create_future, &found.create_future) &&
         is_replaced(core, dict.get(), names._run_once, &found.run_once);
}

bool handle_is_as_before(const LoopCore& core) noexcept {
  const unsigned version = core.replaced.handle_version;
  return version != 0 && version == version_of(core.state.imports.handle_type);
}

bool notice_replaced_handle_run(Gil, LoopCore& core) noexcept {
  const Imports& imports = core.state.imports;
  const Ref run = Ref::steal(PyObject_GetAttr(imports.handle_type, core.state.names._run));
  if (!run) return false;
  core.replaced.handle_run = run.get() != imports.handle_run;
  core.replaced.handle_version = version_of(imports.handle_type);  // the look has given it one, if any was left
  return true;
}

}  // namespace cxxloop::python
