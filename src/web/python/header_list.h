// SPDX-License-Identifier: MIT
//
// web/python/header_list.h: headers that an application gives, as the core takes them.
//
// Thread: any that holds the GIL.  Owns: a reference to whatever its views point into.
#pragma once

#include <memory>
#include <span>

#include "python/interp/heap_type.h"
#include "web/core/header_line.h"

namespace cxxloop::python {

class HeaderList {
 public:
  // Replaces what was there by `in_front`, which outlives this, and an iterable of (name, value), both bytes-like; null: by
  // no more. False: the indicator is set. Runs Python: the iterable.
  [[nodiscard]] bool assign(Gil gil, std::span<const web::Header> in_front, PyObject* iterable) noexcept;
  // Adds more of them to those that were added. Likewise.
  [[nodiscard]] bool append(Gil gil, PyObject* iterable) noexcept;
  // Adds one whose views outlive this. False: the indicator is set.
  [[nodiscard]] bool append(Gil gil, const web::Header& header) noexcept;
  // Replaces what was there by a header of one name for each value of an iterable. Likewise.
  [[nodiscard]] bool assign_values(Gil gil, std::string_view name, PyObject* values) noexcept;
  void clear() noexcept;
  [[nodiscard]] std::span<const web::Header> view() const noexcept { return {headers(), count_}; }

 private:
  static constexpr size_t inline_max = 24;

  [[nodiscard]] web::Header* headers() noexcept { return more_ != nullptr ? more_.get() : inline_headers(); }
  [[nodiscard]] const web::Header* headers() const noexcept { return more_ != nullptr ? more_.get() : inline_headers(); }
  [[nodiscard]] web::Header* inline_headers() noexcept { return reinterpret_cast<web::Header*>(inline_); }
  [[nodiscard]] const web::Header* inline_headers() const noexcept { return reinterpret_cast<const web::Header*>(inline_); }
  [[nodiscard]] bool make_room(size_t count) noexcept;
  [[nodiscard]] bool keep(PyObject* object) noexcept;
  [[nodiscard]] bool add_pair(Gil gil, PyObject* pair) noexcept;
  [[nodiscard]] bool view_bytes(Gil gil, PyObject* value, std::string_view* view) noexcept;
  void add(const web::Header& header) noexcept;

  size_t count_ = 0;
  size_t room_ = inline_max;
  std::unique_ptr<web::Header[]> more_;  // null: they are in inline_
  Ref pairs_;                            // a tuple: what the application gave
  Ref made_;                             // a list: what else the views point into; null: nothing
  // Not initialised beyond `count_`: most responses have two or three.
  alignas(web::Header) unsigned char inline_[inline_max * sizeof(web::Header)];
};

}  // namespace cxxloop::python
