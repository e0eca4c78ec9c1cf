// SPDX-License-Identifier: MIT
#include "python/interp/heap_type.h"

#include <array>
#include <type_traits>

#include "base/assert.h"

namespace cxxloop::python {
namespace {

class Slots {
 public:
  // A null value: the slot stays empty.
  template <class T>
  void add(int slot, T* value) noexcept {
    if (value == nullptr) return;
    CXL_CHECK(used_ + 1 < slots_.size());
    slots_[used_++] = {slot, pointer_of(value)};
  }
  [[nodiscard]] PyType_Slot* data() noexcept { return slots_.data(); }

 private:
  template <class T>
  static void* pointer_of(T* value) noexcept {
    if constexpr (std::is_function_v<T>) return reinterpret_cast<void*>(value);
    else return const_cast<void*>(static_cast<const void*>(value));
  }

  std::array<PyType_Slot, 20> slots_{};
  size_t used_ = 0;
};

Slots slots_of(const TypeSpec& spec) noexcept {
  Slots slots;
  slots.add(Py_tp_doc, spec.doc);
  slots.add(Py_tp_methods, spec.methods.size() > 0 ? (*spec.methods.begin())->definition() : nullptr);
  slots.add(Py_tp_getset, spec.attributes.size() > 0 ? *spec.attributes.begin() : nullptr);
  slots.add(Py_tp_members, spec.members);
  slots.add(Py_tp_new, spec.make);
  slots.add(Py_tp_traverse, spec.traverse);
  slots.add(Py_tp_clear, spec.clear);
  slots.add(Py_tp_finalize, spec.finalize);
  slots.add(Py_tp_dealloc, spec.dealloc);
  slots.add(Py_tp_repr, spec.repr);
  slots.add(Py_tp_setattro, spec.setattro);
  slots.add(Py_sq_length, spec.length);
  slots.add(Py_mp_subscript, spec.subscript);
  slots.add(Py_tp_call, spec.call);
  slots.add(Py_am_await, spec.await);
  slots.add(Py_am_send, spec.send);
  slots.add(Py_tp_iter, spec.iter);
  slots.add(Py_tp_iternext, spec.next);
  return slots;
}

bool set(PyTypeObject* type, const char* name, const Ref& descriptor) noexcept {
  return descriptor && PyObject_SetAttrString(reinterpret_cast<PyObject*>(type), name, descriptor.get()) == 0;
}

bool add_methods(PyTypeObject* type, const Method* methods) noexcept {
  for (; methods->name != nullptr; ++methods) {
    if (!set(type, methods->name, Ref::steal(PyDescr_NewMethod(type, methods->definition())))) return false;
  }
  return true;
}

bool add_attributes(PyTypeObject* type, const Attribute* attributes) noexcept {
  for (; attributes->name != nullptr; ++attributes) {
    if (!set(type, attributes->name, Ref::steal(PyDescr_NewGetSet(type, const_cast<Attribute*>(attributes))))) return false;
  }
  return true;
}

// The tables behind the first ones, which are slots.
bool add_further_tables(PyTypeObject* type, const TypeSpec& spec) noexcept {
  for (const Method* const table : spec.methods) {
    if (table != *spec.methods.begin() && !add_methods(type, table)) return false;
  }
  for (const Attribute* const table : spec.attributes) {
    if (table != *spec.attributes.begin() && !add_attributes(type, table)) return false;
  }
  return true;
}

}  // namespace

PyTypeObject* make_heap_type(Gil, PyObject* module, const TypeSpec& spec) noexcept {
  Slots slots = slots_of(spec);
  const unsigned flags = Py_TPFLAGS_DEFAULT | spec.flags | (spec.traverse != nullptr ? Py_TPFLAGS_HAVE_GC : 0);
  PyType_Spec python_spec = {spec.name, static_cast<int>(spec.object_bytes), 0, flags, slots.data()};
  Ref made = Ref::steal(PyType_FromModuleAndSpec(module, &python_spec, spec.base));
  PyTypeObject* const type = reinterpret_cast<PyTypeObject*>(made.get());
  if (type == nullptr || !add_further_tables(type, spec)) return nullptr;
  if (spec.is_public && PyModule_AddType(module, type) < 0) return nullptr;
  return reinterpret_cast<PyTypeObject*>(made.release());
}

}  // namespace cxxloop::python
