// SPDX-License-Identifier: MIT
//
// web/python/object_pool.h: dead objects of one type, kept for the next request: an allocation less for each of them.
//
// The pools lie in the server, which every object of theirs keeps alive, also when an interpreter ends and modules die
// before what they made.
// Thread: any that holds the GIL.  Owns: the memory of what it keeps.
#pragma once

#include <array>
#include <cstddef>

#include "python/interp/ref.h"

namespace cxxloop::python {

class ObjectPool {
 public:
  static constexpr size_t objects_max = 256;

  ObjectPool() noexcept = default;
  ObjectPool(const ObjectPool&) = delete;
  ObjectPool& operator=(const ObjectPool&) = delete;
  ~ObjectPool() {
    while (count_ > 0) PyObject_GC_Del(objects_[--count_]);
  }

  // A new reference to an object that the collector does not see yet; what lies behind its head is not initialised.
  // Null: the indicator is set.
  template <class T>
  [[nodiscard]] T* make(Gil, PyTypeObject* type) noexcept {
    if (count_ == 0) return PyObject_GC_New(T, type);
    PyObject* const object = objects_[--count_];
    return reinterpret_cast<T*>(PyObject_Init(object, type));
  }

  // The last step of tp_dealloc: takes the memory of an object whose references are gone and which is not tracked.
  void recycle(PyObject* object) noexcept {
    PyTypeObject* const type = Py_TYPE(object);
    if (count_ < objects_max) {
      objects_[count_++] = object;
    } else {
      PyObject_GC_Del(object);
    }
    Py_DECREF(type);
  }

 private:
  size_t count_ = 0;
  std::array<PyObject*, objects_max> objects_;  // the first count_ are valid
};

}  // namespace cxxloop::python
