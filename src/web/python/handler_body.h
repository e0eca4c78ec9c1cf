// SPDX-License-Identifier: MIT
//
// web/python/handler_body.h: gathers the whole body of a request, as bytes.
//
// Thread: loop thread.  Owns: what has come so far.
#pragma once

#include <cstddef>

#include "base/byte_buffer.h"
#include "python/interp/ref.h"
#include "web/core/application.h"

namespace cxxloop::python {

class HandlerBody {
 public:
  // As BodyPart::Kind; too_long: more than the bound. failed: the indicator is set.
  enum class Outcome : uint8_t { whole, wait, lost, too_long, failed };

  // At most `bytes_max`.
  HandlerBody(const web::RequestHead& head, size_t bytes_max) noexcept;

  // Takes what is at hand; again after wait, when ExchangeUser::on_body() tells.
  [[nodiscard]] Outcome gather(Gil gil, web::Exchange& exchange) noexcept;
  // REQUIRES: gather() has returned whole. Null: the indicator is set.
  [[nodiscard]] Ref take(Gil gil) noexcept;

 private:
  [[nodiscard]] bool append(Gil gil, std::string_view piece) noexcept;

  size_t size_ = 0;
  size_t bytes_max_;
  size_t expected_;     // as the Content-Length says; 0: unknown, or nothing
  Ref bytes_;           // of a body whose length is known, filled up to size_
  ByteBuffer pieces_;   // of another one
};

}  // namespace cxxloop::python
