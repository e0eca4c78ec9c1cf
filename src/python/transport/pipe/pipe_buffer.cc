// SPDX-License-Identifier: MIT
#include "python/transport/pipe/pipe_buffer.h"

namespace cxxloop::python {
namespace {

void release_chunk(void* owner) noexcept { Py_DECREF(static_cast<PyObject*>(owner)); }

PipeBufferObject& as_buffer(PyObject* self) noexcept { return *reinterpret_cast<PipeBufferObject*>(self); }

PyObject* buffer_new(PyTypeObject* type, PyObject*, PyObject*) {
  PyObject* const self = type->tp_alloc(type, 0);
  if (self != nullptr) new (as_buffer(self).native_storage) net::WriteQueue(release_chunk);
  return self;
}

void buffer_dealloc(PyObject* self) {
  PyTypeObject* const type = Py_TYPE(self);
  as_buffer(self).queue().~WriteQueue();
  type->tp_free(self);
  Py_DECREF(type);
}

Py_ssize_t buffer_length(PyObject* self) { return static_cast<Py_ssize_t>(as_buffer(self).queue().bytes()); }

PyObject* buffer_clear(PyObject* self, PyObject*) {
  as_buffer(self).queue().clear();
  Py_RETURN_NONE;
}

PyMethodDef buffer_methods[] = {
    {"clear", buffer_clear, METH_NOARGS, "clear($self, /)\n--\n\nForget what was not written."},
    {nullptr, nullptr, 0, nullptr},
};

}  // namespace

bool append_to_buffer(Gil, PipeBufferObject& buffer, Ref bytes, size_t written) noexcept {
  const size_t size = static_cast<size_t>(PyBytes_GET_SIZE(bytes.get()));
  const std::byte* const data = reinterpret_cast<const std::byte*>(PyBytes_AS_STRING(bytes.get()));
  if (!buffer.queue().append({data + written, size - written, bytes.get()})) {
    PyErr_NoMemory();
    return false;
  }
  (void)bytes.release();
  return true;
}

bool add_pipe_buffer_type(Gil, PyObject* module, ModuleState& state) noexcept {
  PyType_Slot slots[] = {
      {Py_tp_new, reinterpret_cast<void*>(buffer_new)},
      {Py_tp_dealloc, reinterpret_cast<void*>(buffer_dealloc)},
      {Py_tp_methods, buffer_methods},
      {Py_sq_length, reinterpret_cast<void*>(buffer_length)},
      {Py_tp_doc, const_cast<char*>("Bytes that a write pipe has not taken yet; len() counts them.")},
      {0, nullptr},
  };
  PyType_Spec spec = {"cxxloop._core.PipeBuffer", sizeof(PipeBufferObject), 0,
                      Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE, slots};
  state.pipe_buffer_type = reinterpret_cast<PyTypeObject*>(PyType_FromModuleAndSpec(module, &spec, nullptr));
  return state.pipe_buffer_type != nullptr && PyModule_AddType(module, state.pipe_buffer_type) == 0;
}

}  // namespace cxxloop::python
