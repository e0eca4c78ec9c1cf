// SPDX-License-Identifier: MIT
//
// web/core/serving.h: a server with an application that does what a test says, and clients that write and read as they like.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "cpp/io/worlds.h"
#include "net/engine.h"
#include "web/core/server.h"

namespace cxxloop::web {

// One exchange of the application: writes down what it is told, and takes the body as it comes unless told otherwise.
class Answer final : public ExchangeUser {
 public:
  Answer(Exchange& of_request, const Request& request)
      : exchange(&of_request),
        method(request.head.method),
        target(request.head.target) {
    for (const Header& header : request.head.headers()) headers += std::string(header.name) + "=" + std::string(header.value) + ";";
    of_request.set_user(*this);
  }

  // Takes what is there. True: to the end, or it is lost.
  bool take_all() {
    for (;;) {
      const BodyPart part = exchange->take_body();
      switch (part.kind) {
        case BodyPart::Kind::data: body += part.bytes; continue;
        case BodyPart::Kind::wait: return false;
        case BodyPart::Kind::lost: is_lost = true; return true;
        case BodyPart::Kind::end:
          has_body = true;
          for (const Header& trailer : exchange->trailers()) trailers += std::string(trailer.name) + "=" + std::string(trailer.value) + ";";
          return true;
      }
    }
  }
  // A whole response with a known length.
  void respond(std::string_view text, int status = 200) {
    EXPECT_EQ(exchange->start({.status = status, .body_bytes = text.size()}), nullptr);
    ASSERT_NE(exchange, nullptr);
    EXPECT_EQ(exchange->write(text), nullptr);
    EXPECT_EQ(exchange->end(), nullptr);
  }

  void on_body() noexcept override {
    ++body_calls;
    if (const auto then = when_body) then();
  }
  void on_disconnect() noexcept override {
    ++disconnects;
    if (const auto then = when_disconnected) then();
  }
  void on_drained() noexcept override {
    ++drains;
    if (const auto then = when_drained) then();
  }
  void on_end(const Ending& how) noexcept override {
    EXPECT_NE(exchange, nullptr) << "ends once";
    exchange = nullptr;
    ending = how;
    if (const auto then = when_ended) then();
  }

  [[nodiscard]] bool has_ended() const { return exchange == nullptr; }

  Exchange* exchange;
  std::string method;
  std::string target;
  std::string headers;
  std::string body;
  std::string trailers;
  bool has_body = false;
  bool is_lost = false;
  int body_calls = 0;
  int disconnects = 0;
  int drains = 0;
  Ending ending{Ending::Why::answered};
  std::function<void()> when_body;
  std::function<void()> when_disconnected;
  std::function<void()> when_drained;
  std::function<void()> when_ended;
};

class TestApplication final : public Application {
 public:
  void* on_connect(int, const io::Address& peer) noexcept override {
    ++connects;
    last_peer = peer;
    return this;
  }
  void on_connection_end(void* connection) noexcept override {
    EXPECT_EQ(connection, this);
    ++connection_ends;
  }
  void on_request(Exchange& exchange, const Request& request) noexcept override {
    EXPECT_EQ(request.connection, this);
    answers.push_back(std::make_unique<Answer>(exchange, request));
    if (handle) handle(*answers.back());
  }
  bool is_proxy(int, const io::Address&) noexcept override { return are_proxies; }
  void on_accept_error(Errno) noexcept override { ++accept_errors; }
  void on_idle() noexcept override {
    ++idles;
    if (when_idle) when_idle();
  }

  [[nodiscard]] Answer& last() { return *answers.back(); }

  std::vector<std::unique_ptr<Answer>> answers;
  std::function<void(Answer&)> handle;
  std::function<void()> when_idle;
  io::Address last_peer;
  bool are_proxies = false;
  int connects = 0;
  int connection_ends = 0;
  int accept_errors = 0;
  int idles = 0;
};

// Answers a request with its method, its target and its body, when that is whole.
inline void echo(Answer& answer) {
  const auto respond = [&answer] {
    if (answer.take_all()) answer.respond(answer.method + " " + answer.target + " " + answer.body);
  };
  answer.when_body = respond;
  respond();
}

// The server of one world, run as a loop runs it: what a callback wrote is sent when it ends.
template <class W>
class Serving : public testing::Test {
 protected:
  Serving() : engine(world.backend()) { options.date_header = false, options.server_header = {}, options.release = release; }
  ~Serving() override {
    stop();
    for (const int client : clients) world.close(client);
    if (listener >= 0) world.close(listener);
    EXPECT_EQ(app.connects, app.connection_ends);
    for (const auto& answer : app.answers) EXPECT_TRUE(answer->has_ended());
  }

  void stop() {
    if (server == nullptr) return;
    if (!server->close()) {
      world.backend().drain();
      server->finish_close();
    }
    EXPECT_EQ(server->counters().connections, 0U);
    EXPECT_EQ(server->counters().exchanges, 0U);
    server.reset();
    EXPECT_EQ(lent, released);
    engine.cork().close();
  }

  void start() {
    engine.cork().open();
    server = std::make_unique<Server>(engine, world.backend(), app, options);
    listener = world.make_listener();
    ASSERT_EQ(server->listen(listener), Errno::ok);
  }
  // Connects when the server is started, or starts it.
  int connect() {
    if (server == nullptr) start();
    clients.push_back(world.connect(listener));
    return clients.back();
  }
  void hang_up(int client) {
    world.close(client);
    std::erase(clients, client);
  }

  void turn(int64_t wait_ns = 1'000'000) {
    const bool has_work = !engine.none_posted();
    TimerTask* const next = engine.next_timer();
    int64_t until_ns = has_work ? 0 : world.now_ns() + wait_ns;
    if (next != nullptr) until_ns = std::min(until_ns, next->node.deadline_ns);
    ASSERT_EQ(world.backend().wait(Deadline{until_ns}), Errno::ok);
    engine.run_posted();
    while (world.backend().collected() > 0) engine.dispatch_one();
    const int64_t now_ns = world.now_ns();
    while (TimerTask* const timer = engine.due_timer(now_ns)) engine.run_timer(*timer);
  }
  template <class Done>
  bool run_until(Done&& done, int turns = 3000) {
    for (int i = 0; i < turns && !done(); ++i) turn();
    return done();
  }
  void settle() {
    for (int i = 0; i < 40; ++i) turn(0);
  }
  // Everything that is written, while the server runs.
  void write(int client, std::string_view text) {
    ASSERT_TRUE(run_until([&] {
      text.remove_prefix(world.write(client, text));
      return text.empty();
    }));
  }
  // What arrives until it ends with `end`.
  std::string read_to(int client, std::string_view end) {
    std::string text;
    EXPECT_TRUE(run_until([&] {
      text += world.read(client);
      return text.ends_with(end);
    })) << text;
    return text;
  }
  // What arrives until the server has closed.
  std::string read_all(int client, int turns = 3000) {
    std::string text;
    EXPECT_TRUE(run_until([&] {
      text += world.read(client);
      return world.at_eof(client);
    }, turns)) << text;
    return text;
  }
  std::string ask(int client, std::string_view request, std::string_view end) {
    write(client, request);
    return read_to(client, end);
  }

  // Bytes that are lent to a response.
  void* lend() {
    ++lent;
    return &released;
  }
  static void release(void* owner) noexcept { ++*static_cast<int*>(owner); }

  W world;
  net::Engine engine;
  TestApplication app;
  ServerOptions options;
  std::unique_ptr<Server> server;
  int listener = -1;
  std::vector<int> clients;
  int lent = 0;
  int released = 0;
};

using ServingWorlds = testing::Types<io::EvWorld, io::SimWorld, io::BenignSimWorld>;

}  // namespace cxxloop::web
