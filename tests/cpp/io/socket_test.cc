// SPDX-License-Identifier: MIT
#include "io/socket.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <string>
#include <vector>

namespace cxxloop::io {
namespace {

class SocketTest : public testing::Test {
 protected:
  void SetUp() override {
    int fds[2];
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    near.reset(fds[0]);
    far.reset(fds[1]);
  }
  static std::span<const std::byte> bytes_of(const std::string& text) { return std::as_bytes(std::span(text)); }

  UniqueFd near;
  UniqueFd far;
};

TEST_F(SocketTest, SendsAndReceives) {
  Result<size_t> sent = send(near.get(), bytes_of("hello"));
  ASSERT_TRUE(sent.ok());
  EXPECT_EQ(sent.value(), 5U);
  std::array<std::byte, 16> buffer;
  Result<size_t> received = receive(far.get(), buffer);
  ASSERT_TRUE(received.ok());
  EXPECT_EQ(received.value(), 5U);
  EXPECT_EQ(receive(far.get(), buffer).error(), Errno::again);
}

TEST_F(SocketTest, AVectorLongerThanTheKernelTakesIsSentInPart) {
  std::string byte = "x";
  const std::vector<iovec> iov(3000, iovec{byte.data(), 1});
  Result<size_t> sent = send_vector(near.get(), iov);
  ASSERT_TRUE(sent.ok());
  EXPECT_GT(sent.value(), 0U);
  EXPECT_LE(sent.value(), 3000U);
}

TEST_F(SocketTest, ReadsAFileWhereItIsTold) {
  const UniqueFd file(::memfd_create("file", MFD_CLOEXEC));
  ASSERT_EQ(::write(file.get(), "0123456789", 10), 10);
  std::array<std::byte, 4> buffer;
  Result<size_t> read = read_file(file.get(), buffer, 8);
  ASSERT_TRUE(read.ok());
  EXPECT_EQ(read.value(), 2U);
  EXPECT_EQ(std::to_integer<char>(buffer[0]), '8');
  EXPECT_EQ(read_file(file.get(), buffer, 10).value(), 0U);
  EXPECT_EQ(read_file(near.get(), buffer, 0).error(), static_cast<Errno>(ESPIPE));
}

TEST_F(SocketTest, AClosedPeerIsAnErrorAndNoSignal) {
  far.reset();
  EXPECT_EQ(send(near.get(), bytes_of("x")).error(), Errno::pipe);
}

TEST_F(SocketTest, ShutdownOfAnUnconnectedSocketSaysSo) {
  EXPECT_EQ(shutdown_write(near.get()), Errno::ok);
  const UniqueFd lonely(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  EXPECT_EQ(shutdown_write(lonely.get()), static_cast<Errno>(ENOTCONN));
  EXPECT_EQ(shutdown_write(-1), Errno::bad_fd);
}

TEST_F(SocketTest, TellsSocketsAndFifosApart) {
  int pipe_ends[2];
  ASSERT_EQ(::pipe2(pipe_ends, O_CLOEXEC), 0);
  const UniqueFd reader(pipe_ends[0]);
  const UniqueFd writer(pipe_ends[1]);
  const UniqueFd copy(::dup(near.get()));
  EXPECT_TRUE(identity_of(near.get()).is_known());
  EXPECT_EQ(identity_of(near.get()), identity_of(copy.get()));
  EXPECT_NE(identity_of(near.get()), identity_of(far.get()));
  EXPECT_NE(identity_of(near.get()), identity_of(reader.get()));
  EXPECT_TRUE(identity_of(reader.get()).is_known());
  const UniqueFd event(::eventfd(0, EFD_CLOEXEC));
  EXPECT_FALSE(identity_of(event.get()).is_known());
  EXPECT_FALSE(identity_of(-1).is_known());
}

TEST_F(SocketTest, KnowsWhatCanBePolled) {
  FileIdentity identity;
  EXPECT_EQ(check_pollable(near.get(), &identity), Errno::ok);
  int pipe_ends[2];
  ASSERT_EQ(::pipe2(pipe_ends, O_CLOEXEC), 0);
  const UniqueFd reader(pipe_ends[0]);
  const UniqueFd writer(pipe_ends[1]);
  EXPECT_EQ(check_pollable(reader.get(), &identity), Errno::ok);
  const UniqueFd event(::eventfd(0, EFD_CLOEXEC));
  EXPECT_EQ(check_pollable(event.get(), &identity), Errno::ok);
  const UniqueFd process(static_cast<int>(::syscall(SYS_pidfd_open, ::getpid(), 0)));
  if (process.valid()) {
    EXPECT_EQ(check_pollable(process.get(), &identity), Errno::ok);
  }
  const UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  EXPECT_EQ(check_pollable(null.get(), &identity), Errno::not_permitted);
  const UniqueFd directory(::open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  EXPECT_EQ(check_pollable(directory.get(), &identity), Errno::not_permitted);
  const UniqueFd file(::open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
  EXPECT_EQ(check_pollable(file.get(), &identity), Errno::not_permitted);
  EXPECT_EQ(check_pollable(-1, &identity), Errno::bad_fd);
}

TEST_F(SocketTest, AcceptedConnectionsDoNotBlockAndAreNotInherited) {
  const UniqueFd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  sockaddr_storage address{};
  address.ss_family = AF_UNIX;
  ASSERT_EQ(::bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(sa_family_t)), 0);
  ASSERT_EQ(::listen(listener.get(), 1), 0);
  Address peer;
  EXPECT_EQ(accept_connection(listener.get(), &peer).error(), Errno::again);
  socklen_t size = sizeof(address);
  ASSERT_EQ(::getsockname(listener.get(), reinterpret_cast<sockaddr*>(&address), &size), 0);
  const UniqueFd client(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  ASSERT_EQ(::connect(client.get(), reinterpret_cast<const sockaddr*>(&address), size), 0);
  Result<int> accepted = accept_connection(listener.get(), &peer);
  ASSERT_TRUE(accepted.ok());
  const UniqueFd connection(accepted.value());
  EXPECT_NE(::fcntl(connection.get(), F_GETFL) & O_NONBLOCK, 0);
  EXPECT_NE(::fcntl(connection.get(), F_GETFD) & FD_CLOEXEC, 0);
}

TEST(TcpSocket, SendsWithoutDelayAndResets) {
  UniqueFd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  ASSERT_EQ(::bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
  ASSERT_EQ(::listen(listener.get(), 1), 0);
  socklen_t size = sizeof(address);
  ASSERT_EQ(::getsockname(listener.get(), reinterpret_cast<sockaddr*>(&address), &size), 0);
  UniqueFd client(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  ASSERT_EQ(::connect(client.get(), reinterpret_cast<const sockaddr*>(&address), size), 0);
  UniqueFd served(::accept(listener.get(), nullptr, nullptr));
  ASSERT_TRUE(served.valid());
  send_without_delay(served.get());
  int on = 0;
  size = sizeof(on);
  ASSERT_EQ(::getsockopt(served.get(), IPPROTO_TCP, TCP_NODELAY, &on, &size), 0);
  EXPECT_NE(on, 0);
  reset_when_closed(served.get());
  served.reset();
  char byte;
  EXPECT_EQ(::recv(client.get(), &byte, 1, 0), -1);
  EXPECT_EQ(errno, ECONNRESET);
}

TEST_F(SocketTest, DatagramsCarryTheAddressOfTheirSender) {
  const UniqueFd one(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  const UniqueFd other(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  Address address;
  address.storage = {};
  address.storage.ss_family = AF_UNIX;
  ASSERT_EQ(::bind(one.get(), address.get(), sizeof(sa_family_t)), 0);
  address.size = sizeof(address.storage);
  ASSERT_EQ(::getsockname(one.get(), address.get(), &address.size), 0);
  std::array<std::byte, 16> buffer;
  Address peer;
  EXPECT_EQ(receive_from(one.get(), buffer, &peer).error(), Errno::again);
  Result<size_t> sent = send_to(other.get(), bytes_of("hello"), &address);
  ASSERT_TRUE(sent.ok());
  EXPECT_EQ(sent.value(), 5U);
  Result<size_t> received = receive_from(one.get(), buffer, &peer);
  ASSERT_TRUE(received.ok());
  EXPECT_EQ(received.value(), 5U);
  EXPECT_EQ(peer.size, 0U);  // the sender has no name
  EXPECT_EQ(send_to(other.get(), bytes_of("x"), nullptr).error(), static_cast<Errno>(ENOTCONN));
}

TEST_F(SocketTest, SetNonblockingCloexecSetsBoth) {
  const UniqueFd plain(::socket(AF_UNIX, SOCK_STREAM, 0));
  EXPECT_EQ(set_nonblocking_cloexec(plain.get()), Errno::ok);
  EXPECT_NE(::fcntl(plain.get(), F_GETFL) & O_NONBLOCK, 0);
  EXPECT_NE(::fcntl(plain.get(), F_GETFD) & FD_CLOEXEC, 0);
  EXPECT_EQ(set_nonblocking_cloexec(-1), Errno::bad_fd);
}

}  // namespace
}  // namespace cxxloop::io
