// SPDX-License-Identifier: MIT
#include "web/python/header_list.h"

#include <algorithm>
#include <new>

#include "base/assert.h"

namespace cxxloop::python {

void HeaderList::clear() noexcept {
  count_ = 0;
  room_ = inline_max;
  more_.reset();
  pairs_.reset();
  made_.reset();
}

// For so many headers in all.
bool HeaderList::make_room(size_t count) noexcept {
  if (count <= room_) return true;
  std::unique_ptr<web::Header[]> more(new (std::nothrow) web::Header[count]);
  if (more == nullptr) return PyErr_NoMemory() != nullptr;
  std::copy_n(headers(), count_, more.get());
  more_ = std::move(more);
  room_ = count;
  return true;
}

bool HeaderList::keep(PyObject* object) noexcept {
  if (!made_) made_ = Ref::steal(PyList_New(0));
  return made_ && PyList_Append(made_.get(), object) == 0;
}

void HeaderList::add(const web::Header& header) noexcept {
  CXL_ASSERT(count_ < room_);
  new (headers() + count_) web::Header(header);
  ++count_;
}

bool HeaderList::assign(Gil gil, std::span<const web::Header> in_front, PyObject* iterable) noexcept {
  clear();
  // A tuple of its own: the application may change its list before the headers go out.
  pairs_ = iterable != nullptr ? Ref::steal(PySequence_Tuple(iterable)) : Ref();
  if (iterable != nullptr && !pairs_) return false;
  const size_t given = pairs_ ? static_cast<size_t>(PyTuple_GET_SIZE(pairs_.get())) : 0;
  if (!make_room(in_front.size() + given)) return false;
  for (const web::Header& header : in_front) add(header);
  for (size_t i = 0; i < given; ++i) {
    if (!add_pair(gil, PyTuple_GET_ITEM(pairs_.get(), static_cast<Py_ssize_t>(i)))) return false;
  }
  return true;
}

bool HeaderList::append(Gil gil, PyObject* iterable) noexcept {
  const Ref pairs = Ref::steal(PySequence_Tuple(iterable));
  if (!pairs || !keep(pairs.get())) return false;
  const size_t given = static_cast<size_t>(PyTuple_GET_SIZE(pairs.get()));
  if (!make_room(count_ + given)) return false;
  for (size_t i = 0; i < given; ++i) {
    if (!add_pair(gil, PyTuple_GET_ITEM(pairs.get(), static_cast<Py_ssize_t>(i)))) return false;
  }
  return true;
}

bool HeaderList::append(Gil, const web::Header& header) noexcept {
  if (!make_room(count_ + 1)) return false;
  add(header);
  return true;
}

bool HeaderList::assign_values(Gil gil, std::string_view name, PyObject* values) noexcept {
  clear();
  pairs_ = Ref::steal(PySequence_Tuple(values));
  if (!pairs_) return false;
  const size_t given = static_cast<size_t>(PyTuple_GET_SIZE(pairs_.get()));
  if (!make_room(given)) return false;
  for (size_t i = 0; i < given; ++i) {
    web::Header header{name, {}};
    if (!view_bytes(gil, PyTuple_GET_ITEM(pairs_.get(), static_cast<Py_ssize_t>(i)), &header.value)) return false;
    add(header);
  }
  return true;
}

bool HeaderList::add_pair(Gil gil, PyObject* pair) noexcept {
  web::Header header;
  if (PyTuple_CheckExact(pair) && PyTuple_GET_SIZE(pair) == 2) [[likely]] {
    if (!view_bytes(gil, PyTuple_GET_ITEM(pair, 0), &header.name)) return false;
    if (!view_bytes(gil, PyTuple_GET_ITEM(pair, 1), &header.value)) return false;
    add(header);
    return true;
  }
  const Ref items = Ref::steal(PySequence_Tuple(pair));
  if (!items) return false;
  if (PyTuple_GET_SIZE(items.get()) != 2) {
    PyErr_Format(PyExc_ValueError, "a header is a name and a value, not %R", pair);
    return false;
  }
  // The list, or whatever it was, may change: its tuple does not.
  return keep(items.get()) && add_pair(gil, items.get());
}

bool HeaderList::view_bytes(Gil, PyObject* value, std::string_view* view) noexcept {
  PyObject* bytes = value;
  if (!PyBytes_Check(value)) [[unlikely]] {
    if (PyUnicode_Check(value) || !PyObject_CheckBuffer(value)) {
      PyErr_Format(PyExc_TypeError, "names and values of headers must be bytes, not %R", Py_TYPE(value));
      return false;
    }
    const Ref copy = Ref::steal(PyBytes_FromObject(value));
    if (!copy || !keep(copy.get())) return false;
    bytes = copy.get();
  }
  *view = {PyBytes_AS_STRING(bytes), static_cast<size_t>(PyBytes_GET_SIZE(bytes))};
  return true;
}

}  // namespace cxxloop::python
