// SPDX-License-Identifier: MIT
#include "web/core/tls_native_session.h"

#include <gtest/gtest.h>

#include <array>
#include <vector>

#include "cpp/web/core/tls_peer.h"

namespace cxxloop::web {
namespace {

struct Report final : TlsReport {
  void on_version(unsigned of_tls, unsigned suite) noexcept override { version = of_tls, cipher_suite = suite; }
  void on_server_certificate(std::string_view der) noexcept override { server = der; }
  void on_client_certificate(std::string_view der) noexcept override { client.emplace_back(der); }
  void on_client_name(std::string_view text) noexcept override { name = text; }

  unsigned version = 0;
  unsigned cipher_suite = 0;
  std::string server;
  std::vector<std::string> client;
  std::string name;
};

class NativeTlsSessionTest : public testing::TestWithParam<int> {
 protected:
  void SetUp() override {
    if (tls_library() == nullptr) GTEST_SKIP() << "no libssl here";
    context = std::make_unique<TlsServerContext>();
  }
  void begin(const TlsIdentity* identity = nullptr) {
    client = std::make_unique<TlsClient>(TlsClientOptions{GetParam(), identity});
    wire.output = std::span(room).first(room_bytes);
    session = context->make_session(wire);
    ASSERT_NE(session, nullptr);
  }
  std::string take_output() { return {reinterpret_cast<char*>(room.data()), std::exchange(wire.output_used, 0)}; }
  // The session's answer to what the client sends, `bytes_max` at a time.
  TlsOutcome shake_hands(size_t bytes_max = SIZE_MAX) {
    TlsOutcome outcome = TlsOutcome::wait;
    for (int round = 0; round < 20 && outcome == TlsOutcome::wait; ++round) {
      (void)client->handshake();
      std::string sent = client->to_send();
      while (!sent.empty() && outcome == TlsOutcome::wait) {
        const std::string piece = sent.substr(0, bytes_max);
        sent.erase(0, piece.size());
        wire.input = std::as_bytes(std::span(piece));
        do {
          outcome = session->handshake();
          client->receive(take_output());
        } while (outcome == TlsOutcome::full);
      }
    }
    (void)client->handshake();
    return outcome;
  }
  TlsRead read(std::string_view encrypted) {
    wire.input = std::as_bytes(std::span(encrypted));
    return session->read(plain);
  }

  std::unique_ptr<TlsServerContext> context;
  std::array<std::byte, 80 * 1024> room;
  size_t room_bytes = sizeof(room);
  std::array<char, 64 * 1024> plain;
  TlsWire wire;
  std::unique_ptr<TlsSession> session;
  std::unique_ptr<TlsClient> client;
};

TEST_P(NativeTlsSessionTest, CarriesBytesBothWays) {
  begin();
  ASSERT_EQ(shake_hands(), TlsOutcome::done);
  client->write("hello");
  client->write(" world");
  const TlsRead got = read(client->to_send());
  EXPECT_EQ(got.outcome, TlsOutcome::wait);
  EXPECT_EQ(std::string_view(plain.data(), got.bytes), "hello world");
  EXPECT_TRUE(wire.input.empty());
  const std::string record(tls_record_bytes_max, 'x');
  ASSERT_TRUE(session->write(record));
  EXPECT_LE(wire.output_used, tls_record_bytes_max + 300U);
  client->receive(take_output());
  EXPECT_EQ(client->read(), record);
}

TEST_P(NativeTlsSessionTest, ShakesHandsByteByByteAndThroughLittleRoom) {
  room_bytes = 100;
  begin();
  EXPECT_EQ(shake_hands(1), TlsOutcome::done);
}

TEST_P(NativeTlsSessionTest, FillsWhatItIsGivenAndSaysThatThereIsMore) {
  begin();
  ASSERT_EQ(shake_hands(), TlsOutcome::done);
  client->write(std::string(70'000, 'y'));
  const std::string sent = client->to_send();
  TlsRead got = read(sent);
  EXPECT_EQ(got.outcome, TlsOutcome::done);
  EXPECT_EQ(got.bytes, plain.size());
  got = session->read(plain);
  EXPECT_EQ(got.outcome, TlsOutcome::wait);
  EXPECT_EQ(got.bytes, 70'000 - plain.size());
}

TEST_P(NativeTlsSessionTest, TellsAnOrderlyEndFromRubbish) {
  begin();
  ASSERT_EQ(shake_hands(), TlsOutcome::done);
  client->write("last");
  client->close();
  const TlsRead got = read(client->to_send());
  EXPECT_EQ(got.outcome, TlsOutcome::closed);
  EXPECT_EQ(got.bytes, 4U);
  session->close();
  client->receive(take_output());
  EXPECT_EQ(client->read(), "");
  EXPECT_TRUE(client->is_closed());
  begin();
  ASSERT_EQ(shake_hands(), TlsOutcome::done);
  EXPECT_EQ(read("nothing that TLS knows").outcome, TlsOutcome::failed);
}

TEST_P(NativeTlsSessionTest, ReportsWhatItKnows) {
  const TlsIdentity identity("M\xC3\xBCller");
  context->demand(identity);
  begin(&identity);
  ASSERT_EQ(shake_hands(), TlsOutcome::done);
  Report report;
  session->describe(report);
  EXPECT_EQ(report.version, static_cast<unsigned>(GetParam()));
  EXPECT_EQ(report.cipher_suite >> 8, GetParam() == 0x0304 ? 0x13U : 0xC0U);
  EXPECT_EQ(report.server, context->identity.der());
  ASSERT_EQ(report.client.size(), 1U);
  EXPECT_EQ(report.client[0], identity.der());
  EXPECT_EQ(report.name, "CN=M\xC3\xBCller,O=Acme\\, Inc.");
}

TEST_P(NativeTlsSessionTest, RefusesAClientThatDoesNotShowItsCertificate) {
  const TlsIdentity identity("somebody");
  context->demand(identity);
  begin();
  EXPECT_EQ(shake_hands(), TlsOutcome::failed);
  Report report;
  session->describe(report);
  EXPECT_TRUE(report.client.empty() && report.name.empty());
}

TEST_P(NativeTlsSessionTest, RefusesToNegotiateAnew) {
  if (GetParam() == 0x0304) GTEST_SKIP() << "TLS 1.3 has no renegotiation";
  begin();
  ASSERT_EQ(shake_hands(), TlsOutcome::done);
  ASSERT_EQ(call<int>("SSL_renegotiate", client->ssl()), 1);
  (void)client->handshake();
  EXPECT_EQ(read(client->to_send()).outcome, TlsOutcome::wait);
  client->receive(take_output());
  EXPECT_FALSE(client->handshake());
  constexpr int error_ssl = 1;
  EXPECT_EQ(tls_library()->SSL_get_error(client->ssl(), -1), error_ssl);
}

INSTANTIATE_TEST_SUITE_P(Versions, NativeTlsSessionTest, testing::Values(0x0303, 0x0304),
                         [](const auto& version) { return version.param == 0x0304 ? "Tls13" : "Tls12"; });

}  // namespace
}  // namespace cxxloop::web
