// SPDX-License-Identifier: MIT
//
// web/python/module.cc: the extension module cxxloop._web: its state, its types, once per interpreter.
#include "web/python/handler_scope.h"
#include "web/python/handler_table.h"
#include "web/python/web_server.h"

namespace cxxloop::python {
namespace {

// asyncio.create_task() and its kin take what is registered as a Coroutine.
bool register_coroutines(const WebState& state) noexcept {
  const Ref abc = Ref::steal(PyImport_ImportModule("collections.abc"));
  const Ref coroutine = abc ? Ref::steal(PyObject_GetAttrString(abc.get(), "Coroutine")) : Ref();
  for (PyTypeObject* const type : {state.call_type, state.op_type}) {
    if (!coroutine || !Ref::steal(PyObject_CallMethod(coroutine.get(), "register", "O", type))) return false;
  }
  return true;
}

// The words of a web::ServerMetrics, for whoever reads one: cxxloop/web/metrics.py.
bool add_metrics_layout(PyObject* module) noexcept {
  constexpr size_t first_gauge = web::counter_names.size() - web::gauges_count;
  const Ref names = Ref::steal(PyTuple_New(web::counter_names.size()));
  const Ref bounds = Ref::steal(PyTuple_New(web::LatencyHistogram::buckets_count - 1));
  if (!names || !bounds) return false;
  for (size_t i = 0; i < web::counter_names.size(); ++i) {
    PyObject* const name = PyUnicode_FromString(web::counter_names[i]);
    if (name == nullptr) return false;
    PyTuple_SET_ITEM(names.get(), i, name);
  }
  for (size_t i = 0; i < web::LatencyHistogram::buckets_count - 1; ++i) {
    PyObject* const bound = PyLong_FromLongLong(web::LatencyHistogram::bound_ns(i));
    if (bound == nullptr) return false;
    PyTuple_SET_ITEM(bounds.get(), i, bound);
  }
  return PyModule_AddObjectRef(module, "COUNTER_NAMES", names.get()) == 0 &&
         PyModule_AddObjectRef(module, "BUCKET_BOUNDS_NS", bounds.get()) == 0 &&
         PyModule_AddIntConstant(module, "FIRST_GAUGE", first_gauge) == 0 &&
         PyModule_AddIntConstant(module, "METRICS_BYTES", sizeof(web::ServerMetrics)) == 0;
}

int module_exec(PyObject* module) {
  const Gil gil = Gil::in_slot();
  WebState& state = web_state_of(module);
  const bool added = init_web_state(gil, module, state) && add_op_type(gil, module, state) &&
                     add_call_type(gil, module, state) && add_callable_types(gil, module, state) &&
                     add_handler_scope_type(gil, module, state) && add_handler_table_type(gil, module, state) &&
                     add_server_type(gil, module, state) && add_metrics_layout(module) && register_coroutines(state);
  return added ? 0 : -1;
}

int module_traverse(PyObject* module, visitproc visit, void* arg) {
  ShowRefs show(visit, arg);
  web_state_of(module).each_ref(show);
  return show.result();
}

void module_free(void* module) { clear<web_state_of>(static_cast<PyObject*>(module)); }

PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, reinterpret_cast<void*>(module_exec)},
#if PY_VERSION_HEX >= 0x030C0000
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#endif
    {0, nullptr},
};

PyModuleDef web_module = {
    PyModuleDef_HEAD_INIT,
    "cxxloop._web",
    "The native half of cxxloop.web.",
    sizeof(WebState),
    nullptr,
    module_slots,
    module_traverse,
    clear<web_state_of>,
    module_free,
};

}  // namespace
}  // namespace cxxloop::python

PyMODINIT_FUNC PyInit__web() { return PyModuleDef_Init(&cxxloop::python::web_module); }
