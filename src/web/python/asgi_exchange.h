// SPDX-License-Identifier: MIT
//
// web/python/asgi_exchange.h: one request and its response, as the events and messages of ASGI.
//
// receive() and send() are asgi_op.h: an op looks here whether it must wait, and is woken from here.
// Thread: loop thread.  Owns: a reference to the Python object it lies in, while the core's exchange may call it; the file
// that is on its way.  Dies: with that object.
#pragma once

#include <cstdint>
#include <optional>

#include "base/intrusive_list.h"
#include "base/unique_fd.h"
#include "web/core/exchange.h"
#include "web/python/asgi_op.h"
#include "web/python/header_list.h"

namespace cxxloop::python {

class WebServer;

class AsgiExchange final : public web::ExchangeUser {
 public:
  // `object`: the Python object this lies in.
  AsgiExchange(PyObject* object, WebServer& server) noexcept : object_(object), server_(server) {}
  // Inside Application::on_request(). A null scope: nobody asks for it at the end.
  void open(web::Exchange& exchange, Ref scope) noexcept;

  // True exactly while the core's exchange may call this, and owns a reference to the object.
  [[nodiscard]] bool is_open() const noexcept { return exchange_ != nullptr; }

  // --- for receive() ---------------------------------------------------------------------------------------------
  // The next event. Null without the indicator: there is none yet, and the ops of wait_to_receive() are woken for it.
  [[nodiscard]] Ref take_event(Gil gil) noexcept;
  void wait_to_receive(AsgiOp& op) noexcept { receivers_.push_back(op); }

  // --- for send() ------------------------------------------------------------------------------------------------
  // True: the client does not read, or a file is on its way; the ops of wait_to_send() are woken.
  [[nodiscard]] bool is_full() const noexcept { return exchange_ != nullptr && exchange_->is_full(); }
  [[nodiscard]] bool is_sending_file() const noexcept { return part_.file.valid(); }
  void wait_to_send(AsgiOp& op) noexcept { senders_.push_back(op); }
  // Takes a message of the application. False: the indicator is set. Runs Python: the message's own methods.
  [[nodiscard]] bool send(Gil gil, PyObject* message) noexcept;

  // --- for the call ----------------------------------------------------------------------------------------------
  // The application has returned or failed. Ends what it has not ended; null: it had, else what it has left out.
  const char* end_unfinished() noexcept;

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

  // What is still to be sent of a file.
  struct FilePart {
    UniqueFd file;
    uint64_t offset = 0;
    uint64_t left = 0;
  };

  [[nodiscard]] Gathered gather_body(Gil gil) noexcept;
  [[nodiscard]] Ref make_body_event(Gil gil, const Gathered& gathered) noexcept;
  [[nodiscard]] Ref make_disconnect_event(Gil gil) noexcept;

  [[nodiscard]] bool take_message(Gil gil, PyObject* message) noexcept;
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
  [[nodiscard]] bool send_file(Gil gil, FilePart part, bool is_last) noexcept;
  void pump_file(Gil gil) noexcept;
  void fail_file(Gil gil) noexcept;
  [[nodiscard]] bool end_body(Gil gil) noexcept;
  [[nodiscard]] bool complete(Gil gil) noexcept;
  void wake(IntrusiveList<AsgiOp>& ops) noexcept;

  PyObject* const object_;
  WebServer& server_;
  web::Exchange* exchange_ = nullptr;  // null: not open, or ended
  IntrusiveList<AsgiOp> receivers_;
  IntrusiveList<AsgiOp> senders_;
  int64_t begun_ns_ = 0;
  int status_ = 0;
  Phase phase_ = Phase::start;
  bool is_body_taken_ = false;      // True exactly when an event has said that the request's body is whole
  bool has_trailers_ = false;       // True exactly when http.response.start has announced some
  bool is_in_send_ = false;         // True exactly while a message is taken
  bool is_last_of_body_ = false;    // True exactly when nothing of the body comes behind the file
  FilePart part_;                   // of the file that is on its way
  Ref scope_;                       // null: nobody asks for it at the end
  HeaderList headers_;              // of a response that has not begun; then its trailers
};

}  // namespace cxxloop::python
