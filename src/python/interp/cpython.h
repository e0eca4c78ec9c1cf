// SPDX-License-Identifier: MIT
//
// python/interp/cpython.h: what we know of CPython beyond its documented interface, one function for each thing.
//
// Each says which versions were read, and which documented way it stands for. check_cpython() tries them at import, so that
// a Python which differs is refused with one clear ImportError instead of reading what is no longer there.
// Thread: any that holds the GIL.
#pragma once

#include "python/interp/module_state.h"

namespace cxxloop::python {

// The thread's current context; borrowed, null: none was entered yet. Read on 3.11 to 3.15: PyThreadState::context.
// Stands for contextvars.copy_context(), which makes an object.
inline PyObject* current_context(Gil) noexcept { return PyThreadState_Get()->context; }

// A number that changes with the type or one of its bases, once an attribute was looked up on it; 0: CPython has run out
// of numbers. Read on 3.11 to 3.15: tp_version_tag. Stands for looking up each of its attributes anew.
inline unsigned type_version(PyObject* type) noexcept { return reinterpret_cast<PyTypeObject*>(type)->tp_version_tag; }

// The C function behind a method of a native type. REQUIRES: Py_IS_TYPE(method, &PyMethodDescr_Type). Read on 3.11 to
// 3.15: PyMethodDescrObject::d_method. Stands for comparing what repr() shows.
inline PyCFunction function_of(PyObject* method) noexcept {
  return reinterpret_cast<PyMethodDescrObject*>(method)->d_method->ml_meth;
}

// Where a socket.socket or io.FileIO keeps the number of its descriptor. Read on 3.11 to 3.15: the first field of
// PySocketSockObject and of fileio. Stands for fileno().
inline const int* number_field_of(PyObject* file) noexcept {
  return reinterpret_cast<const int*>(reinterpret_cast<const char*>(file) + sizeof(PyObject));
}

// A socket.socket that owns `fd`, of a type number that may carry SOCK_NONBLOCK; null: the indicator is set, and *owned says
// whether the object that died has closed `fd`. Read on 3.11 to 3.15: socket.socket adds _io_refs and _closed to
// _socket.socket. Stands for socket.socket(family, type, proto, fileno=fd), whose constructor is Python code: a
// KeyboardInterrupt inside it would leave the descriptor without an owner.
Ref make_socket_object(Gil gil, const ModuleState& state, int family, int type, int proto, int fd, bool* owned) noexcept;

// Tries all of these. False: ImportError is set.
[[nodiscard]] bool check_cpython(Gil gil, const ModuleState& state) noexcept;

}  // namespace cxxloop::python
