// SPDX-License-Identifier: MIT
//
// web/python/asgi_call_type.cc: the Python face of AsgiCall: a coroutine, and the functions receive and send.
#include <Python.h>
#include <structmember.h>

#include <cstddef>

#include "web/python/asgi_call.h"
#include "web/python/coroutine_step.h"
#include "web/python/web_server.h"

namespace cxxloop::python {
namespace {

AsgiCall& native_of(PyObject* self) noexcept { return AsgiCall::of(self); }

// --- the coroutine --------------------------------------------------------------------------------------------

PySendResult call_am_send(PyObject* self, PyObject* value, PyObject** result) {
  return native_of(self).resume(Gil::in_slot(), value, result);
}

PyObject* call_next(PyObject* self) {
  PyObject* result = nullptr;
  const PySendResult how = native_of(self).resume(Gil::in_slot(), Py_None, &result);
  return next_of_step(how, result);
}

PyObject* call_send(PyObject* self, PyObject* value) {
  PyObject* result = nullptr;
  const PySendResult how = native_of(self).resume(Gil::in_slot(), value, &result);
  return result_of_step(how, result);
}

PyObject* call_throw(PyObject* self, PyObject* const* args, Py_ssize_t nargs) {
  PyObject* result = nullptr;
  const PySendResult how = native_of(self).throw_into(Gil::in_slot(), args, nargs, &result);
  return result_of_step(how, result);
}

PyObject* call_close(PyObject* self, PyObject*) { return none_if(native_of(self).close(Gil::in_slot())); }

// What the application's coroutine says; None if it has none, or is no coroutine.
PyObject* of_coroutine(PyObject* self, const char* attribute) noexcept {
  const Ref coroutine = Ref::borrow(native_of(self).coroutine());
  PyObject* const value = coroutine ? PyObject_GetAttrString(coroutine.get(), attribute) : Py_NewRef(Py_None);
  if (value != nullptr || PyErr_ExceptionMatches(PyExc_AttributeError) == 0) return value;
  PyErr_Clear();
  Py_RETURN_NONE;
}

// Without a coroutine, as before the first step and after the last: the name of the type.
PyObject* name_of_coroutine(PyObject* self, const char* attribute) noexcept {
  Ref name = Ref::steal(of_coroutine(self, attribute));
  return name.get() != Py_None ? name.release() : PyUnicode_FromString("Call");
}

PyObject* get_name(PyObject* self, void*) { return name_of_coroutine(self, "__name__"); }
PyObject* get_qualname(PyObject* self, void*) { return name_of_coroutine(self, "__qualname__"); }
PyObject* get_frame(PyObject* self, void*) { return of_coroutine(self, "cr_frame"); }
PyObject* get_code(PyObject* self, void*) { return of_coroutine(self, "cr_code"); }
PyObject* get_awaited(PyObject* self, void*) { return of_coroutine(self, "cr_await"); }
PyObject* get_origin(PyObject* self, void*) { return of_coroutine(self, "cr_origin"); }
PyObject* get_running(PyObject* self, void*) { return PyBool_FromLong(native_of(self).is_running()); }
PyObject* get_suspended(PyObject* self, void*) { return PyBool_FromLong(native_of(self).is_suspended()); }
// What inspect.getcoroutinestate() of 3.15 asks for, and makes of the others before.
PyObject* get_state(PyObject* self, void*) {
  const AsgiCall& call = native_of(self);
  if (call.is_running()) return PyUnicode_FromString("CORO_RUNNING");
  if (call.is_suspended()) return PyUnicode_FromString("CORO_SUSPENDED");
  const Ref frame = Ref::steal(get_frame(self, nullptr));
  if (!frame) return nullptr;
  return PyUnicode_FromString(frame.get() == Py_None ? "CORO_CLOSED" : "CORO_CREATED");
}

constexpr Method call_methods[] = {
    {"send", call_send, METH_O, "send($self, value, /)\n--\n\nGo on with the application; see coroutine.send()."},
    {"throw", call_throw, "throw($self, *exception)\n--\n\nRaise an exception in the application; see coroutine.throw()."},
    {"close", call_close, METH_NOARGS, "close($self, /)\n--\n\nEnd the application; see coroutine.close()."},
    {},
};

constexpr Attribute call_attributes[] = {
    {"__name__", get_name},      {"__qualname__", get_qualname},  {"cr_frame", get_frame},
    {"cr_code", get_code},       {"cr_await", get_awaited},       {"cr_origin", get_origin},
    {"cr_running", get_running}, {"cr_suspended", get_suspended}, {"cr_state", get_state},
    {},
};

void call_dealloc(PyObject* self) {
  PyObject_GC_UnTrack(self);
  AsgiCall& call = native_of(self);
  WebServer& server = call.server();
  const Ref server_object = Ref::steal(server.object());  // keeps the pool
  std::destroy_at(&call);
  server.pools().calls.recycle(self);
}

// --- receive and send -----------------------------------------------------------------------------------------

CallableObject& callable_of(PyObject* self) noexcept { return *reinterpret_cast<CallableObject*>(self); }

PyObject* receive_vectorcall(PyObject* self, PyObject* const*, size_t nargsf, PyObject* kwnames) {
  if (PyVectorcall_NARGS(nargsf) != 0 || kwnames != nullptr) {
    PyErr_SetString(PyExc_TypeError, "receive() takes no arguments");
    return nullptr;
  }
  return AsgiOp::make(Gil::in_slot(), *callable_of(self).call, nullptr);
}

PyObject* send_vectorcall(PyObject* self, PyObject* const* args, size_t nargsf, PyObject* kwnames) {
  const Py_ssize_t keywords = kwnames != nullptr ? PyTuple_GET_SIZE(kwnames) : 0;
  const bool is_one = PyVectorcall_NARGS(nargsf) + keywords == 1;
  if (!is_one || (keywords == 1 && PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(kwnames, 0), "message") != 0)) {
    PyErr_SetString(PyExc_TypeError, "send() takes exactly one argument: message");
    return nullptr;
  }
  return AsgiOp::make(Gil::in_slot(), *callable_of(self).call, args[0]);
}

Ref make_callable(Gil gil, CallObject& call, PyTypeObject* type, vectorcallfunc function) noexcept {
  CallableObject* const object = call.native().server().pools().callables.make<CallableObject>(gil, type);
  if (object == nullptr) return {};
  object->vectorcall = function;
  Py_INCREF(&call);
  object->call = &call;
  PyObject_GC_Track(object);
  return Ref::steal(reinterpret_cast<PyObject*>(object));
}

void callable_dealloc(PyObject* self) {
  PyObject_GC_UnTrack(self);
  const Ref call = Ref::steal(reinterpret_cast<PyObject*>(callable_of(self).call));  // keeps the pool
  AsgiCall::of(call.get()).server().pools().callables.recycle(self);
}

constexpr PyMemberDef callable_members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(CallableObject, vectorcall), READONLY, nullptr},
    {nullptr, 0, 0, 0, nullptr},
};

PyTypeObject* make_callable_type(Gil gil, PyObject* module, const char* name, const char* doc) noexcept {
  return make_heap_type(gil, module, {
      .name = name,
      .object_bytes = sizeof(CallableObject),
      .flags = Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_HAVE_VECTORCALL,
      .doc = doc,
      .members = callable_members,
      .traverse = traverse<callable_of>,
      .dealloc = callable_dealloc,
      .call = PyVectorcall_Call,
      .is_public = false,
  });
}

}  // namespace

Ref make_receive(Gil gil, CallObject& call) noexcept {
  return make_callable(gil, call, call.native().server().state().receive_type, receive_vectorcall);
}

Ref make_send(Gil gil, CallObject& call) noexcept {
  return make_callable(gil, call, call.native().server().state().send_type, send_vectorcall);
}

bool add_call_type(Gil gil, PyObject* module, WebState& state) noexcept {
  state.call_type = make_heap_type(gil, module, {
      .name = "cxxloop._web.Call",
      .object_bytes = sizeof(CallObject),
      .flags = Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
      .doc = "The coroutine that a request's task runs: a call of the application.",
      .methods = {call_methods},
      .attributes = {call_attributes},
      .traverse = traverse<native_of>,
      .clear = clear<native_of>,
      .dealloc = call_dealloc,
      .await = PyObject_SelfIter,
      .send = call_am_send,
      .iter = PyObject_SelfIter,
      .next = call_next,
      .is_public = false,
  });
  return state.call_type != nullptr;
}

bool add_callable_types(Gil gil, PyObject* module, WebState& state) noexcept {
  state.receive_type = make_callable_type(gil, module, "cxxloop._web.Receive",
                                          "receive() of an ASGI application: the next event of its request.");
  state.send_type =
      state.receive_type != nullptr
          ? make_callable_type(gil, module, "cxxloop._web.Send", "send() of an ASGI application: a message of its response.")
          : nullptr;
  return state.send_type != nullptr;
}

}  // namespace cxxloop::python
