// SPDX-License-Identifier: MIT
#include "web/core/http1_websocket.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "cpp/web/core/serving.h"
#include "cpp/web/core/websocket_client.h"

namespace cxxloop::web {
namespace {

using namespace std::string_literals;

const std::string handshake =
    "GET /chat HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";
const std::string accepted =
    "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

std::string text(std::string_view payload) { return client_frame(Opcode::text, payload); }
std::string sent(Opcode opcode, const std::string& payload) { return std::string(FrameHead(opcode, payload.size(), false).view()) + payload; }
std::string sent_close(uint16_t code, const std::string& reason = {}) {
  return sent(Opcode::close, std::string{static_cast<char>(code >> 8), static_cast<char>(code & 0xFF)} + reason);
}

// The application's part of a WebSocket: sends back what comes, unless told otherwise.
class Chat final : public WebSocketUser {
 public:
  void accept(Answer& answer, std::string_view subprotocol = {}) {
    const Accepted result = answer.exchange->accept(subprotocol, {}, *this);
    EXPECT_EQ(result.fault, nullptr);
    EXPECT_TRUE(answer.has_ended());
    EXPECT_EQ(answer.ending.status, 101);
    socket = result.socket;
  }
  void on_message(MessageKind kind, std::string_view bytes) noexcept override {
    messages.emplace_back(bytes);
    if (echoes) {
      EXPECT_EQ(socket->send(kind, bytes), nullptr);
    }
    if (const auto then = when_message) then();
  }
  void on_drained() noexcept override { ++drains; }
  void on_end(CloseReason close) noexcept override {
    EXPECT_EQ(code, 0) << "ends once";
    code = close.code;
    socket = nullptr;
  }

  WebSocketSession* socket = nullptr;
  std::vector<std::string> messages;
  bool echoes = true;
  int drains = 0;
  int code = 0;
  std::function<void()> when_message;
};

template <class W>
class Http1WebSocketTest : public Serving<W> {
 protected:
  Http1WebSocketTest() {
    this->app.handle = [this](Answer& answer) { chat.accept(answer); };
  }
  ~Http1WebSocketTest() override { this->stop(); }

  int open(const std::string& more = {}) {
    const int client = this->connect();
    const std::string head = this->ask(client, handshake + more + "\r\n", "\r\n\r\n");
    EXPECT_TRUE(head.starts_with("HTTP/1.1 101 ")) << head;
    return client;
  }
  bool ends_with(int code) {
    return this->run_until([&] { return chat.code != 0; }) && chat.code == code;
  }

  Chat chat;
};
TYPED_TEST_SUITE(Http1WebSocketTest, ServingWorlds);

TYPED_TEST(Http1WebSocketTest, OpensEchoesAndCloses) {
  const int client = this->connect();
  EXPECT_EQ(this->ask(client, handshake + "\r\n", "\r\n\r\n"), accepted);
  EXPECT_EQ(this->ask(client, text("hello"), "hello"), sent(Opcode::text, "hello"));
  EXPECT_EQ(this->server->counters().websockets, 1U);
  EXPECT_EQ(this->ask(client, client_frame(Opcode::ping, "p"), "p"), sent(Opcode::pong, "p"));
  this->write(client, client_close(1000));
  EXPECT_EQ(this->read_all(client), sent_close(1000));
  EXPECT_EQ(this->chat.code, 1000);
  EXPECT_EQ(this->server->counters().exchanges, 0U);
  this->hang_up(client);
  EXPECT_TRUE(this->run_until([&] { return this->server->counters().websockets == 0; }));
}

TYPED_TEST(Http1WebSocketTest, TakesFramesThatComeWithTheHandshake) {
  const int client = this->connect();
  this->write(client, handshake + "\r\n" + text("a") + client_frame(Opcode::binary, "b") + client_close(4000));
  EXPECT_EQ(this->read_all(client), accepted + sent(Opcode::text, "a") + sent(Opcode::binary, "b") + sent_close(4000));
  EXPECT_EQ(this->chat.code, 4000);
}

TYPED_TEST(Http1WebSocketTest, KeepsFramesThatComeBeforeItIsAccepted) {
  this->app.handle = nullptr;
  const int client = this->connect();
  this->write(client, handshake + "\r\n" + text("a"));
  ASSERT_TRUE(this->run_until([&] { return !this->app.answers.empty(); }));
  this->write(client, text("b"));
  this->settle();
  EXPECT_TRUE(this->chat.messages.empty());
  this->chat.accept(this->app.last());
  EXPECT_TRUE(this->chat.messages.empty()) << "not inside the application's call";
  EXPECT_EQ(this->read_to(client, "\x01" "b"), accepted + sent(Opcode::text, "a") + sent(Opcode::text, "b"));
}

TYPED_TEST(Http1WebSocketTest, GivesWhatCameBeforeItIsAcceptedFirst) {
  this->app.handle = nullptr;
  const int client = this->connect();
  this->write(client, handshake + "\r\n" + text("a"));
  ASSERT_TRUE(this->run_until([&] { return !this->app.answers.empty(); }));
  this->settle();
  this->world.write(client, text("b"));  // arrives in the same turn as the acceptance
  this->chat.accept(this->app.last());
  EXPECT_EQ(this->read_to(client, "\x01" "b"), accepted + sent(Opcode::text, "a") + sent(Opcode::text, "b"));
}

TYPED_TEST(Http1WebSocketTest, SeesTheSameWhereverTheBytesAreCut) {
  this->options.limits.connections_per_address_max = 0;
  const std::string bytes = handshake + "\r\n" + text("first") + client_frame(Opcode::text, "sec", false) + client_frame(Opcode::ping, "") +
                            client_frame(Opcode::continuation, "ond") + client_close(1001);
  const std::string answers = accepted + sent(Opcode::text, "first") + sent(Opcode::pong, "") + sent(Opcode::text, "second") + sent_close(1001);
  std::vector<std::unique_ptr<Chat>> chats;
  this->app.handle = [&](Answer& answer) { chats.emplace_back(std::make_unique<Chat>())->accept(answer); };
  for (size_t cut = 1; cut < bytes.size(); ++cut) {
    const int client = this->connect();
    this->write(client, bytes.substr(0, cut));
    for (int i = 0; i < 3; ++i) this->turn(0);
    this->write(client, bytes.substr(cut));
    ASSERT_EQ(this->read_all(client), answers) << cut;
    ASSERT_EQ(chats.back()->code, 1001) << cut;
    this->hang_up(client);
  }
}

TYPED_TEST(Http1WebSocketTest, NamesItsVersionToAnotherOne) {
  const int client = this->connect();
  this->write(client, "GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                      "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 8\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n");
  const std::string answer = this->read_all(client);
  EXPECT_TRUE(answer.starts_with("HTTP/1.1 426 Upgrade Required\r\n")) << answer;
  EXPECT_NE(answer.find("\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n"), std::string::npos) << answer;
  EXPECT_TRUE(this->app.answers.empty());
  EXPECT_EQ(this->server->counters().bad_requests, 1U);
}

TYPED_TEST(Http1WebSocketTest, EndsTheConnectionOfAClientThatIsRefused) {
  this->app.handle = [](Answer& answer) { answer.respond("no", 403); };
  const int client = this->connect();
  this->write(client, handshake + "\r\n" + text("x"));
  const std::string answer = this->read_all(client);
  EXPECT_EQ(answer, "HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\nconnection: close\r\n\r\nno");
  EXPECT_EQ(this->app.answers.size(), 1U);
}

TYPED_TEST(Http1WebSocketTest, IsAnOrdinaryRequestIfTheServerHasNoWebSockets) {
  this->options.websockets = false;
  this->app.handle = [this](Answer& answer) {
    EXPECT_STREQ(answer.exchange->accept({}, {}, this->chat).fault, "the request asks for no WebSocket");
    answer.respond("plain");
  };
  const int client = this->connect();
  EXPECT_EQ(this->ask(client, handshake + "\r\n", "plain"), "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nplain");
}

TYPED_TEST(Http1WebSocketTest, AcceptsOnlyOnceAndNothingBehindAResponse) {
  this->app.handle = [this](Answer& answer) {
    EXPECT_NE(answer.exchange->accept("a b", {}, this->chat).fault, nullptr);
    EXPECT_EQ(answer.exchange->start({.body_bytes = 0}), nullptr);
    EXPECT_STREQ(answer.exchange->accept({}, {}, this->chat).fault, "the response was started");
    EXPECT_EQ(answer.exchange->end(), nullptr);
  };
  const int client = this->connect();
  this->write(client, handshake + "\r\n");
  EXPECT_TRUE(this->read_all(client).starts_with("HTTP/1.1 200 OK\r\n"));
}

TYPED_TEST(Http1WebSocketTest, TellsTheApplicationThatTheClientIsGone) {
  const int client = this->open();
  this->write(client, text("half").substr(0, 7));
  this->hang_up(client);
  EXPECT_TRUE(this->ends_with(1006));
  EXPECT_TRUE(this->run_until([&] { return this->app.connection_ends == 1; }));
}

TYPED_TEST(Http1WebSocketTest, ClosesForTheApplicationAndWaitsForTheClient) {
  const int client = this->open();
  EXPECT_EQ(this->chat.socket->close({1000, "done"}), nullptr);
  EXPECT_EQ(this->chat.code, 1000);
  EXPECT_EQ(this->read_to(client, "done"), sent_close(1000, "done"));
  this->settle();
  EXPECT_FALSE(this->world.at_eof(client));
  this->write(client, client_close(1000));
  EXPECT_EQ(this->read_all(client), "");
}

TYPED_TEST(Http1WebSocketTest, WaitsForTheClientNoLongerThanItsLimit) {
  this->options.limits.websocket.close_ns = second_ns / 50;
  const int client = this->open();
  EXPECT_EQ(this->chat.socket->close({1000}), nullptr);
  EXPECT_EQ(this->read_all(client), sent_close(1000));
}

TYPED_TEST(Http1WebSocketTest, TellsClientsThatTheServerRestarts) {
  const int client = this->open();
  this->server->drain();
  EXPECT_EQ(this->chat.code, 1012);
  EXPECT_EQ(this->read_to(client, sent_close(1012)), sent_close(1012));
  this->write(client, client_close(1012));
  EXPECT_EQ(this->read_all(client), "");
  this->hang_up(client);
  EXPECT_TRUE(this->run_until([&] { return this->app.idles == 1; }));
}

TYPED_TEST(Http1WebSocketTest, EndsWithTheServer) {
  this->open();
  this->stop();
  EXPECT_EQ(this->chat.code, 1006);
}

TYPED_TEST(Http1WebSocketTest, MayCloseTheServerInsideAMessage) {
  this->chat.when_message = [this] {
    EXPECT_FALSE(this->server->close()) << "its connection stands on the stack";
  };
  const int client = this->open();
  this->write(client, text("a") + text("b"));
  EXPECT_TRUE(this->ends_with(1006));
  EXPECT_EQ(this->chat.messages.size(), 1U);
}

TYPED_TEST(Http1WebSocketTest, StopsReadingForTheApplication) {
  this->chat.echoes = false;
  this->chat.when_message = [this] { this->chat.socket->set_reading(false); };
  const int client = this->open();
  this->write(client, text("1") + text("2") + text("3"));
  for (size_t count = 1; count <= 3; ++count) {
    ASSERT_TRUE(this->run_until([&] { return this->chat.messages.size() == count; }));
    this->settle();
    ASSERT_EQ(this->chat.messages.size(), count);
    this->chat.socket->set_reading(true);
    ASSERT_EQ(this->chat.messages.size(), count) << "not inside the application's call";
  }
  this->chat.when_message = nullptr;
  this->write(client, text("4") + client_close(1000));
  EXPECT_TRUE(this->ends_with(1000));
  EXPECT_EQ(this->chat.messages, (std::vector<std::string>{"1", "2", "3", "4"}));
}

TYPED_TEST(Http1WebSocketTest, SeesTheEndBehindWhatTheApplicationHadNotRead) {
  this->chat.echoes = false;
  this->chat.when_message = [this] { this->chat.socket->set_reading(false); };
  const int client = this->open();
  this->write(client, text("1") + text("2"));
  ASSERT_TRUE(this->run_until([&] { return this->chat.messages.size() == 1; }));
  this->hang_up(client);
  this->settle();
  this->chat.when_message = nullptr;
  this->chat.socket->set_reading(true);
  EXPECT_TRUE(this->ends_with(1006));
  EXPECT_EQ(this->chat.messages.size(), 2U);
}

TYPED_TEST(Http1WebSocketTest, TellsTheApplicationWhenItMaySendMore) {
  const int client = this->open();
  const std::string bytes(50'000, 'x');
  size_t count = 0;
  for (; !this->chat.socket->is_full() && count < 1000; ++count) {
    ASSERT_EQ(this->chat.socket->send(MessageKind::binary, bytes, this->lend()), nullptr);
  }
  ASSERT_TRUE(this->chat.socket->is_full());
  const std::string frame = sent(Opcode::binary, bytes);
  std::string got;
  EXPECT_TRUE(this->run_until([&] { return (got += this->world.read(client)).size() == count * frame.size(); }, 20'000));
  EXPECT_TRUE(this->run_until([&] { return this->chat.drains == 1; }));
  EXPECT_EQ(got.substr(got.size() - frame.size()), frame);
}

TYPED_TEST(Http1WebSocketTest, GivesUpAClientThatTakesNothing) {
  this->options.limits.write_ns = second_ns / 20;
  this->open();
  const std::string bytes(100'000, 'x');
  for (int i = 0; i < 1000 && !this->chat.socket->is_full(); ++i) ASSERT_EQ(this->chat.socket->send(MessageKind::binary, bytes), nullptr);
  EXPECT_TRUE(this->ends_with(1006));
}

TYPED_TEST(Http1WebSocketTest, PingsAClientAndEndsOneThatIsSilent) {
  this->options.limits.websocket.ping_ns = second_ns / 50;
  this->options.limits.websocket.pong_ns = second_ns / 50;
  const int client = this->open();
  const std::string reason = "keepalive ping timeout";
  EXPECT_EQ(this->read_all(client), sent(Opcode::ping, "") + sent_close(1011, reason));
  EXPECT_EQ(this->chat.code, 1011);
}

TYPED_TEST(Http1WebSocketTest, RefusesMessagesThatAreTooBig) {
  this->options.limits.websocket.message_bytes_max = 10;
  const int client = this->open();
  this->write(client, text("0123456789") + text("0123456789a"));
  EXPECT_EQ(this->read_all(client), sent(Opcode::text, "0123456789") + sent_close(1009, "message too big"));
}

TYPED_TEST(Http1WebSocketTest, CompressesIfTheClientCan) {
  const int client = this->connect();
  const std::string head = this->ask(client, handshake + "Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n", "\r\n\r\n");
  EXPECT_NE(head.find("sec-websocket-extensions: permessage-deflate; server_max_window_bits=12\r\n"), std::string::npos) << head;
  const std::string payload = "\xf2\x48\xcd\xc9\xc9\x07\x00"s;  // RFC 7692 7.2.3.1
  EXPECT_EQ(this->ask(client, client_frame({.first = 0xC1, .payload = payload}), "Hello"), sent(Opcode::text, "Hello")) << "too small to compress";
  const std::string bytes(100'000, 'x');
  ASSERT_EQ(this->chat.socket->send(MessageKind::text, bytes, this->lend()), nullptr);
  std::string got;
  ASSERT_TRUE(this->run_until([&] { return (got += this->world.read(client)).size() > 100; }));
  EXPECT_EQ(got[0], '\xC1');
  MessageInflater inflater({});
  ByteBuffer out;
  EXPECT_EQ(inflater.inflate(std::string_view(got).substr(4), true, out, UINT64_MAX), MessageInflater::Outcome::ok);
  EXPECT_EQ(out.view(), bytes);
}

}  // namespace
}  // namespace cxxloop::web
