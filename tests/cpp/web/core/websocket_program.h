// SPDX-License-Identifier: MIT
//
// web/core/websocket_program.h: WebSockets under a random application that sends back what it gets, and random clients, who
// notice every broken promise of web/core/websocket_session.h.
//
// What comes back must be what was sent, whole and in order; so a lost, doubled or misplaced byte shows.
#pragma once

#include <cstddef>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "net/engine.h"
#include "sim/choices.h"
#include "sim/sim_backend.h"
#include "web/core/server.h"
#include "web/core/websocket_session.h"

namespace cxxloop::web {

class WebSocketProgram;

struct ProgramMessage {
  MessageKind kind;
  std::string bytes;

  bool operator==(const ProgramMessage&) const = default;
};

// The far end of a WebSocket.
class WebSocketClient {
 public:
  WebSocketClient(WebSocketProgram& program, int fd);

  void act() noexcept;      // any one thing a client may do
  void wind_up() noexcept;  // sends the rest and a close frame, reads all
  [[nodiscard]] bool is_over() const noexcept { return fd_ < 0; }
  [[nodiscard]] int fd() const noexcept { return fd_; }

 private:
  void say_something();
  void say_message();
  void say_close();
  void send(size_t bytes_max) noexcept;
  void receive(size_t bytes_max) noexcept;
  void hang_up() noexcept;
  [[nodiscard]] bool parse();
  void take_frame(uint8_t first, std::string_view payload);
  void check_the_end() noexcept;

  WebSocketProgram& program_;
  int fd_;
  const bool has_deflate_;
  std::optional<MessageDeflater> deflater_;
  std::optional<MessageInflater> inflater_;
  std::string unsent_;
  std::string received_;  // and not parsed
  std::vector<ProgramMessage> said_;
  std::vector<std::string> pings_;
  size_t answered_ = 0;   // of said_
  size_t ponged_ = 0;     // of pings_; some are left out if the client does not read
  bool is_open_ = false;      // the 101 has come
  bool has_closed_ = false;   // the client's close frame is sent, or waits to be
  bool is_closed_ = false;    // the server's has come
  bool left_early_ = false;
};

// The application's part of one.
class WebSocketEcho final : public ExchangeUser, public WebSocketUser {
 public:
  WebSocketEcho(WebSocketProgram& program, Exchange& exchange);

  void act() noexcept;
  [[nodiscard]] bool is_over() const noexcept { return is_over_; }

  void on_body() noexcept override {}
  void on_disconnect() noexcept override;
  void on_drained() noexcept override;
  void on_end(const Ending& ending) noexcept override;
  void on_message(MessageKind kind, std::string_view bytes) noexcept override;
  void on_end(CloseReason close) noexcept override;

 private:
  void accept() noexcept;
  void send_one() noexcept;

  WebSocketProgram& program_;
  Exchange* exchange_;
  WebSocketSession* socket_ = nullptr;
  std::deque<ProgramMessage> owed_;
  bool is_accepting_ = false;
  bool reads_ = true;
  bool is_over_ = false;
};

class WebSocketProgram final : public Application {
 public:
  // gentle: nothing breaks by itself and nobody leaves, so that every message comes back.
  WebSocketProgram(uint64_t world_seed, sim::Choices& choices, bool gentle);
  ~WebSocketProgram();

  // The promise that was broken, or an empty string.
  [[nodiscard]] std::string run();

  // Application
  void* on_connect(int, const io::Address&) noexcept override { return this; }
  void on_connection_end(void*) noexcept override {}
  void on_request(Exchange& exchange, const Request& request) noexcept override;
  void on_accept_error(Errno) noexcept override {}
  void on_idle() noexcept override {}

  // For the parties.
  void check(bool kept, const char* promise) noexcept;
  void disturb() noexcept;  // any echo acts, in the middle of a callback
  [[nodiscard]] void* lend(std::string bytes) noexcept { return &loans_.emplace_back(Loan{this, std::move(bytes)}); }
  [[nodiscard]] static std::string_view lent(void* owner) noexcept { return static_cast<Loan*>(owner)->bytes; }
  // The loan was not taken.
  static void take_back(void* owner) noexcept { release(owner); }
  [[nodiscard]] sim::Choices& choices() noexcept { return choices_; }
  [[nodiscard]] sim::SimBackend& backend() noexcept { return *backend_; }
  [[nodiscard]] bool gentle() const noexcept { return gentle_; }
  [[nodiscard]] bool winds_up() const noexcept { return winds_up_; }

 private:
  struct Loan {
    WebSocketProgram* program;
    std::string bytes;
    bool released = false;
  };

  static constexpr size_t clients_max = 5;

  static void release(void* owner) noexcept;
  [[nodiscard]] ServerOptions make_options() noexcept;
  void connect();
  void turn(int64_t wait_ns) noexcept;
  void act() noexcept;
  void play();
  void wind_up();
  void end();
  void check_the_end();

  std::unique_ptr<sim::SimBackend> backend_;
  sim::Choices& choices_;
  const bool gentle_;
  net::Engine engine_;
  std::deque<Loan> loans_;
  std::unique_ptr<Server> server_;
  int listener_;
  std::vector<std::unique_ptr<WebSocketClient>> clients_;
  std::vector<std::unique_ptr<WebSocketEcho>> echoes_;
  int depth_ = 0;
  bool winds_up_ = false;
  bool has_drained_ = false;
  std::string broken_;
};

}  // namespace cxxloop::web
