// SPDX-License-Identifier: MIT
//
// web/python/handler_response.h: what a handler has returned or raised, as a response of the core.
//
// Thread: loop thread.  Owns: references to whatever its views point into.
#pragma once

#include <cstdint>
#include <string_view>

#include "web/core/exchange.h"
#include "web/python/handler_table.h"
#include "web/python/header_list.h"

namespace cxxloop::python {

class WebServer;
struct HandlerWork;

class HandlerResponse {
 public:
  HandlerResponse() noexcept = default;
  HandlerResponse(const HandlerResponse&) = delete;
  HandlerResponse& operator=(const HandlerResponse&) = delete;
  ~HandlerResponse();

  // What a handler has returned. False: the indicator is set. Runs Python: the App's dumps.
  [[nodiscard]] bool take(Gil gil, const HandlerTable& table, PyObject* result) noexcept;
  // The indicator is set by a handler. False: it still is, as the exception is none of a handler's: a cancellation, say. Runs
  // Python: the error log.
  [[nodiscard]] bool take_exception_of(Gil gil, WebServer& server, const HandlerWork& work) noexcept;
  // A text of the server's own, which outlives this, as App answers with HTTPError; `allow`: of 405.
  void take_text(int status, std::string_view text, std::string_view allow = {}) noexcept;

  // True: nobody waits for a response, because the client has gone.
  [[nodiscard]] bool is_nothing() const noexcept { return kind_ == Kind::nothing; }
  // A response that sends itself: an ASGI application; null: it is a plain one, for send().
  [[nodiscard]] Ref take_application() noexcept { return application_.take(); }
  [[nodiscard]] bool is_application() const noexcept { return kind_ == Kind::application; }
  // Sends all of it. `exchange` becomes null when that ends. False: the indicator is set, what was given must not go out.
  [[nodiscard]] bool send(Gil gil, WebServer& server, web::Exchange* const& exchange, bool is_head) noexcept;

 private:
  enum class Kind : uint8_t { nothing, plain, application };

  [[nodiscard]] bool take_response(Gil gil, const HandlerTable& table, PyObject* response) noexcept;
  [[nodiscard]] bool take_attributes(Gil gil, PyObject* status, Ref headers, Ref body) noexcept;
  [[nodiscard]] bool take_json(Gil gil, const HandlerTable& table, PyObject* value) noexcept;
  [[nodiscard]] bool take_body(Gil gil, PyObject* body) noexcept;
  void take_bytes(PyObject* owner, std::string_view bytes) noexcept;
  [[nodiscard]] bool make_head(Gil gil, WebServer& server, HeaderList& head, std::string_view length) const noexcept;
  [[nodiscard]] bool has_no_body() const noexcept { return status_ == 204 || status_ == 304; }

  Kind kind_ = Kind::nothing;
  int status_ = 200;
  std::string_view media_type_;  // empty: headers_ say it
  std::string_view allow_;
  std::string_view body_;
  Ref headers_;                  // null: none
  Ref owner_;                    // of the body; null: it needs none
  Py_buffer buffer_{};           // of a body that is neither bytes nor text
  Ref application_;
};

}  // namespace cxxloop::python
