// SPDX-License-Identifier: MIT
//
// web/python/tls_libssl.h: the libssl that Python's module ssl stands on, and the SSL_CTX inside a context of that module.
//
// Decision: both are tried each time a server with TLS is made, on a context of our own, before anything is served: a Python
// that keeps them elsewhere gets SSLObject, which is slower, and no crash.
#pragma once

#include "python/interp/ref.h"
#include "web/core/tls_library.h"

namespace cxxloop::python {

// Null: _ssl is no file of its own, its libssl is none that can be used, or its contexts look different. No exception is set.
[[nodiscard]] const web::TlsLibrary* find_libssl(Gil gil) noexcept;

// REQUIRES: find_libssl() has found it; an ssl.SSLContext. Read on 3.11 to 3.15: PySSLContext::ctx.
[[nodiscard]] inline web::SslContext* native_context_of(PyObject* context) noexcept {
  return *reinterpret_cast<web::SslContext* const*>(reinterpret_cast<const char*>(context) + sizeof(PyObject));
}

}  // namespace cxxloop::python
