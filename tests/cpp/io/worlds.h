// SPDX-License-Identifier: MIT
//
// io/worlds.h: a backend together with the other ends of its connections, the same for real and simulated sockets.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "io/backend.h"
#include "sim/sim_backend.h"

namespace cxxloop::io {

struct FdPair {
  int near;
  int far;
};

class World {
 public:
  virtual ~World() = default;
  [[nodiscard]] virtual Backend& backend() = 0;
  [[nodiscard]] virtual FdPair make_pair() = 0;
  [[nodiscard]] virtual int make_listener() = 0;
  // Datagram sockets, connected to each other and reachable by their addresses.
  [[nodiscard]] virtual FdPair make_datagram_pair() = 0;
  [[nodiscard]] virtual Address address_of(int fd) = 0;
  virtual std::vector<std::string> read_datagrams(int fd) = 0;  // what is there
  [[nodiscard]] virtual int connect(int listener) = 0;  // the client's end
  virtual size_t write(int fd, std::string_view bytes) = 0;  // what fits
  virtual std::string read(int fd) = 0;                      // what is there
  virtual bool at_eof(int fd) = 0;
  virtual void close(int fd) = 0;
  [[nodiscard]] virtual int64_t now_ns() = 0;
  // True: cancel() answers false, and the last completion comes with a later wait().
  [[nodiscard]] virtual bool cancels_late() const { return false; }

  // One wait and everything it collected.
  void turn(Deadline deadline) {
    ASSERT_EQ(backend().wait(deadline), Errno::ok);
    while (backend().dispatch_one()) {
    }
    ASSERT_EQ(backend().collected(), 0U);
  }
  // Turns until `done`, or until something that works would long have happened.
  template <class Done>
  bool run_until(Done&& done) {
    for (int i = 0; i < 2000 && !done(); ++i) turn(Deadline{now_ns() + 1'000'000});
    return done();
  }
  // Long enough for anything to happen that is due.
  void settle() {
    for (int i = 0; i < 40; ++i) turn(Deadline::immediate());
  }
  // The way of an op's owner who goes: the last completion is awaited.
  void take_back(Op& op) {
    if (backend().cancel(op)) return;
    ASSERT_TRUE(cancels_late());
    while (op.in_kernel()) turn(Deadline::immediate());
  }
  // The owner's way to get rid of a descriptor.
  void forget_and_close(int fd) {
    backend().forget(fd);
    close(fd);
  }
};

class EvWorld : public World {
 public:
  EvWorld();
  explicit EvWorld(const char* backend_name);
  Backend& backend() override { return *backend_; }
  FdPair make_pair() override;
  int make_listener() override;
  FdPair make_datagram_pair() override;
  Address address_of(int fd) override;
  std::vector<std::string> read_datagrams(int fd) override;
  int connect(int listener) override;
  size_t write(int fd, std::string_view bytes) override;
  std::string read(int fd) override;
  bool at_eof(int fd) override;
  void close(int fd) override;
  int64_t now_ns() override { return monotonic_ns(); }

 private:
  std::unique_ptr<Backend> backend_;
};

class LateWorld : public EvWorld {
 public:
  LateWorld();
  [[nodiscard]] bool cancels_late() const override { return true; }
};

class SimWorld : public World {
 public:
  explicit SimWorld(sim::Faults faults = sim::Faults::none())
      : backend_(static_cast<uint64_t>(testing::UnitTest::GetInstance()->random_seed()) + 1, faults) {}
  Backend& backend() override { return backend_; }
  FdPair make_pair() override {
    const auto [near, far] = backend_.make_pair();
    return {near, far};
  }
  int make_listener() override { return backend_.make_listener(); }
  FdPair make_datagram_pair() override {
    const auto [near, far] = backend_.make_datagram_pair();
    return {near, far};
  }
  Address address_of(int fd) override { return sim::SimBackend::address_of(fd); }
  std::vector<std::string> read_datagrams(int fd) override;
  int connect(int listener) override { return backend_.connect(listener); }
  size_t write(int fd, std::string_view bytes) override;
  std::string read(int fd) override;
  bool at_eof(int fd) override;
  void close(int fd) override { backend_.close(fd); }
  int64_t now_ns() override { return backend_.now_ns(); }

 private:
  sim::SimBackend backend_;
};

// Every send is queued first.
class QueueingSimWorld : public SimWorld {
 public:
  QueueingSimWorld() : SimWorld(sim::Faults{.queued_sends = 1000}) {}
};

class BenignSimWorld : public SimWorld {
 public:
  BenignSimWorld() : SimWorld(sim::Faults::benign()) {}
};

// An op that counts its completions. Cancelled when it goes.
struct PollProbe {
  PollProbe(World& in_world, OpKind kind, int fd) : world(in_world), backend(in_world.backend()), op(kind, this, on_complete) { op.fd = fd; }
  ~PollProbe() { world.take_back(op); }
  Errno submit() { return backend.submit(op); }

  static void on_complete(Op& op, int32_t result) noexcept {
    auto& self = *static_cast<PollProbe*>(op.owner);
    EXPECT_TRUE(result == 0 || (result == -ECANCELED && self.world.cancels_late()));
    ++self.completions;
    if (const auto then = self.then) then();
  }

  World& world;
  Backend& backend;
  Op op;
  int completions = 0;
  std::function<void()> then;
};

struct RecvProbe {
  RecvProbe(World& in_world, int fd) : world(in_world), backend(in_world.backend()), op(this, on_complete, target) { op.fd = fd; }
  ~RecvProbe() { world.take_back(op); }
  Errno submit() { return backend.submit(op); }

  static std::optional<std::span<std::byte>> target(RecvOp& op) noexcept {
    auto& self = *static_cast<RecvProbe*>(op.owner);
    if (const auto choose = self.choose_target) return choose();
    return std::span<std::byte>();
  }
  static void on_complete(Op& op, int32_t result) noexcept {
    auto& self = *static_cast<RecvProbe*>(op.owner);
    if (result > 0) {
      self.bytes.append(reinterpret_cast<const char*>(static_cast<RecvOp&>(op).data), static_cast<size_t>(result));
    } else {
      EXPECT_FALSE(op.in_kernel());
      ++self.endings;
      self.last_result = result;
    }
    if (const auto then = self.then) then();
  }

  World& world;
  Backend& backend;
  RecvOp op;
  std::string bytes;
  int endings = 0;
  int32_t last_result = 0;
  std::function<std::optional<std::span<std::byte>>()> choose_target;
  std::function<void()> then;
};

struct RecvFromProbe {
  RecvFromProbe(World& in_world, int fd) : world(in_world), backend(in_world.backend()), op(this, on_complete, target) { op.fd = fd; }
  ~RecvFromProbe() { world.take_back(op); }
  Errno submit() { return backend.submit(op); }

  static std::optional<std::span<std::byte>> target(RecvFromOp& op) noexcept {
    auto& self = *static_cast<RecvFromProbe*>(op.owner);
    if (const auto choose = self.choose_target) return choose();
    return std::span<std::byte>();
  }
  static void on_complete(Op& op, int32_t result) noexcept {
    auto& self = *static_cast<RecvFromProbe*>(op.owner);
    const auto& receive = static_cast<RecvFromOp&>(op);
    if (result >= 0) {
      self.datagrams.emplace_back(reinterpret_cast<const char*>(receive.data), static_cast<size_t>(result));
      self.counts.push_back(receive.received);
    } else {
      self.errors.push_back(result);
    }
    self.peer = receive.peer;
    if (const auto then = self.then) then();
  }

  World& world;
  Backend& backend;
  RecvFromOp op;
  std::vector<std::string> datagrams;
  std::vector<uint32_t> counts;  // op.received at each datagram
  std::vector<int32_t> errors;
  Address peer;
  std::function<std::optional<std::span<std::byte>>()> choose_target;
  std::function<void()> then;
};

struct SendProbe {
  SendProbe(World& in_world, int fd, std::string_view text) : world(in_world), backend(in_world.backend()), op(this, on_complete, gather), rest(text) {
    op.fd = fd;
  }
  ~SendProbe() { world.take_back(op); }
  Errno submit() {
    return backend.submit(op);
  }

  static size_t gather(SendOp& op, std::span<iovec> iov) noexcept {
    auto& self = *static_cast<SendProbe*>(op.owner);
    std::string_view left = self.rest;
    size_t count = 0;
    while (!left.empty() && count < iov.size()) {
      const std::string_view piece = left.substr(0, self.piece_bytes);
      iov[count++] = {const_cast<char*>(piece.data()), piece.size()};
      left.remove_prefix(piece.size());
    }
    return count;
  }

  static void on_complete(Op& op, int32_t result) noexcept {
    auto& self = *static_cast<SendProbe*>(op.owner);
    EXPECT_FALSE(op.in_kernel());
    ++self.completions;
    self.last_result = result;
    if (result > 0) self.rest.remove_prefix(static_cast<size_t>(result));
    if (const auto then = self.then) then();
  }

  World& world;
  Backend& backend;
  SendOp op;
  std::string_view rest;
  size_t piece_bytes = std::string_view::npos;  // of each entry of the vector
  int completions = 0;
  int32_t last_result = 0;
  std::function<void()> then;
};

struct AcceptProbe {
  AcceptProbe(World& in_world, int fd, uint32_t accepts_max) : world(in_world), op(this, on_complete) {
    op.fd = fd;
    op.accepts_max = accepts_max;
  }
  ~AcceptProbe() {
    world.take_back(op);
    for (const int fd : accepted) world.close(fd);
  }
  Errno submit() { return world.backend().submit(op); }

  static void on_complete(Op& op, int32_t result) noexcept {
    auto& self = *static_cast<AcceptProbe*>(op.owner);
    if (result >= 0) {
      self.accepted.push_back(result);
      EXPECT_GT(static_cast<AcceptOp&>(op).peer.size, 0U);
    } else {
      self.errors.push_back(result);
    }
    if (const auto then = self.then) then();
  }

  World& world;
  AcceptOp op;
  std::vector<int> accepted;
  std::vector<int32_t> errors;
  std::function<void()> then;
};

}  // namespace cxxloop::io
