// SPDX-License-Identifier: MIT
#include "web/core/tls_stream.h"

#include <gtest/gtest.h>

#include <cstdio>

#include "cpp/web/core/serving.h"
#include "cpp/web/core/tls_peer.h"
#include "web/core/connection.h"

namespace cxxloop::web {
namespace {

constexpr std::string_view get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
constexpr std::string_view last_get = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

template <class W>
class TlsStreamTest : public Serving<W> {
 protected:
  void SetUp() override {
    if (tls_library() == nullptr) GTEST_SKIP() << "no libssl here";
    context = std::make_unique<TlsServerContext>();
    this->options.tls = context.get();
    this->app.handle = echo;
  }
  ~TlsStreamTest() override { this->stop(); }

  // What the client has to send goes, what is there comes.
  void exchange(int fd, TlsClient& client, size_t read_bytes_max = SIZE_MAX) {
    unsent += client.to_send();
    unsent.erase(0, this->world.write(fd, unsent));
    this->turn(0);
    if (received < read_bytes_max) {
      const std::string got = this->world.read(fd);
      received += got.size();
      client.receive(got);
    }
  }
  int secure(TlsClient& client) {
    const int fd = this->connect();
    EXPECT_TRUE(this->run_until([&] {
      const bool is_done = client.handshake();
      exchange(fd, client);
      return is_done;
    }));
    return fd;
  }
  std::string read_to(int fd, TlsClient& client, std::string_view end) {
    std::string text;
    EXPECT_TRUE(this->run_until([&] {
      exchange(fd, client);
      text += client.read();
      return text.ends_with(end);
    })) << text.substr(0, 1000);
    return text;
  }
  std::string read_to_close(int fd, TlsClient& client) {
    std::string text;
    EXPECT_TRUE(this->run_until([&] {
      exchange(fd, client);
      text += client.read();
      return client.is_closed() || this->world.at_eof(fd);
    }));
    return text;
  }

  std::unique_ptr<TlsServerContext> context;
  std::string unsent;
  size_t received = 0;
};
TYPED_TEST_SUITE(TlsStreamTest, ServingWorlds);

TYPED_TEST(TlsStreamTest, AnswersPipelinedRequestsAndSaysThatItEnds) {
  TlsClient client;
  const int fd = this->secure(client);
  client.write(std::string(get) + std::string(get) + std::string(last_get));
  const std::string text = this->read_to_close(fd, client);
  EXPECT_EQ(this->app.answers.size(), 3U);
  EXPECT_EQ(text.substr(text.rfind("\r\n")), "\r\nGET / ");
  EXPECT_TRUE(client.is_closed()) << "by close_notify";
  EXPECT_EQ(this->server->counters().handshakes, 1U);
  EXPECT_EQ(this->server->counters().handshakes_failed, 0U);
}

TYPED_TEST(TlsStreamTest, HeadAndBodyAreOneRecord) {
  TlsClient client;
  const int fd = this->secure(client);
  client.write(get);
  this->read_to(fd, client, "GET / ");  // session tickets come before
  const std::string body(5000, 'b');
  this->app.handle = [&](Answer& answer) {
    EXPECT_TRUE(answer.take_all());
    EXPECT_EQ(answer.exchange->start({.body_bytes = body.size()}), nullptr);
    EXPECT_EQ(answer.exchange->write(body, this->lend()), nullptr);
    EXPECT_EQ(answer.exchange->end(), nullptr);
  };
  client.write(get);
  this->write(fd, client.to_send());
  std::string raw;
  ASSERT_TRUE(this->run_until([&] {
    raw += this->world.read(fd);
    // The first record has come, and nothing follows.
    return raw.size() >= 5 && raw.size() == 5 + 256U * static_cast<unsigned char>(raw[3]) + static_cast<unsigned char>(raw[4]);
  }));
  EXPECT_EQ(raw[0], 23);  // application data
  client.receive(raw);
  EXPECT_TRUE(client.read().ends_with(body));
}

TYPED_TEST(TlsStreamTest, TakesALargeBody) {
  TlsClient client;
  const int fd = this->secure(client);
  const std::string body(700'000, 'u');
  client.write("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 700000\r\n\r\n" + body);
  const std::string text = this->read_to(fd, client, "uuu");
  EXPECT_EQ(this->app.last().body, body);
}

TYPED_TEST(TlsStreamTest, ASlowReaderKeepsTheApplicationWaiting) {
  TlsClient client;
  const int fd = this->secure(client);
  const std::string piece(100'000, 'p');
  size_t pieces = 0;
  this->app.handle = [&](Answer& answer) {
    EXPECT_TRUE(answer.take_all());
    const auto write = [&] {
      while (pieces < 100 && !answer.exchange->is_full()) {
        EXPECT_EQ(answer.exchange->write(piece, this->lend()), nullptr);
        ++pieces;
      }
      if (pieces == 100) { EXPECT_EQ(answer.exchange->end(), nullptr); }
    };
    answer.when_drained = write;
    EXPECT_EQ(answer.exchange->start({.body_bytes = 100 * piece.size()}), nullptr);
    write();
  };
  client.write(get);
  this->exchange(fd, client, 0);
  this->settle();
  EXPECT_GT(pieces, 0U);
  EXPECT_LT(pieces, 100U) << "the client has read nothing";
  std::string text;
  ASSERT_TRUE(this->run_until([&] {
    this->exchange(fd, client);
    text += client.read();
    return text.size() > 100 * piece.size();
  }, 100'000));
  EXPECT_EQ(pieces, 100U);
  EXPECT_GT(this->app.last().drains, 0);
  EXPECT_EQ(this->lent, this->released);
}

class ContentFile {
 public:
  ContentFile() {
    for (int i = 0; i < 200'000; ++i) text += std::to_string(i) + ' ';
    EXPECT_EQ(std::fwrite(text.data(), 1, text.size(), file_), text.size());
    std::fflush(file_);
  }
  ~ContentFile() { std::fclose(file_); }
  [[nodiscard]] int fd() const { return fileno(file_); }

  std::string text;

 private:
  std::FILE* file_ = std::tmpfile();
};

TYPED_TEST(TlsStreamTest, SendsAFileInPieces) {
  const ContentFile file;
  this->app.handle = [&](Answer& answer) {
    EXPECT_TRUE(answer.take_all());
    answer.when_drained = [&answer] {
      if (!answer.exchange->is_full()) { EXPECT_EQ(answer.exchange->end(), nullptr); }
    };
    EXPECT_EQ(answer.exchange->start({.body_bytes = file.text.size()}), nullptr);
    EXPECT_EQ(answer.exchange->write_file(file.fd(), 0, file.text.size()), nullptr);
    if (!answer.exchange->is_full()) { EXPECT_EQ(answer.exchange->end(), nullptr); }
  };
  TlsClient client;
  const int fd = this->secure(client);
  client.write(get);
  const std::string text = this->read_to(fd, client, file.text);
  EXPECT_TRUE(text.starts_with("HTTP/1.1 200 "));
  client.write(get);
  EXPECT_EQ(this->read_to(fd, client, file.text), text) << "the connection goes on";
}

TYPED_TEST(TlsStreamTest, AShortFileResetsTheConnection) {
  const ContentFile file;
  this->app.handle = [&](Answer& answer) {
    EXPECT_TRUE(answer.take_all());
    EXPECT_EQ(answer.exchange->start({.body_bytes = file.text.size() + 1}), nullptr);
    EXPECT_EQ(answer.exchange->write_file(file.fd(), 0, file.text.size() + 1), nullptr);
  };
  TlsClient client;
  const int fd = this->secure(client);
  client.write(get);
  this->read_to_close(fd, client);
  EXPECT_FALSE(client.is_closed());
  EXPECT_TRUE(this->app.last().has_ended());
  EXPECT_EQ(this->app.last().ending.why, Ending::Why::aborted);
}

TYPED_TEST(TlsStreamTest, AClientThatHasEndedItsSideGetsItsAnswer) {
  this->app.handle = nullptr;
  TlsClient client;
  const int fd = this->secure(client);
  client.write(get);
  client.close();
  ASSERT_TRUE(this->run_until([&] {
    this->exchange(fd, client);
    return !this->app.answers.empty() && this->app.last().disconnects == 1;
  }));
  EXPECT_TRUE(this->app.last().take_all());
  this->app.last().respond("late");
  EXPECT_TRUE(this->read_to_close(fd, client).ends_with("late"));
}

TYPED_TEST(TlsStreamTest, EndsAHandshakeThatTakesTooLong) {
  this->options.limits.handshake_ns = second_ns / 10;
  const int fd = this->connect();
  this->write(fd, "\x16\x03\x01");
  EXPECT_EQ(this->read_all(fd), "");
  EXPECT_EQ(this->server->counters().timeouts, 1U);
  EXPECT_EQ(this->server->counters().limits[static_cast<size_t>(Limit::handshake_time)], 1U);
}

TYPED_TEST(TlsStreamTest, AnswersPlainHttpInPlainText) {
  const int fd = this->connect();
  this->write(fd, get);
  const std::string text = this->read_all(fd);
  EXPECT_TRUE(text.starts_with("HTTP/1.1 400 ")) << text;
  EXPECT_NE(text.find("HTTPS"), std::string::npos);
  EXPECT_TRUE(this->app.answers.empty());
  EXPECT_EQ(this->server->counters().bad_requests, 1U);
}

TYPED_TEST(TlsStreamTest, EndsWithAnAlertWhatIsNoHandshake) {
  const int fd = this->connect();
  this->write(fd, std::string("\x16\x03\x01\x00\x05\xff\xff\xff\xff\xff", 10));
  const std::string text = this->read_all(fd);
  ASSERT_FALSE(text.empty());
  EXPECT_EQ(text[0], 21);  // alert
  EXPECT_EQ(this->server->counters().handshakes_failed, 1U);
  EXPECT_TRUE(this->app.answers.empty());
}

TYPED_TEST(TlsStreamTest, EndsAConnectionWhoseBytesAreNoTlsAnyMore) {
  TlsClient client;
  const int fd = this->secure(client);
  this->write(fd, std::string(100, '\0'));
  ASSERT_TRUE(this->run_until([&] { return this->app.connection_ends == 1; }));
  EXPECT_TRUE(this->app.answers.empty());
}

TYPED_TEST(TlsStreamTest, RefusesTooManyConnectionsWithAnAnswer) {
  this->options.limits.connections_max = 1;
  TlsClient first;
  this->secure(first);
  TlsClient second;
  const int fd = this->secure(second);
  EXPECT_TRUE(this->read_to_close(fd, second).starts_with("HTTP/1.1 503 "));
}

TYPED_TEST(TlsStreamTest, AConnectionWithoutASessionIsClosed) {
  this->context->is_refusing = true;
  const int fd = this->connect();
  EXPECT_EQ(this->read_all(fd), "");
}

TYPED_TEST(TlsStreamTest, DrainsWithoutLosingAHandshakeOrWaitingForOne) {
  const int stuck = this->connect();
  this->write(stuck, "\x16\x03\x01");
  TlsClient client;
  const int fd = this->connect();
  (void)client.handshake();
  this->exchange(fd, client);
  ASSERT_TRUE(this->run_until([&] { return this->app.connects == 2; }));
  const int64_t begin_ns = this->world.now_ns();
  this->server->drain();
  ASSERT_TRUE(this->run_until([&] {
    const bool is_done = client.handshake();
    if (!is_done) this->exchange(fd, client);
    return is_done;
  }));
  client.write(get);
  const std::string text = this->read_to_close(fd, client);
  EXPECT_TRUE(text.starts_with("HTTP/1.1 200 ")) << text;
  ASSERT_TRUE(this->run_until([&] { return this->app.idles == 1; }, 20'000));
  EXPECT_LT(this->world.now_ns() - begin_ns, Connection::drain_handshake_ns + 2 * Connection::linger_ns);
}

TYPED_TEST(TlsStreamTest, TheClientMayGoAtAnyTime) {
  for (int turns = 0; turns < 12; ++turns) {
    TlsClient client;
    const int fd = this->connect();
    for (int i = 0; i < turns; ++i) {
      if (client.handshake() && i % 3 == 0) client.write(get);
      this->exchange(fd, client);
    }
    this->unsent.clear();
    this->hang_up(fd);
  }
  EXPECT_TRUE(this->run_until([&] { return this->server->counters().connections == 0; }, 20'000));
}

}  // namespace
}  // namespace cxxloop::web
