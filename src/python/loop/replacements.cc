// SPDX-License-Identifier: MIT
#include "python/loop/replacements.h"

#include "python/interp/cpython.h"
#include "python/interp/error.h"
#include "python/loop/loop.h"

namespace cxxloop::python {
namespace {

// Whether `found`, looked up on the loop, is the native method itself.
bool is_bound_native(LoopCore& core, PyObject* found, PyObject* native) noexcept {
  if (!PyCFunction_CheckExact(found) || !Py_IS_TYPE(native, &PyMethodDescr_Type)) return false;
  return PyCFunction_GetFunction(found) == function_of(native) && PyCFunction_GetSelf(found) == as_object(core.self);
}

// True if the class has another method than the native one, or the loop has an attribute of that name. Looks the name up
// on the loop instead of in its __dict__: making that dict would cost every later method call 30 ns (Loop.__slots__).
bool is_replaced(LoopCore& core, PyObject* name, bool* replaced) noexcept {
  PyObject* const type = reinterpret_cast<PyObject*>(Py_TYPE(as_object(core.self)));
  const Ref of_class = Ref::steal(PyObject_GetAttr(type, name));
  const Ref native = Ref::steal(PyObject_GetAttr(reinterpret_cast<PyObject*>(core.state.loop_type), name));
  if (!of_class || !native) return false;
  *replaced = true;
  if (of_class.get() != native.get()) return true;
  const Ref found = Ref::steal(PyObject_GetAttr(as_object(core.self), name));
  if (!found) {
    if (PyErr_ExceptionMatches(PyExc_MemoryError) != 0) return false;
    PyErr_Clear();  // a __getattribute__() of the program may refuse the name
  }
  *replaced = !found || !is_bound_native(core, found.get(), native.get());
  return true;
}

// What native code does to a socket's descriptor without asking the socket. accept() is the only one written in Python.
constexpr const char* socket_methods[] = {"recv", "recv_into", "recvfrom", "recvfrom_into",
                                          "send", "sendmsg",   "sendto",   "shutdown"};

bool is_method_of_base(PyTypeObject* type, const char* name, bool* inherited) noexcept {
  const Ref own = Ref::steal(PyObject_GetAttrString(reinterpret_cast<PyObject*>(type), name));
  const Ref base = Ref::steal(PyObject_GetAttrString(reinterpret_cast<PyObject*>(type->tp_base), name));
  *inherited = own.get() == base.get();
  return own && base;
}

// Told by where it was written: a replacement may be older than our import.
bool is_function_of(PyObject* function, PyObject* module) noexcept {
  return PyFunction_Check(function) && PyFunction_GetGlobals(function) == PyModule_GetDict(module);
}

bool is_accept_of_module(const Imports& imports, bool* is_own) noexcept {
  const Ref accept = Ref::steal(PyObject_GetAttrString(imports.socket_type, "accept"));
  *is_own = accept && is_function_of(accept.get(), imports.socket_module);
  return static_cast<bool>(accept);
}

bool notice_replaced_socket_methods(LoopCore& core) noexcept {
  const Imports& imports = core.state.imports;
  bool as_made = false;
  if (!is_accept_of_module(imports, &as_made)) return false;
  for (const char* const name : socket_methods) {
    bool inherited = false;
    if (!is_method_of_base(reinterpret_cast<PyTypeObject*>(imports.socket_type), name, &inherited)) return false;
    as_made = as_made && inherited;
  }
  core.replaced.socket_methods = !as_made;
  core.replaced.socket_version = type_version(imports.socket_type);
  return true;
}

// Runs Python: Loop._follow_patches(), only when asyncio's loop class or the clock is not as it was. False: the indicator
// is set.
bool follow_patches(LoopCore& core) noexcept {
  const Imports& imports = core.state.imports;
  PyObject* const clock = PyDict_GetItemWithError(PyModule_GetDict(imports.time_module), core.state.names.monotonic);
  const bool is_fake_clock = clock == nullptr || !PyCFunction_CheckExact(clock);
  const unsigned version = core.replaced.loop_version;
  const bool as_before = version != 0 && version == type_version(imports.selector_loop);
  if (as_before && is_fake_clock == core.replaced.monotonic) return true;
  if (!Ref::steal(PyObject_CallMethodNoArgs(as_object(core.self), core.state.names._follow_patches))) return false;
  core.replaced.monotonic = is_fake_clock;
  core.replaced.loop_version = type_version(imports.selector_loop);
  return true;
}

}  // namespace

bool is_replaceable(const LoopCore& core, PyObject* name) noexcept {
  const Names& names = core.state.names;
  return name == names.time || name == names.call_at || name == names.call_soon || name == names.create_future ||
         name == names._run_once;
}

bool notice_replacements(Gil, LoopCore& core) noexcept {
  const Names& names = core.state.names;
  if (!follow_patches(core)) return false;
  Replacements& found = core.replaced;
  return is_replaced(core, names.time, &found.time) && is_replaced(core, names.call_at, &found.call_at) &&
         is_replaced(core, names.call_soon, &found.call_soon) &&
         is_replaced(core, names.create_future, &found.create_future) &&
         is_replaced(core, names._run_once, &found.run_once);
}

bool handle_is_as_before(const LoopCore& core) noexcept {
  const unsigned version = core.replaced.handle_version;
  return version != 0 && version == type_version(core.state.imports.handle_type);
}

bool notice_replaced_handle_run(Gil, LoopCore& core) noexcept {
  const Imports& imports = core.state.imports;
  const Ref run = Ref::steal(PyObject_GetAttr(imports.handle_type, core.state.names._run));
  if (!run) return false;
  core.replaced.handle_run = !is_function_of(run.get(), imports.events_module);
  core.replaced.handle_version = type_version(imports.handle_type);  // The lookup assigned a tag, unless CPython has run out.
  return true;
}

bool is_plain_socket(Gil, LoopCore& core, PyObject* sock, bool* plain) noexcept {
  PyObject* const plain_type = core.state.imports.socket_type;
  *plain = false;
  if (Py_TYPE(sock) != reinterpret_cast<PyTypeObject*>(plain_type)) return true;
  const unsigned version = core.replaced.socket_version;
  if ((version == 0 || version != type_version(plain_type)) && !notice_replaced_socket_methods(core)) return false;
  *plain = !core.replaced.socket_methods;
  return true;
}

}  // namespace cxxloop::python
