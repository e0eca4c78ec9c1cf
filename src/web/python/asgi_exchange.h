// SPDX-License-Identifier: MIT
//
// web/python/asgi_exchange.h: one request and its response, as the events and messages of ASGI.
//
// Thread: loop thread.  Owns: a reference to the Python object it lies in, while the core's exchange may call it; the file
// that is on its way.  Dies: with that object.
#pragma once

#include <cstdint>
#include <optional>

#include "base/unique_fd.h"
#include "web/core/exchange.h"
#include "web/python/asgi_channel.h"
#include "web/python/handler_response.h"
#include "web/python/header_list.h"

namespace cxxloop::python {

class AsgiExchange final : public AsgiChannel, public web::ExchangeUser {
 public:
  AsgiExchange(PyObject* object, WebServer& server) noexcept : AsgiChannel(object, server) {}
  // Inside Application::on_request(). A null scope: nobody asks for it at the end.
  void open(web::Exchange& exchange, Ref scope) noexcept;

  // The whole response of a handler, instead of messages. False: the indicator is set.
  [[nodiscard]] bool send_response(Gil gil, HandlerResponse& response, bool is_head) noexcept;

  // --- AsgiChannel -----------------------------------------------------------------------------------------------
  [[nodiscard]] Ref take_event(Gil gil) noexcept override;
  [[nodiscard]] bool is_full() const noexcept override { return exchange_ != nullptr && exchange_->is_full(); }
  [[nodiscard]] bool is_sending_file() const noexcept override { return file_.valid(); }
  [[nodiscard]] bool is_open() const noexcept override { return exchange_ != nullptr; }
  const char* end_unfinished(bool has_failed) noexcept override;

  // --- web::ExchangeUser -----------------------------------------------------------------------------------------
  void on_body() noexcept override { wake(receivers_); }
  void on_disconnect() noexcept override { wake(receivers_); }
  void on_drained() noexcept override;
  void on_end(const web::Ending& ending) noexcept override;

  template <class F>
  void each_ref(F& f) noexcept {
    f(scope_);
  }

 private:
  // What the application has to send next:
  // start -> body -> complete, or body -> trailers -> complete; file: as body, and what it names is on its way.
  enum class Phase : uint8_t { start, body, file, trailers, complete };
  // What was at hand of the request's body.
  struct Gathered {
    Ref bytes;  // null: nothing
    bool is_end = false;
    bool is_lost = false;
  };

  struct FilePart {
    uint64_t offset = 0;
    uint64_t size = 0;
  };

  [[nodiscard]] Gathered gather_body(Gil gil) noexcept;
  [[nodiscard]] Ref make_body_event(Gil gil, const Gathered& gathered) noexcept;
  [[nodiscard]] Ref make_disconnect_event(Gil gil) noexcept;

  [[nodiscard]] bool take_message(Gil gil, PyObject* message) noexcept override;
  [[nodiscard]] bool take_start(Gil gil, PyObject* message) noexcept;
  [[nodiscard]] bool take_body(Gil gil, PyObject* message) noexcept;
  [[nodiscard]] bool take_trailers(Gil gil, PyObject* message) noexcept;
  [[nodiscard]] bool take_early_hint(Gil gil, PyObject* message) noexcept;
  [[nodiscard]] bool take_path(Gil gil, PyObject* message) noexcept;
  [[nodiscard]] bool take_file(Gil gil, PyObject* message) noexcept;

  [[nodiscard]] bool begin(Gil gil, std::optional<uint64_t> body_bytes) noexcept;
  [[nodiscard]] bool write_body(Gil gil, PyObject* body, bool is_last) noexcept;
  [[nodiscard]] bool write_bytes(Gil gil, std::string_view bytes, PyObject* owner, bool is_last) noexcept;
  [[nodiscard]] bool write_chunk(std::string_view bytes, PyObject* owner) noexcept;
  // Sends a part of file_.
  [[nodiscard]] bool send_file(Gil gil, const FilePart& part, bool is_last) noexcept;
  void finish_file(Gil gil) noexcept;
  bool close_unless_sending(bool outcome) noexcept;
  [[nodiscard]] bool end_body(Gil gil) noexcept;
  [[nodiscard]] bool complete(Gil gil) noexcept;

  web::Exchange* exchange_ = nullptr;  // null: not open, or ended
  int64_t begun_ns_ = 0;
  int status_ = 0;
  Phase phase_ = Phase::start;
  bool is_body_taken_ = false;      // True exactly when an event has said that the request's body is whole
  bool has_trailers_ = false;       // True exactly when http.response.start has announced some
  bool is_last_of_body_ = false;    // True exactly when nothing of the body comes behind the file
  UniqueFd file_;                   // on its way
  Ref scope_;                       // null: nobody asks for it at the end
  HeaderList headers_;              // of a response that has not begun; then its trailers
};

}  // namespace cxxloop::python
