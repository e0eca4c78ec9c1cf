// SPDX-License-Identifier: MIT
//
// python/interp/heap_type.h: the kit of which every heap type is made: its references, its tables, the type itself.
//
// An object lists its references once, in a member `template <class F> void each_ref(F& f)` that calls f(field, field, ...);
// a field is a Ref, a pointer to an owned object, or a Py_buffer. traverse(), clear() and dealloc() are made of that list.
// References that another function drops (what is queued in a loop, say) stand in a second list, each_kept_ref(f): the
// collector sees them, and nothing here drops them. Neither list may have side effects: the collector asks at any time.
// Thread: any that holds the GIL.
#pragma once

#include <cstddef>
#include <initializer_list>
#include <memory>
#include <type_traits>
#include <utility>

#include "python/interp/ref.h"

namespace cxxloop::python {

// --- references -----------------------------------------------------------------------------------------------

// Shows references to the garbage collector, until it has seen enough.
class ShowRefs {
 public:
  ShowRefs(visitproc visit, void* arg) noexcept : visit_(visit), arg_(arg) {}

  template <class... Refs>
  void operator()(const Refs&... refs) noexcept {
    (show(object_of(refs)), ...);
  }
  [[nodiscard]] int result() const noexcept { return result_; }

 private:
  static PyObject* object_of(const Ref& ref) noexcept { return ref.get(); }
  static PyObject* object_of(const Py_buffer& buffer) noexcept { return buffer.obj; }
  template <class T>
  static PyObject* object_of(T* owned) noexcept {
    return reinterpret_cast<PyObject*>(owned);
  }
  void show(PyObject* object) noexcept {
    if (object != nullptr && result_ == 0) result_ = visit_(object, arg_);
  }

  visitproc visit_;
  void* arg_;
  int result_ = 0;
};

// Drops references, each after its field is null; a Py_buffer as CPython releases it. Runs Python: the destructors of what
// dies.
struct DropRefs {
  template <class... Refs>
  void operator()(Refs&... refs) const noexcept {
    (drop(refs), ...);
  }

 private:
  static void drop(Ref& ref) noexcept { ref.reset(); }
  static void drop(Py_buffer& buffer) noexcept { PyBuffer_Release(&buffer); }
  template <class T>
  static void drop(T*& owned) noexcept {
    if (owned == nullptr) return;
    PyObject* const old = reinterpret_cast<PyObject*>(std::exchange(owned, nullptr));
    Py_DECREF(old);
  }
};
inline constexpr DropRefs drop_refs;

// --- slots made of them: native_of(self) is the object with each_ref() ----------------------------------------

template <auto native_of>
int traverse(PyObject* self, visitproc visit, void* arg) noexcept {
  ShowRefs show(visit, arg);
  auto& native = native_of(self);
  show(Py_TYPE(self));
  native.each_ref(show);
  if constexpr (requires { native.each_kept_ref(show); }) native.each_kept_ref(show);
  return show.result();
}

template <auto native_of>
int clear(PyObject* self) noexcept {
  native_of(self).each_ref(drop_refs);
  return 0;
}

// The last step of every tp_dealloc.
inline void free_object(PyObject* self) noexcept {
  PyTypeObject* const type = Py_TYPE(self);
  type->tp_free(self);
  Py_DECREF(type);
}

// For objects that need no more than that their references are dropped and their native part is destroyed. Without a
// destructor it may be the whole object, whose head free_object() has still to read.
template <auto native_of>
void dealloc(PyObject* self) noexcept {
  auto& native = native_of(self);
  if constexpr (requires { native.each_ref(drop_refs); }) {
    PyObject_GC_UnTrack(self);
    native.each_ref(drop_refs);
  }
  if constexpr (!std::is_trivially_destructible_v<std::remove_reference_t<decltype(native)>>) std::destroy_at(&native);
  free_object(self);
}

// --- tables: constants that end with an empty row -------------------------------------------------------------

// A PyMethodDef whose function has the type that its flags promise.
struct Method {
  using Function = PyObject* (*)(PyObject* self, PyObject* argument);
  using FunctionOfTuple = PyObject* (*)(PyObject* self, PyObject* args, PyObject* keywords);
  using FunctionOfArray = PyObject* (*)(PyObject* self, PyObject* const* args, Py_ssize_t nargs);
  using FunctionOfNamed = PyObject* (*)(PyObject* self, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames);

  constexpr Method() noexcept : function(nullptr) {}
  // METH_NOARGS or METH_O.
  constexpr Method(const char* its_name, Function f, int its_flags, const char* its_doc) noexcept
      : name(its_name), function(f), flags(its_flags), doc(its_doc) {}
  constexpr Method(const char* its_name, FunctionOfTuple f, const char* its_doc) noexcept
      : name(its_name), of_tuple(f), flags(METH_VARARGS | METH_KEYWORDS), doc(its_doc) {}
  constexpr Method(const char* its_name, FunctionOfArray f, const char* its_doc) noexcept
      : name(its_name), of_array(f), flags(METH_FASTCALL), doc(its_doc) {}
  constexpr Method(const char* its_name, FunctionOfNamed f, const char* its_doc) noexcept
      : name(its_name), of_named(f), flags(METH_FASTCALL | METH_KEYWORDS), doc(its_doc) {}

  // CPython's view of it and of the rows behind it.
  [[nodiscard]] PyMethodDef* definition() const noexcept {
    return reinterpret_cast<PyMethodDef*>(const_cast<Method*>(this));
  }

  const char* name = nullptr;
  union {
    Function function;
    FunctionOfTuple of_tuple;
    FunctionOfArray of_array;
    FunctionOfNamed of_named;
  };
  int flags = 0;
  const char* doc = nullptr;
};
static_assert(sizeof(Method) == sizeof(PyMethodDef) && offsetof(Method, function) == offsetof(PyMethodDef, ml_meth) &&
                  offsetof(Method, flags) == offsetof(PyMethodDef, ml_flags) &&
                  offsetof(Method, doc) == offsetof(PyMethodDef, ml_doc),
              "CPython reads a Method as a PyMethodDef");

// An attribute that functions get and set.
struct Attribute : PyGetSetDef {
  constexpr Attribute() noexcept : PyGetSetDef{} {}
  constexpr Attribute(const char* its_name, getter its_get, setter its_set = nullptr, const char* its_doc = nullptr) noexcept
      : PyGetSetDef{its_name, its_get, its_set, its_doc, nullptr} {}
};
static_assert(sizeof(Attribute) == sizeof(PyGetSetDef), "an array of them is one of PyGetSetDef");

// --- the type -------------------------------------------------------------------------------------------------

struct TypeSpec {
  const char* name;                                      // "cxxloop._core.Name"
  size_t object_bytes;
  unsigned flags = 0;                                    // besides the default ones, and that of the garbage collector
  const char* doc = nullptr;
  PyObject* base = nullptr;                              // a type, or a tuple of types; null: object
  std::initializer_list<const Method*> methods = {};     // several tables: not for an immutable type
  std::initializer_list<const Attribute*> attributes = {};  // likewise
  const PyMemberDef* members = nullptr;
  newfunc make = nullptr;
  traverseproc traverse = nullptr;                       // null: what the objects refer to is in no cycle
  inquiry clear = nullptr;                               // null: another object in every cycle has one
  destructor finalize = nullptr;
  destructor dealloc = nullptr;
  reprfunc repr = nullptr;
  setattrofunc setattro = nullptr;
  lenfunc length = nullptr;
  binaryfunc subscript = nullptr;
  ternaryfunc call = nullptr;                            // PyVectorcall_Call, with "__vectorcalloffset__" in `members`
  unaryfunc await = nullptr;
  sendfunc send = nullptr;
  getiterfunc iter = nullptr;
  iternextfunc next = nullptr;
  bool is_public = true;                                 // True: it becomes an attribute of the module
};

// A new type of the module; null: the indicator is set.
[[nodiscard]] PyTypeObject* make_heap_type(Gil gil, PyObject* module, const TypeSpec& spec) noexcept;

// --- what methods return --------------------------------------------------------------------------------------

// None, or null when `succeeded` is false.
[[nodiscard]] inline PyObject* none_if(bool succeeded) noexcept { return succeeded ? Py_NewRef(Py_None) : nullptr; }

}  // namespace cxxloop::python
