// SPDX-License-Identifier: MIT
#include "web/python/handler_body.h"

#include <cstring>

namespace cxxloop::python {

HandlerBody::HandlerBody(const web::RequestHead& head, size_t bytes_max) noexcept
    : bytes_max_(bytes_max), expected_(head.framing == web::Framing::length ? head.content_length : 0) {}

HandlerBody::Outcome HandlerBody::gather(Gil gil, web::Exchange& exchange) noexcept {
  using Kind = web::BodyPart::Kind;
  if (expected_ > bytes_max_) return Outcome::too_long;  // before the client is told to go on
  for (;;) {
    const web::BodyPart part = exchange.take_body();
    switch (part.kind) {
      case Kind::end: return Outcome::whole;
      case Kind::wait: return Outcome::wait;
      case Kind::lost: return Outcome::lost;
      case Kind::data: break;
    }
    if (part.bytes.size() > bytes_max_ - size_) return Outcome::too_long;
    if (!append(gil, part.bytes)) return Outcome::failed;
  }
}

// The memory of a known length is asked for once: its pages come when they are written to.
bool HandlerBody::append(Gil, std::string_view piece) noexcept {
  if (expected_ == 0) {
    size_ += piece.size();
    return pieces_.append(piece) || PyErr_NoMemory() != nullptr;
  }
  if (!bytes_) bytes_ = Ref::steal(PyBytes_FromStringAndSize(nullptr, static_cast<Py_ssize_t>(expected_)));
  if (!bytes_) return false;
  CXL_ASSERT(piece.size() <= expected_ - size_);
  std::memcpy(PyBytes_AS_STRING(bytes_.get()) + size_, piece.data(), piece.size());
  size_ += piece.size();
  return true;
}

Ref HandlerBody::take(Gil) noexcept {
  if (bytes_) return bytes_.take();
  return Ref::steal(PyBytes_FromStringAndSize(pieces_.empty() ? "" : pieces_.view().data(), static_cast<Py_ssize_t>(pieces_.size())));
}

}  // namespace cxxloop::python
