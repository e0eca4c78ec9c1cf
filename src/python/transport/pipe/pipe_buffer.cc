// SPDX-License-Identifier: MIT
#include "python/transport/pipe/pipe_buffer.h"

#include "python/interp/heap_type.h"

namespace cxxloop::python {
namespace {

net::WriteQueue& queue_of(PyObject* self) noexcept { return reinterpret_cast<PipeBufferObject*>(self)->queue(); }

PyObject* buffer_new(PyTypeObject* type, PyObject*, PyObject*) {
  PyObject* const self = type->tp_alloc(type, 0);
  if (self != nullptr) new (&queue_of(self)) net::WriteQueue(release_owner);
  return self;
}

Py_ssize_t buffer_length(PyObject* self) { return static_cast<Py_ssize_t>(queue_of(self).bytes()); }

PyObject* buffer_clear(PyObject* self, PyObject*) {
  queue_of(self).clear();
  Py_RETURN_NONE;
}

constexpr Method buffer_methods[] = {
    {"clear", buffer_clear, METH_NOARGS, "clear($self, /)\n--\n\nForget what was not written."},
    {},
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

bool add_pipe_buffer_type(Gil gil, PyObject* module, ModuleState& state) noexcept {
  state.pipe_buffer_type = make_heap_type(gil, module, {
      .name = "cxxloop._core.PipeBuffer",
      .object_bytes = sizeof(PipeBufferObject),
      .flags = Py_TPFLAGS_IMMUTABLETYPE,
      .doc = "Bytes that a write pipe has not taken yet; len() counts them.",
      .methods = {buffer_methods},
      .make = buffer_new,
      .dealloc = dealloc<queue_of>,
      .length = buffer_length,
  });
  return state.pipe_buffer_type != nullptr;
}

}  // namespace cxxloop::python
