// SPDX-License-Identifier: MIT
#include "web/python/tls_server.h"

#include <new>

#include "web/core/tls_native_session.h"
#include "web/python/tls_libssl.h"
#include "web/python/tls_object_session.h"
#include "web/python/web_server.h"

namespace cxxloop::python {
namespace {

// What a session tells, as the arguments of cxxloop.web.tls.extension().
class Extension final : public web::TlsReport {
 public:
  explicit Extension() noexcept : client_(Ref::steal(PyList_New(0))) {}

  void on_version(unsigned version, unsigned cipher_suite) noexcept override {
    version_ = version;
    cipher_suite_ = cipher_suite;
  }
  void on_server_certificate(std::string_view der) noexcept override { server_ = bytes_of(der); }
  void on_client_certificate(std::string_view der) noexcept override {
    const Ref bytes = bytes_of(der);
    if (client_ && (!bytes || PyList_Append(client_.get(), bytes.get()) < 0)) client_.reset();
  }
  void on_client_name(std::string_view name) noexcept override {
    name_ = Ref::steal(PyUnicode_DecodeUTF8(name.data(), static_cast<Py_ssize_t>(name.size()), "replace"));
  }

  // Null: the indicator is set. Runs Python.
  [[nodiscard]] Ref make(PyObject* module) const noexcept {
    if (PyErr_Occurred() != nullptr) return {};
    const auto or_none = [](const Ref& ref) { return ref ? ref.get() : Py_None; };
    return Ref::steal(PyObject_CallMethod(module, "extension", "IIOOO", version_, cipher_suite_, or_none(server_),
                                          client_.get(), or_none(name_)));
  }

 private:
  static Ref bytes_of(std::string_view text) noexcept {
    return Ref::steal(PyBytes_FromStringAndSize(text.data(), static_cast<Py_ssize_t>(text.size())));
  }

  unsigned version_ = 0;
  unsigned cipher_suite_ = 0;
  Ref server_;
  Ref client_;
  Ref name_;
};

// 1 yes, 0 no, -1 the indicator is set.
int is_set(PyObject* object, const char* name) noexcept {
  const Ref value = Ref::steal(PyObject_GetAttrString(object, name));
  return value ? PyObject_IsTrue(value.get()) : -1;
}

}  // namespace

bool TlsServer::open(Gil gil, PyObject* context, std::string_view engine) noexcept {
  module_ = Ref::steal(PyImport_ImportModule("cxxloop.web.tls"));
  context_ = Ref::borrow(context);
  if (!module_ || !check_context(gil) || !make_witness(gil)) return false;
  if (engine != "python" && is_plain_context(gil)) library_ = find_libssl(gil);
  if (PyErr_Occurred() != nullptr) return false;
  if (engine != "libssl" || library_ != nullptr) return true;
  PyErr_SetString(PyExc_RuntimeError, "the libssl of this Python, or this context, cannot be used but through Python's module ssl");
  return false;
}

bool TlsServer::check_context(Gil) const noexcept {
  const Ref module = Ref::steal(PyImport_ImportModule("ssl"));
  const Ref type = module ? Ref::steal(PyObject_GetAttrString(module.get(), "SSLContext")) : Ref();
  if (!type) return false;
  const bool is_context = PyObject_TypeCheck(context_.get(), reinterpret_cast<PyTypeObject*>(type.get())) != 0;
  if (!is_context) PyErr_Format(PyExc_TypeError, "tls must be an ssl.SSLContext, not %R", Py_TYPE(context_.get()));
  return is_context;
}

// A class that makes its own objects has to be asked for each of them.
bool TlsServer::is_plain_context(Gil) const noexcept {
  const Ref result = Ref::steal(PyObject_CallMethod(module_.get(), "is_plain_context", "O", context_.get()));
  return result && PyObject_IsTrue(result.get()) == 1;
}

// Fails for a context of clients, before anybody is served.
bool TlsServer::make_witness(Gil) noexcept {
  witness_ = Ref::steal(PyObject_CallMethod(module_.get(), "make_object", "O", context_.get()));
  witness_inside_ = witness_ ? Ref::steal(PyObject_GetAttrString(witness_.get(), "_sslobj")) : Ref();
  return static_cast<bool>(witness_inside_);
}

int TlsServer::wants_objects(Gil) const noexcept {
  for (const char* const name : {"sni_callback", "_msg_callback", "post_handshake_auth"}) {
    const int answer = is_set(context_.get(), name);
    if (answer != 0) return answer;
  }
  return 0;
}

std::unique_ptr<web::TlsSession> TlsServer::make_session(web::TlsWire& wire) noexcept {
  const Gil gil = Gil::in_slot();
  const Ref pin = Ref::borrow(server_.object());
  if (!context_) return nullptr;  // the collector has cleared the server
  std::unique_ptr<web::TlsSession> session;
  const int wants = library_ == nullptr ? 1 : wants_objects(gil);
  if (wants == 0) {
    session = web::NativeTlsSession::make(*library_, native_context_of(context_.get()), witness_inside_.get(), wire);
  } else if (wants == 1) {
    // Runs Python: an SSLObject of the program's own class, perhaps.
    Ref object = Ref::steal(PyObject_CallMethod(module_.get(), "ObjectSession", "O", context_.get()));
    if (object) session.reset(new (std::nothrow) ObjectTlsSession(server_, std::move(object), wire));
  }
  if (session != nullptr) return session;
  if (PyErr_Occurred() == nullptr) PyErr_NoMemory();
  server_.report(gil, "Exception while a web server began TLS");
  return nullptr;
}

Ref TlsServer::make_extension(Gil, web::TlsSession& session) const noexcept {
  Extension extension;
  session.describe(extension);
  return extension.make(module_.get());
}

}  // namespace cxxloop::python
