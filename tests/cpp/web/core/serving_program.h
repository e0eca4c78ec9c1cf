// SPDX-License-Identifier: MIT
//
// web/core/serving_program.h: a server under random applications and random clients, who notice every broken promise of
// web/core/server.h and web/core/exchange.h.
//
// The bytes of each body tell whose they are and where they stand, in both directions; each response names its request. So
// a lost, doubled or misplaced byte shows, and so does an answer to another request.
#pragma once

#include <cstddef>
#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "net/engine.h"
#include "sim/choices.h"
#include "sim/sim_backend.h"
#include "web/core/server.h"

namespace cxxloop::web {

class ServingProgram;

// What one client asks, and how it sends it.
struct Ask {
  std::string text;         // head and framed body
  size_t body_bytes = 0;
  bool is_head = false;
  bool is_last = false;     // it says `connection: close`, or speaks HTTP/1.0 without keep-alive
  bool is_nonsense = false;
};

// The far end of a connection.
class ProgramClient {
 public:
  ProgramClient(ServingProgram& program, size_t number, int fd);

  void act() noexcept;      // any one thing a client may do
  void wind_up() noexcept;  // sends the rest, reads all
  // True exactly when the client has hung up.
  [[nodiscard]] bool is_over() const noexcept { return fd_ < 0; }
  [[nodiscard]] int fd() const noexcept { return fd_; }
  [[nodiscard]] const Ask& ask(size_t index) const noexcept { return asks_[index]; }

 private:
  void make_asks();
  void send(size_t bytes_max) noexcept;
  void receive(size_t bytes_max) noexcept;
  void hang_up() noexcept;
  void parse() noexcept;
  [[nodiscard]] bool parse_head() noexcept;
  [[nodiscard]] bool parse_body() noexcept;
  [[nodiscard]] bool parse_chunk_line() noexcept;
  void take_body(size_t bytes) noexcept;
  void end_response() noexcept;
  void check_the_end() noexcept;

  enum class Framing : uint8_t { length, chunk_line, chunk, close };

  ServingProgram& program_;
  const size_t number_;
  int fd_;
  std::vector<Ask> asks_;
  std::string unsent_;
  std::string received_;  // and not parsed
  size_t answered_ = 0;
  bool in_body_ = false;
  bool is_error_ = false;     // the response is the server's own
  bool was_last_ = false;     // no response may follow
  bool left_early_ = false;
  bool has_shut_ = false;
  Framing framing_ = Framing::length;
  size_t left_ = 0;           // of the body or chunk
  size_t position_ = 0;       // in the body
};

// One exchange of the application.
class ProgramExchange final : public ExchangeUser {
 public:
  ProgramExchange(ServingProgram& program, Exchange& exchange, const Request& request);

  void act() noexcept;
  [[nodiscard]] bool is_over() const noexcept { return exchange_ == nullptr; }

  void on_body() noexcept override;
  void on_disconnect() noexcept override;
  void on_drained() noexcept override;
  void on_end(const Ending& ending) noexcept override;

 private:
  void take_body() noexcept;
  void respond() noexcept;
  void start() noexcept;
  void write() noexcept;
  void expect(const char* fault, const char* promise) noexcept;

  ServingProgram& program_;
  Exchange* exchange_;
  size_t client_ = 0;
  size_t ask_ = 0;
  size_t body_position_ = 0;
  size_t size_ = 0;       // of the response's body
  size_t written_ = 0;
  bool knows_size_ = false;
  bool wants_body_ = false;
  bool has_body_ = false;  // all of it, or it is lost
  bool waits_body_ = false;
  bool waits_drain_ = false;
  bool started_ = false;
  bool told_disconnect_ = false;
};

class ServingProgram final : public Application {
 public:
  // gentle: nothing breaks by itself and nobody leaves, so that every request is answered.
  ServingProgram(uint64_t world_seed, sim::Choices& choices, bool gentle);
  ~ServingProgram();

  // The promise that was broken, or an empty string.
  [[nodiscard]] std::string run();

  // Application
  void* on_connect(int fd, const io::Address& peer) noexcept override;
  void on_connection_end(void* connection) noexcept override;
  void on_request(Exchange& exchange, const Request& request) noexcept override;
  void on_accept_error(Errno) noexcept override {}
  void on_idle() noexcept override { check(drained_ && !std::exchange(idle_, true), "on_idle() once, after drain()"); }

  // For the parties.
  void check(bool kept, const char* promise) noexcept;
  void disturb() noexcept;  // any exchange acts, in the middle of a callback
  void* lend(size_t bytes, char first) noexcept;
  [[nodiscard]] std::string_view lent(void* owner) const noexcept { return static_cast<Loan*>(owner)->bytes; }
  [[nodiscard]] sim::Choices& choices() noexcept { return choices_; }
  [[nodiscard]] sim::SimBackend& backend() noexcept { return *backend_; }
  [[nodiscard]] bool gentle() const noexcept { return gentle_; }
  [[nodiscard]] bool winds_up() const noexcept { return winds_up_; }
  [[nodiscard]] const ProgramClient& client(size_t number) const noexcept { return *clients_[number]; }
  [[nodiscard]] bool is_client(size_t number) const noexcept { return number < clients_.size(); }
  void count_end() noexcept { ++exchange_ends_; }
  // The byte of a body.
  [[nodiscard]] static char byte(size_t client, size_t ask, size_t position) noexcept {
    return static_cast<char>('a' + (client * 7 + ask * 13 + position) % 26);
  }

 private:
  struct Loan {
    ServingProgram* program;
    std::string bytes;
    bool released = false;
  };
  struct Guest {  // what on_connect() has returned
    bool ended = false;
  };

  static constexpr size_t clients_max = 8;

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
  std::deque<Guest> guests_;
  std::unique_ptr<Server> server_;
  int listener_;
  std::vector<std::unique_ptr<ProgramClient>> clients_;
  std::vector<std::unique_ptr<ProgramExchange>> exchanges_;
  size_t exchange_ends_ = 0;
  int depth_ = 0;
  bool winds_up_ = false;
  bool drained_ = false;
  bool idle_ = false;
  std::string broken_;
};

}  // namespace cxxloop::web
