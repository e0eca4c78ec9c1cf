// SPDX-License-Identifier: MIT
#include "web/python/handler_table.h"

#include <structmember.h>

#include <algorithm>
#include <new>

namespace cxxloop::python {
namespace {

constexpr const char* request_slot_names[] = {"_body",  "_headers", "_loads", "_query",      "_receive",
                                              "_scope", "method",   "path",   "path_params", "state"};
constexpr const char* response_slot_names[] = {"body", "headers", "status"};
static_assert(std::size(request_slot_names) == static_cast<size_t>(RequestSlot::size));
static_assert(std::size(response_slot_names) == static_cast<size_t>(ResponseSlot::size));

// False: the indicator is set.
bool find_slot(PyObject* type, const char* name, Py_ssize_t* offset) noexcept {
  const Ref descriptor = Ref::steal(PyObject_GetAttrString(type, name));
  if (!descriptor) return false;
  if (!Py_IS_TYPE(descriptor.get(), &PyMemberDescr_Type)) {
    PyErr_Format(PyExc_TypeError, "%s of %R is no slot", name, type);
    return false;
  }
  *offset = reinterpret_cast<PyMemberDescrObject*>(descriptor.get())->d_member->offset;
  return true;
}

template <size_t count>
bool find_slots(PyObject* type, const char* const (&names)[count], std::array<Py_ssize_t, count>& offsets) noexcept {
  for (size_t i = 0; i < count; ++i) {
    if (!find_slot(type, names[i], &offsets[i])) return false;
  }
  return true;
}

// Empty with the indicator set: it has no UTF-8.
std::string_view utf8_of(PyObject* text) noexcept {
  Py_ssize_t size = 0;
  const char* const bytes = PyUnicode_AsUTF8AndSize(text, &size);
  return bytes != nullptr ? std::string_view(bytes, static_cast<size_t>(size)) : std::string_view();
}

// The names of the parameters of a path, in their order.
bool read_names(std::string_view path, std::vector<Ref>& names) noexcept {
  for (size_t at = path.find('{'); at != path.npos; at = path.find('{', at + 1)) {
    const std::string_view name = path.substr(at + 1, path.find_first_of(":}", at) - at - 1);
    Ref text = Ref::steal(PyUnicode_FromStringAndSize(name.data(), static_cast<Py_ssize_t>(name.size())));
    if (!text) return false;
    PyObject* interned = text.release();
    PyUnicode_InternInPlace(&interned);
    names.push_back(Ref::steal(interned));
  }
  return true;
}

Ref make_value(const HandlerRouter::Value& value) noexcept {
  if (!value.is_int) {
    return Ref::steal(PyUnicode_FromStringAndSize(value.text.data(), static_cast<Py_ssize_t>(value.text.size())));
  }
  long long number = 0;
  for (const char digit : value.text) number = number * 10 + (digit - '0');
  return Ref::steal(PyLong_FromLongLong(number));
}

}  // namespace

bool HandlerTable::open(Gil, HandlerKinds kinds, Py_ssize_t body_bytes_max) noexcept {
  kinds_ = std::move(kinds);
  body_bytes_max_ = static_cast<size_t>(std::max<Py_ssize_t>(body_bytes_max, 0));
  return find_slots(kinds_.request_type.get(), request_slot_names, request_slots_) &&
         find_slots(kinds_.response_type.get(), response_slot_names, response_slots_);
}

bool HandlerTable::add(Gil, PyObject* method, PyObject* path, HandlerRoute route) noexcept {
  const std::string_view method_text = utf8_of(method);
  const std::string_view path_text = PyErr_Occurred() == nullptr ? utf8_of(path) : std::string_view();
  if (PyErr_Occurred() != nullptr) {
    if (PyErr_ExceptionMatches(PyExc_UnicodeEncodeError) == 0) return false;
    PyErr_Clear();  // a lone surrogate: no request has such a path
    return true;
  }
  if (!read_names(path_text, route.names)) return false;
  if (route.names.empty()) route.path = Ref::borrow(path);
  router_.add(method_text, path_text, routes_.size());
  routes_.push_back(std::move(route));
  return true;
}

Ref HandlerTable::make_params(Gil, const HandlerRouter::Match& match) const noexcept {
  Ref params = Ref::steal(PyDict_New());
  const HandlerRoute& found = routes_[match.target];
  for (size_t i = 0; params && i < found.names.size(); ++i) {
    const Ref value = make_value(match.values[i]);
    if (!value || PyDict_SetItem(params.get(), found.names[i].get(), value.get()) < 0) return {};
  }
  return params;
}

// --- the Python type ------------------------------------------------------------------------------------------

namespace {

HandlerTable& native_of(PyObject* self) noexcept { return HandlerTable::of(self); }

PyObject* table_new(PyTypeObject* type, PyObject* args, PyObject* keywords) {
  static const char* const names[] = {"request_type", "response_type", "json_type", "http_error", "client_disconnected",
                                      "response_of",  "state",         "dumps",     "loads",      "body_bytes_max",
                                      nullptr};
  std::array<PyObject*, 9> given{};
  Py_ssize_t body_bytes_max = 0;
  if (PyArg_ParseTupleAndKeywords(args, keywords, "$O!O!O!OOOOOOn:HandlerTable", const_cast<char**>(names), &PyType_Type, &given[0],
                                  &PyType_Type, &given[1], &PyType_Type, &given[2], &given[3], &given[4], &given[5], &given[6],
                                  &given[7], &given[8], &body_bytes_max) == 0) {
    return nullptr;
  }
  const auto object_at = [&given](size_t index) noexcept { return Ref::borrow(given[index]); };
  HandlerKinds kinds{object_at(0), object_at(1), object_at(2), Ref::steal(PyObject_GetAttrString(given[1], "send")),
                     object_at(3), object_at(4), object_at(5), object_at(6), object_at(7), object_at(8)};
  HandlerTableObject* const object = kinds.response_send ? PyObject_GC_New(HandlerTableObject, type) : nullptr;
  if (object == nullptr) return nullptr;
  Ref self = Ref::steal(reinterpret_cast<PyObject*>(object));
  HandlerTable& table = *new (object->storage) HandlerTable;
  PyObject_GC_Track(object);
  return table.open(Gil::in_slot(), std::move(kinds), body_bytes_max) ? self.release() : nullptr;
}

PyObject* table_add(PyObject* self, PyObject* args, PyObject* keywords) {
  static const char* const names[] = {"method", "path", "handler", "is_async", "is_native", nullptr};
  PyObject* method = nullptr;
  PyObject* path = nullptr;
  PyObject* handler = nullptr;
  int is_async = 0;
  int is_native = 0;
  if (PyArg_ParseTupleAndKeywords(args, keywords, "UUO$pp:add", const_cast<char**>(names), &method, &path, &handler, &is_async,
                                  &is_native) == 0) {
    return nullptr;
  }
  HandlerRoute route{Ref::borrow(handler), {}, {}, is_async != 0, is_native != 0};
  return none_if(native_of(self).add(Gil::in_slot(), method, path, std::move(route)));
}

PyObject* table_add_mount(PyObject* self, PyObject*) {
  native_of(self).set_has_mounts();
  Py_RETURN_NONE;
}

Ref make_allowed(const HandlerRouter::Match& match) noexcept {
  Ref list = Ref::steal(PyList_New(0));
  for (const std::string_view method : HandlerRouter::allowed(match)) {
    const Ref text = Ref::steal(PyUnicode_FromStringAndSize(method.data(), static_cast<Py_ssize_t>(method.size())));
    if (!list || !text || PyList_Append(list.get(), text.get()) < 0) return {};
  }
  return list ? Ref::steal(PyList_AsTuple(list.get())) : Ref();
}

PyObject* table_find(PyObject* self, PyObject* args, PyObject* keywords) {
  static const char* const names[] = {"method", "path", nullptr};
  PyObject* method = nullptr;
  PyObject* path = nullptr;
  if (PyArg_ParseTupleAndKeywords(args, keywords, "UU:find", const_cast<char**>(names), &method, &path) == 0) return nullptr;
  HandlerTable& table = native_of(self);
  const std::string_view method_text = utf8_of(method);
  const std::string_view path_text = PyErr_Occurred() == nullptr ? utf8_of(path) : std::string_view();
  if (PyErr_Occurred() != nullptr) return nullptr;
  HandlerRouter::Match match;
  switch (table.router().find(method_text, path_text, match)) {
    case HandlerRouter::Found::route: {
      const Ref params = table.make_params(Gil::in_slot(), match);
      return params ? Py_BuildValue("OO()", table.route(match.target).handler.get(), params.get()) : nullptr;
    }
    case HandlerRouter::Found::wrong_method: {
      const Ref allowed = make_allowed(match);
      return allowed ? Py_BuildValue("O{}O", Py_None, allowed.get()) : nullptr;
    }
    case HandlerRouter::Found::nothing: break;
  }
  Py_RETURN_NONE;
}

PyObject* table_set_state(PyObject* self, PyObject* state) {
  native_of(self).set_state(state);
  Py_RETURN_NONE;
}

constexpr Method table_methods[] = {
    {"add", table_add, "add($self, method, path, handler, *, is_async, is_native)\n--\n\nAdd a route that Router.add() has taken."},
    {"add_mount", table_add_mount, METH_NOARGS,
     "add_mount($self, /)\n--\n\nLet the application answer paths that no route has."},
    {"find", table_find, "find($self, method, path)\n--\n\nAs Router.find(): (handler, params, allowed), or None."},
    {"set_state", table_set_state, METH_O, "set_state($self, state, /)\n--\n\nGive requests another state."},
    {},
};

}  // namespace

bool add_handler_table_type(Gil gil, PyObject* module, WebState& state) noexcept {
  state.handler_table_type = make_heap_type(gil, module, {
      .name = "cxxloop._web.HandlerTable",
      .object_bytes = sizeof(HandlerTableObject),
      .flags = Py_TPFLAGS_IMMUTABLETYPE,
      .doc = "HandlerTable(*, request_type, response_type, json_type, http_error, client_disconnected, response_of, state,"
             " dumps, loads, body_bytes_max)\n--\n\n"
             "The routes of an App, and what it says of requests and responses.",
      .methods = {table_methods},
      .make = table_new,
      .traverse = traverse<native_of>,
      .clear = clear<native_of>,
      .dealloc = dealloc<native_of>,
  });
  return state.handler_table_type != nullptr;
}

}  // namespace cxxloop::python
