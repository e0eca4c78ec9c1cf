// SPDX-License-Identifier: MIT
//
// web/python/server_type.cc: the Python face of WebServer: _web.Server.
#include <memory>
#include <new>

#include "web/python/tls_libssl.h"
#include "web/python/web_server.h"

namespace cxxloop::python {
namespace {

WebServer& native_of(PyObject* self) noexcept { return reinterpret_cast<WebServerObject*>(self)->native(); }

bool check_callable(const char* name, PyObject* object, bool may_be_none) noexcept {
  if (PyCallable_Check(object) != 0 || (may_be_none && object == Py_None)) return true;
  PyErr_Format(PyExc_TypeError, "%s must be callable, not %R", name, Py_TYPE(object));
  return false;
}

bool check_args(const WebServerArgs& args) noexcept {
  if (!PyDict_Check(args.options)) {
    PyErr_Format(PyExc_TypeError, "options must be a dict, not %R", Py_TYPE(args.options));
    return false;
  }
  if (args.state != Py_None && !PyDict_Check(args.state)) {
    PyErr_Format(PyExc_TypeError, "state must be a dict or None, not %R", Py_TYPE(args.state));
    return false;
  }
  return check_callable("app", args.app, false) && check_callable("on_idle", args.on_idle, false) &&
         check_callable("on_access", args.on_access, true) && check_callable("on_error", args.on_error, false);
}

PyObject* server_new(PyTypeObject* type, PyObject* args, PyObject* keywords) {
  const Gil gil = Gil::in_slot();
  static const char* const names[] = {"loop", "app", "options", "state", "on_idle", "on_access", "on_error", nullptr};
  PyObject* loop = nullptr;
  WebServerArgs given{};
  if (PyArg_ParseTupleAndKeywords(args, keywords, "OO$OOOOO:Server", const_cast<char**>(names), &loop, &given.app,
                                  &given.options, &given.state, &given.on_idle, &given.on_access, &given.on_error) == 0) {
    return nullptr;
  }
  for (PyObject* const object : {given.options, given.state, given.on_idle, given.on_access, given.on_error}) {
    if (object != nullptr) continue;
    PyErr_SetString(PyExc_TypeError, "Server() needs options, state, on_idle, on_access and on_error");
    return nullptr;
  }
  PyObject* const module = PyType_GetModule(type);
  if (module == nullptr || !check_args(given)) return nullptr;
  WebServerObject* const object = PyObject_GC_New(WebServerObject, type);
  if (object == nullptr) return nullptr;
  Ref self = Ref::steal(reinterpret_cast<PyObject*>(object));
  WebServer& server = *new (object->storage) WebServer(self.get(), web_state_of(module), loop);
  PyObject_GC_Track(object);
  return server.open(gil, given) ? self.release() : nullptr;
}

PyObject* server_listen(PyObject* self, PyObject* number) {
  const long fd = PyLong_AsLong(number);
  if (fd == -1 && PyErr_Occurred() != nullptr) return nullptr;
  return none_if(native_of(self).listen(Gil::in_slot(), static_cast<int>(fd)));
}

PyObject* server_stop_listening(PyObject* self, PyObject*) {
  native_of(self).stop_listening();
  Py_RETURN_NONE;
}

PyObject* server_drain(PyObject* self, PyObject*) {
  native_of(self).drain();
  Py_RETURN_NONE;
}

PyObject* server_close(PyObject* self, PyObject*) {
  native_of(self).close(Gil::in_slot());
  Py_RETURN_NONE;
}

PyObject* server_set_limits(PyObject* self, PyObject* changes) {
  if (!PyDict_Check(changes)) {
    PyErr_Format(PyExc_TypeError, "limits must be a dict, not %R", Py_TYPE(changes));
    return nullptr;
  }
  return none_if(native_of(self).set_limits(Gil::in_slot(), changes));
}

PyObject* server_counters(PyObject* self, PyObject*) { return native_of(self).counters(Gil::in_slot()).release(); }
PyObject* server_tasks(PyObject* self, PyObject*) { return native_of(self).tasks(Gil::in_slot()).release(); }

// The version text of the libssl that serves TLS, or None.
PyObject* server_tls_library(PyObject*, PyObject*) {
  const web::TlsLibrary* const library = find_libssl(Gil::in_slot());
  if (library == nullptr) Py_RETURN_NONE;
  return PyUnicode_FromString(library->OpenSSL_version(0));
}

constexpr Method server_methods[] = {
    {"tls_library", server_tls_library, METH_NOARGS | METH_STATIC,
     "tls_library()\n--\n\nReturn the version of Python's libssl, as ssl.OPENSSL_VERSION, if it can be used directly; else None."},
    {"listen", server_listen, METH_O,
     "listen($self, fd, /)\n--\n\n"
     "Accept connections of a listening, non-blocking socket, whose descriptor is borrowed until stop_listening().\n\n"
     "Raises OSError if the descriptor cannot be watched, RuntimeError if the server or its loop is closed."},
    {"stop_listening", server_stop_listening, METH_NOARGS,
     "stop_listening($self, /)\n--\n\nAccept no more connections; those that are open go on."},
    {"drain", server_drain, METH_NOARGS,
     "drain($self, /)\n--\n\n"
     "Stop listening, and end each connection after the request that it serves. on_idle() is called when none is left."},
    {"close", server_close, METH_NOARGS,
     "close($self, /)\n--\n\nEnd every connection at once. The tasks of applications go on: see tasks()."},
    {"set_limits", server_set_limits, METH_O,
     "set_limits($self, limits, /)\n--\n\nChange limits of requests that begin from now on; names as in options."},
    {"counters", server_counters, METH_NOARGS,
     "counters($self, /)\n--\n\nReturn what the server has counted since it was made, as a dict of int."},
    {"tasks", server_tasks, METH_NOARGS, "tasks($self, /)\n--\n\nReturn a list of the tasks that run an application now."},
    {},
};

int server_clear(PyObject* self) {
  native_of(self).clear(Gil::in_slot());
  return 0;
}

void server_dealloc(PyObject* self) {
  PyObject_GC_UnTrack(self);
  server_clear(self);
  std::destroy_at(&native_of(self));
  free_object(self);
}

}  // namespace

bool add_server_type(Gil gil, PyObject* module, WebState& state) noexcept {
  state.server_type = make_heap_type(gil, module, {
      .name = "cxxloop._web.Server",
      .object_bytes = sizeof(WebServerObject),
      .flags = Py_TPFLAGS_IMMUTABLETYPE,
      .doc = "Server(loop, app, *, options, state, on_idle, on_access, on_error)\n--\n\n"
             "An HTTP server that runs an ASGI 3 application on a cxxloop loop.",
      .methods = {server_methods},
      .make = server_new,
      .traverse = traverse<native_of>,
      .clear = server_clear,
      .dealloc = server_dealloc,
  });
  return state.server_type != nullptr;
}

}  // namespace cxxloop::python
