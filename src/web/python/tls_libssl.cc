// SPDX-License-Identifier: MIT
#include "web/python/tls_libssl.h"

#include <dlfcn.h>

namespace cxxloop::python {
namespace {

constexpr int protocol_tls_server = 17;        // ssl.PROTOCOL_TLS_SERVER
constexpr uint64_t option_no_ticket = 0x4000;  // ssl.OP_NO_TICKET

// The functions that _ssl itself calls: a name is looked for in the module and then in what the module is linked with.
const web::TlsLibrary* library_of(PyObject* module) noexcept {
  const Ref file = Ref::steal(PyObject_GetAttrString(module, "__file__"));
  const char* const path = file ? PyUnicode_AsUTF8(file.get()) : nullptr;
  void* const handle = path != nullptr ? ::dlopen(path, RTLD_LAZY | RTLD_LOCAL | RTLD_NOLOAD) : nullptr;
  return handle != nullptr ? web::TlsLibrary::find(handle) : nullptr;
}

bool is_version_of(PyObject* module, const web::TlsLibrary& library) noexcept {
  const Ref number = Ref::steal(PyObject_GetAttrString(module, "OPENSSL_VERSION_NUMBER"));
  return number && PyLong_AsUnsignedLong(number.get()) == library.OpenSSL_version_num();
}

// True exactly when libssl reads the options that Python has set.
bool shows_options(const web::TlsLibrary& library, PyObject* context, uint64_t change) noexcept {
  Ref options = Ref::steal(PyObject_GetAttrString(context, "options"));
  const uint64_t wanted = options ? PyLong_AsUnsignedLongLong(options.get()) ^ change : 0;
  if (change != 0) {
    options = Ref::steal(PyLong_FromUnsignedLongLong(wanted));
    if (!options || PyObject_SetAttrString(context, "options", options.get()) < 0) return false;
  }
  return PyErr_Occurred() == nullptr && library.SSL_CTX_get_options(native_context_of(context)) == wanted;
}

bool is_pointer(const void* pointer) noexcept {
  return pointer != nullptr && reinterpret_cast<uintptr_t>(pointer) % alignof(void*) == 0;
}

bool is_layout_known(PyObject* module, const web::TlsLibrary& library) noexcept {
  const Ref type = Ref::steal(PyObject_GetAttrString(module, "_SSLContext"));
  const Ref one = type ? Ref::steal(PyObject_CallFunction(type.get(), "i", protocol_tls_server)) : Ref();
  const Ref other = one ? Ref::steal(PyObject_CallFunction(type.get(), "i", protocol_tls_server)) : Ref();
  if (!other || Py_TYPE(one.get())->tp_basicsize < static_cast<Py_ssize_t>(sizeof(PyObject) + sizeof(void*))) return false;
  const bool are_pointers = is_pointer(native_context_of(one.get())) && is_pointer(native_context_of(other.get()));
  return are_pointers && native_context_of(one.get()) != native_context_of(other.get()) &&
         shows_options(library, one.get(), 0) && shows_options(library, other.get(), 0) &&
         shows_options(library, one.get(), option_no_ticket) && shows_options(library, other.get(), 0) &&
         shows_options(library, one.get(), option_no_ticket);
}

}  // namespace

const web::TlsLibrary* find_libssl(Gil) noexcept {
  const Ref module = Ref::steal(PyImport_ImportModule("_ssl"));
  const web::TlsLibrary* const library = module ? library_of(module.get()) : nullptr;
  const bool is_usable = library != nullptr && is_version_of(module.get(), *library) && is_layout_known(module.get(), *library);
  PyErr_Clear();
  return is_usable ? library : nullptr;
}

}  // namespace cxxloop::python
