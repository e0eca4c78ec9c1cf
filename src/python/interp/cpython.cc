// SPDX-License-Identifier: MIT
#include "python/interp/cpython.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "base/unique_fd.h"
#include "python/interp/error.h"

namespace cxxloop::python {
namespace {

// The checks: 1 as we know it, 0 changed, -1 with the indicator set.

int check_context(Gil gil, const ModuleState&) noexcept {
  const Ref context = Ref::steal(PyContext_New());
  if (!context || PyContext_Enter(context.get()) < 0) return -1;
  const bool is_current = current_context(gil) == context.get();
  return PyContext_Exit(context.get()) < 0 ? -1 : is_current;
}

int check_type_version(Gil, const ModuleState& state) noexcept {
  const Ref type = Ref::steal(PyObject_CallFunction(reinterpret_cast<PyObject*>(&PyType_Type), "s(){}", "Probe"));
  std::array<unsigned, 2> versions{};
  for (unsigned& version : versions) {
    if (!type || PyObject_SetAttr(type.get(), state.names.name, Py_None) < 0) return -1;
    if (!Ref::steal(PyObject_GetAttr(type.get(), state.names.name))) return -1;
    version = type_version(type.get());
  }
  return versions[0] != versions[1] || versions[0] == 0;
}

int check_method(Gil, const ModuleState&) noexcept {
  const Ref method = Ref::steal(PyObject_GetAttrString(reinterpret_cast<PyObject*>(&PyUnicode_Type), "join"));
  const Ref empty = Ref::steal(PyUnicode_FromString(""));
  const Ref bound = empty ? Ref::steal(PyObject_GetAttrString(empty.get(), "join")) : Ref();
  if (!method || !bound) return -1;
  return Py_IS_TYPE(method.get(), &PyMethodDescr_Type) && PyCFunction_Check(bound.get()) &&
         function_of(method.get()) == PyCFunction_GetFunction(bound.get());
}

bool shows(PyObject* file, int fd) noexcept { return *number_field_of(file) == fd; }

int check_socket(Gil gil, const ModuleState& state) noexcept {
  std::array<int, 2> pair{};
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair.data()) < 0) {
    raise_errno(gil, static_cast<Errno>(errno));
    return -1;
  }
  UniqueFd ours(pair[0]);
  const UniqueFd theirs(pair[1]);
  bool owned = false;
  const Ref sock = make_socket_object(gil, state, AF_UNIX, SOCK_STREAM, 0, ours.get(), &owned);
  if (owned) (void)ours.take();
  const Ref number = sock ? Ref::steal(PyObject_CallMethodNoArgs(sock.get(), state.names.fileno)) : Ref();
  if (!number) return -1;
  const bool before = shows(sock.get(), pair[0]) && PyLong_AsLong(number.get()) == pair[0];
  const Ref closed = Ref::steal(PyObject_CallMethodNoArgs(sock.get(), state.names.close));
  return closed ? before && shows(sock.get(), -1) : -1;
}

int check_file(Gil gil, const ModuleState& state) noexcept {
  std::array<int, 2> pair{};
  if (pipe2(pair.data(), O_CLOEXEC) < 0) {
    raise_errno(gil, static_cast<Errno>(errno));
    return -1;
  }
  const UniqueFd reading(pair[0]);
  const UniqueFd writing(pair[1]);
  const Ref file = Ref::steal(PyObject_CallFunction(state.imports.file_io, "isO", reading.get(), "r", Py_False));
  return file ? shows(file.get(), reading.get()) : -1;
}

struct Check {
  const char* what;
  int (*run)(Gil, const ModuleState&) noexcept;
};

constexpr Check checks[] = {
    {"the current context of a thread (PyThreadState.context)", check_context},
    {"the version number of a type (tp_version_tag)", check_type_version},
    {"the function of a built-in method (PyMethodDescrObject.d_method)", check_method},
    {"how socket.socket is made and where it keeps its descriptor", check_socket},
    {"where io.FileIO keeps its descriptor", check_file},
};

void raise_changed(Gil gil, const char* what) noexcept {
  const Ref cause = take_exception(gil);
  PyErr_Format(PyExc_ImportError, "cxxloop: this Python (%s) differs from those it was made for in one thing: %s", Py_GetVersion(), what);
  Ref raised = take_exception(gil);
  if (cause) PyException_SetCause(raised.get(), Py_NewRef(cause.get()));
  set_exception(gil, std::move(raised));
}

}  // namespace

Ref make_socket_object(Gil, const ModuleState& state, int family, int type, int proto, int fd, bool* owned) noexcept {
  *owned = false;
  const Ref arguments = Ref::steal(Py_BuildValue("iiii", family, type, proto, fd));
  if (!arguments) return {};
  PyTypeObject* const socket_type = reinterpret_cast<PyTypeObject*>(state.imports.socket_type);
  Ref made = Ref::steal(socket_type->tp_new(socket_type, arguments.get(), nullptr));
  if (!made || socket_type->tp_base->tp_init(made.get(), arguments.get(), nullptr) < 0) return {};
  *owned = true;
  const Ref zero = Ref::steal(PyLong_FromLong(0));
  if (!zero || PyObject_SetAttr(made.get(), state.names._io_refs, zero.get()) < 0) return {};
  return PyObject_SetAttr(made.get(), state.names._closed, Py_False) == 0 ? std::move(made) : Ref();
}

bool check_cpython(Gil gil, const ModuleState& state) noexcept {
  for (const Check& check : checks) {
    const int outcome = check.run(gil, state);
    if (outcome > 0) continue;
    // Out of memory or descriptors, or interrupted: that says nothing of CPython.
    const bool is_known = PyErr_Occurred() == nullptr || PyErr_ExceptionMatches(PyExc_AttributeError) != 0 ||
                          PyErr_ExceptionMatches(PyExc_TypeError) != 0;
    if (is_known) raise_changed(gil, check.what);
    return false;
  }
  return true;
}

}  // namespace cxxloop::python
