// SPDX-License-Identifier: MIT
//
// python/interp/ref.h: an owned reference. A raw PyObject* parameter is always borrowed; a Ref owns.
#pragma once

#include <utility>

#include "python/interp/gil.h"

namespace cxxloop::python {

class Ref {
 public:
  Ref() noexcept = default;
  Ref(Ref&& other) noexcept : object_(std::exchange(other.object_, nullptr)) {}
  Ref& operator=(Ref&& other) noexcept {
    // The field is changed before the old object dies: its destructor may look at the field.
    PyObject* const old = std::exchange(object_, std::exchange(other.object_, nullptr));
    Py_XDECREF(old);
    return *this;
  }
  Ref(const Ref&) = delete;
  Ref& operator=(const Ref&) = delete;
  ~Ref() { Py_XDECREF(object_); }

  // Takes over a new reference, or null.
  static Ref steal(PyObject* object) noexcept { return Ref(object); }
  // Adds a reference to `object`, or null.
  static Ref borrow(PyObject* object) noexcept {
    Py_XINCREF(object);
    return Ref(object);
  }

  [[nodiscard]] PyObject* get() const noexcept { return object_; }
  [[nodiscard]] PyObject* release() noexcept { return std::exchange(object_, nullptr); }
  [[nodiscard]] Ref take() noexcept { return Ref(std::exchange(object_, nullptr)); }
  void reset() noexcept { *this = Ref(); }
  // A new reference for a getter; None for null.
  [[nodiscard]] PyObject* new_ref_or_none() const noexcept {
    PyObject* const object = object_ != nullptr ? object_ : Py_None;
    Py_INCREF(object);
    return object;
  }
  explicit operator bool() const noexcept { return object_ != nullptr; }

 private:
  explicit Ref(PyObject* object) noexcept : object_(object) {}
  PyObject* object_ = nullptr;
};

// For the queues of net, which keep an owner without knowing what it is: drops the reference.
inline void release_owner(void* owner) noexcept { Py_DECREF(static_cast<PyObject*>(owner)); }

}  // namespace cxxloop::python
