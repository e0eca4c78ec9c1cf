// SPDX-License-Identifier: MIT
//
// web/core/exchange.h: one request and its response, whatever protocol carries them: the line between sessions and applications.
//
// A session makes the exchange and calls up through ExchangeUser only; the application calls down. An application may call any
// method of an exchange inside any method of its user, and from its own callbacks, until on_end().
// Decision: views of a request are valid inside Application::on_request() only, because they point into the buffer that the
// kernel filled: an application that needs them longer copies what it needs, which ASGI does anyway.
// Thread: loop thread.  Python: none.  Dies: after on_end(), never earlier.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "web/core/header_line.h"

namespace cxxloop::web {

// What take_body() has found.
struct BodyPart {
  enum class Kind : uint8_t {
    data,  // bytes, never empty
    wait,  // nothing there yet; on_body() will tell
    end,   // that was all of it
    // The rest will never come: the client has ended, or what it sent was refused. Then the session has answered, if nothing
    // was started, on_end() follows in a callback of its own, and what the application still sends is dropped.
    lost,
  };
  Kind kind;
  std::string_view bytes = {};  // valid until the return to the session, or a call other than take_body()
};

// How an exchange has ended.
struct Ending {
  enum class Why : uint8_t {
    answered,     // the response is whole, and queued
    client_gone,  // reset, or nothing could be sent any more
    timed_out,    // a time limit of web/core/limits.h
    refused,      // what the client sent was no HTTP; the session has answered if it could
    aborted,      // Exchange::abort()
    closed,       // the server or its loop was closed
  };
  Why why;
  int status = 0;            // of the response; 0: none was started
  uint64_t body_bytes = 0;   // of the response, framing excluded
};

// The application's side of an exchange.
class ExchangeUser {
 public:
  // take_body() has returned wait: call it again. It may return wait once more: what has come was framing only.
  virtual void on_body() noexcept = 0;
  // The client has closed its sending side. It may have gone, or still read: a response can be written all the same.
  virtual void on_disconnect() noexcept = 0;
  // is_full() was true, and most of what was queued has gone.
  virtual void on_drained() noexcept = 0;
  // The last call: the exchange is not to be used any more.
  virtual void on_end(const Ending& ending) noexcept = 0;

 protected:
  ~ExchangeUser() = default;
};

struct ResponseStart {
  int status = 200;
  std::span<const Header> headers = {};     // in the order in which they are sent; lines of framing are the session's
  std::optional<uint64_t> body_bytes = {};  // if the whole body is known already
};

class WebSocketSession;
class WebSocketUser;

// Why a WebSocket was not accepted, or the WebSocket; neither if its end was told to the user meanwhile.
struct Accepted {
  const char* fault = nullptr;
  WebSocketSession* socket = nullptr;  // valid until WebSocketUser::on_end()
};

class Exchange {
 public:
  // To be called inside Application::on_request(); on_end() comes to this user.
  void set_user(ExchangeUser& user) noexcept { user_ = &user; }

  // --- the body of the request ---------------------------------------------------------------------------------
  // The first call sends "100 Continue" to a client that waits for it.
  [[nodiscard]] virtual BodyPart take_body() noexcept = 0;
  // The fields behind the body; valid as the bytes of a BodyPart. REQUIRES: take_body() has just returned end.
  [[nodiscard]] virtual std::span<const Header> trailers() const noexcept = 0;

  // --- the response: null, or why the application may not do that (nothing has happened then) ------------------
  // A 1xx, before start(). No effect on a client of HTTP/1.0.
  [[nodiscard]] virtual const char* inform(int status, std::span<const Header> headers) noexcept = 0;
  [[nodiscard]] virtual const char* start(const ResponseStart& response) noexcept = 0;
  // `owner` keeps the bytes valid, and is given to the server's release function exactly once, here or later, unless the
  // call fails. Null: they are copied. More than the Content-Length says is refused; for HEAD, 204 and 304 they are dropped.
  [[nodiscard]] virtual const char* write(std::string_view bytes, void* owner = nullptr) noexcept = 0;
  // The response is whole: on_end() is called inside. Fewer bytes than the Content-Length said are a fault, which is
  // returned; the exchange ends all the same (Ending::aborted), and the connection with it.
  [[nodiscard]] virtual const char* end(std::span<const Header> trailers = {}) noexcept = 0;
  // `size` bytes of a file from `offset` on, by the kernel alone. is_full() afterwards: `fd` is borrowed until on_drained() or
  // on_end(), before which nothing else may be written and the response not ended. Else it is done with. A file that is
  // shorter resets the connection.
  [[nodiscard]] virtual const char* write_file(int fd, uint64_t offset, uint64_t size) noexcept = 0;
  // Instead of a response, for a Request that asks for a WebSocket: accepts it. on_end() is called inside, with status 101;
  // what comes then comes to `user`. Any response refuses it, and ends the connection. `subprotocol`: empty, or one of the
  // client's.
  [[nodiscard]] virtual Accepted accept(std::string_view subprotocol, std::span<const Header> headers, WebSocketUser& user) noexcept = 0;
  // The application has failed: a 500 if nothing was started, else the connection is reset, so that the client can tell.
  // on_end() is called inside.
  virtual void abort() noexcept = 0;

  [[nodiscard]] virtual bool is_started() const noexcept = 0;
  // True: more is queued than Limits::write_buffer_bytes, or a file is on its way; on_drained() will tell.
  [[nodiscard]] virtual bool is_full() const noexcept = 0;
  // True exactly when the client has closed its sending side.
  [[nodiscard]] virtual bool is_disconnected() const noexcept = 0;

 protected:
  ~Exchange() = default;

  ExchangeUser* user_ = nullptr;
};

}  // namespace cxxloop::web
