// SPDX-License-Identifier: MIT
#include "net/datagram_socket.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "cpp/io/worlds.h"

namespace cxxloop::net {
namespace {

constexpr size_t header_bytes = 8;

// An owner of a datagram socket that writes down what it is told.
class DatagramProbe final : public DatagramHandler {
 public:
  DatagramProbe(io::World& world, int fd)
      : owned_fd(fd),
        datagram(std::make_unique<DatagramSocket>(world.backend(), fd, *this, release_owner, header_bytes, &owned_fd)),
        world_(world),
        fd_(fd) {}
  ~DatagramProbe() {
    if (datagram->state() == DatagramSocket::State::open && !datagram->release()) {
      EXPECT_TRUE(world_.run_until([this] { return datagram->state() == DatagramSocket::State::released; }));
    }
    datagram.reset();
    world_.close(fd_);
    EXPECT_EQ(owners_released, owners_queued);
  }

  void append(std::string_view text, Datagram::Target target = Datagram::Target::peer,
              const io::Address& address = {}) {
    auto* const copy = new Owned{this, std::string(text)};
    ASSERT_EQ(datagram->append({std::as_bytes(std::span(copy->text)), copy, target, address}), Errno::ok);
    ++owners_queued;
  }
  // Sends or queues, as a transport does.
  void send(std::string_view text) {
    if (datagram->is_drained()) {
      const Errno error = datagram->send(std::as_bytes(std::span(text)), nullptr);
      if (error != Errno::again) return;
    }
    append(text);
  }

  bool on_may_receive_more() noexcept override { return may_receive_more; }
  void on_datagram(std::span<const std::byte> data, const io::Address&) noexcept override {
    received.emplace_back(reinterpret_cast<const char*>(data.data()), data.size());
    tell("datagram");
  }
  void on_receive_error(Errno error) noexcept override {
    errors.push_back(error);
    tell("receive_error");
  }
  void on_writable() noexcept override { datagram->flush(); }
  Errno on_send_foreign(void* owner) noexcept override {
    foreign.push_back(static_cast<Owned*>(owner)->text);
    tell("foreign");
    return foreign_outcome;
  }
  void on_send_error(Errno error) noexcept override {
    errors.push_back(error);
    tell("send_error");
  }
  void on_sent() noexcept override { tell("sent"); }
  void on_released() noexcept override { tell("released"); }

  [[nodiscard]] auto count(std::string_view event) const { return std::count(events.begin(), events.end(), event); }

  int owned_fd;  // another number: somebody else has closed the descriptor
  std::unique_ptr<DatagramSocket> datagram;
  std::vector<std::string> received;
  std::vector<std::string> foreign;
  std::vector<std::string> events;
  std::vector<Errno> errors;
  Errno foreign_outcome = Errno::ok;
  bool may_receive_more = true;
  int owners_queued = 0;
  int owners_released = 0;
  std::function<void(std::string_view event)> then;
  std::function<void()> when_given_back;

 private:
  struct Owned {
    DatagramProbe* probe;
    std::string text;
  };

  static void release_owner(void* owner) noexcept {
    const std::unique_ptr<Owned> owned(static_cast<Owned*>(owner));
    ++owned->probe->owners_released;
    if (const auto react = std::exchange(owned->probe->when_given_back, nullptr)) react();
  }
  void tell(std::string_view event) {
    events.emplace_back(event);
    if (const auto react = then) react(event);
  }

  io::World& world_;
  const int fd_;
};

template <class W>
class DatagramTest : public testing::Test {
 protected:
  DatagramTest() : fds(world.make_datagram_pair()), probe(world, fds.near) {}
  ~DatagramTest() override { world.close(fds.far); }

  DatagramSocket& datagram() { return *probe.datagram; }
  // Sends until a datagram is queued; returns how many were sent and queued.
  int fill() {
    int count = 0;
    while (datagram().is_drained()) probe.send(std::to_string(count++));
    return count;
  }
  // What arrives at the far end, until there are `count` datagrams.
  std::vector<std::string> read_far(size_t count) {
    std::vector<std::string> all;
    EXPECT_TRUE(world.run_until([&] {
      for (std::string& text : world.read_datagrams(fds.far)) all.push_back(std::move(text));
      return all.size() >= count;
    }));
    return all;
  }

  W world;
  io::FdPair fds;
  DatagramProbe probe;
};

using Worlds = testing::Types<io::EvWorld, io::SimWorld, io::BenignSimWorld>;
TYPED_TEST_SUITE(DatagramTest, Worlds);

TYPED_TEST(DatagramTest, ReceivesUntilItIsStopped) {
  ASSERT_EQ(this->datagram().start_reading(), Errno::ok);
  for (const char* text : {"a", "", "c"}) this->world.write(this->fds.far, text);
  EXPECT_TRUE(this->world.run_until([&] { return this->probe.received.size() == 3; }));
  EXPECT_EQ(this->probe.received, (std::vector<std::string>{"a", "", "c"}));
  this->datagram().stop_reading();
  EXPECT_FALSE(this->datagram().is_reading());
  this->world.write(this->fds.far, "later");
  this->world.settle();
  EXPECT_EQ(this->probe.received.size(), 3U);
  ASSERT_EQ(this->datagram().start_reading(), Errno::ok);
  EXPECT_TRUE(this->world.run_until([&] { return this->probe.received.size() == 4; }));
}

TYPED_TEST(DatagramTest, OneDatagramAReadinessIfTheOwnerHasOtherWork) {
  this->probe.may_receive_more = false;
  ASSERT_EQ(this->datagram().start_reading(), Errno::ok);
  for (int i = 0; i < 5; ++i) this->world.write(this->fds.far, "x");
  size_t most_in_a_turn = 0;
  EXPECT_TRUE(this->world.run_until([&, before = size_t{0}]() mutable {
    most_in_a_turn = std::max(most_in_a_turn, this->probe.received.size() - before);
    before = this->probe.received.size();
    return before == 5;
  }));
  EXPECT_EQ(most_in_a_turn, 1U);
}

TYPED_TEST(DatagramTest, ABurstEnds) {
  ASSERT_EQ(this->datagram().start_reading(), Errno::ok);
  // Each datagram is followed by another one, for ever.
  this->probe.then = [&](std::string_view) { this->world.write(this->fds.far, "x"); };
  this->world.write(this->fds.far, "x");
  EXPECT_TRUE(this->world.run_until([&] { return !this->probe.received.empty(); }));
  const size_t before = this->probe.received.size();
  this->world.turn(Deadline::immediate());
  EXPECT_LE(this->probe.received.size() - before, BurstPacing::datagrams_max);
}

TYPED_TEST(DatagramTest, ACallbackMayStopReceiving) {
  ASSERT_EQ(this->datagram().start_reading(), Errno::ok);
  this->probe.then = [&](std::string_view) { this->datagram().stop_reading(); };
  for (int i = 0; i < 3; ++i) this->world.write(this->fds.far, "x");
  EXPECT_TRUE(this->world.run_until([&] { return !this->probe.received.empty(); }));
  this->world.settle();
  EXPECT_EQ(this->probe.received.size(), 1U);
}

TYPED_TEST(DatagramTest, QueuesWhatTheKernelDoesNotTakeAndKeepsTheOrder) {
  int count = this->fill();
  EXPECT_TRUE(this->datagram().is_send_waiting());
  EXPECT_EQ(this->datagram().queued_bytes(), std::to_string(count - 1).size() + header_bytes);
  for (int i = 0; i < 10; ++i) this->probe.send(std::to_string(count++));
  const std::vector<std::string> arrived = this->read_far(static_cast<size_t>(count));
  ASSERT_EQ(arrived.size(), static_cast<size_t>(count));
  for (int i = 0; i < count; ++i) EXPECT_EQ(arrived[static_cast<size_t>(i)], std::to_string(i));
  EXPECT_TRUE(this->world.run_until([&] { return !this->datagram().is_send_waiting(); }));
  EXPECT_EQ(this->datagram().queued_bytes(), 0U);
  EXPECT_GE(this->probe.count("sent"), 1);
  EXPECT_TRUE(this->probe.errors.empty());
}

TYPED_TEST(DatagramTest, AQueuedDatagramMayHaveAnAddressOrAWayOfItsOwn) {
  const io::Address address = this->world.address_of(this->fds.far);
  this->probe.append("to the address", Datagram::Target::address, address);
  this->probe.append("its own way", Datagram::Target::foreign);
  this->probe.append("to the peer");
  EXPECT_EQ(this->read_far(2), (std::vector<std::string>{"to the address", "to the peer"}));
  EXPECT_EQ(this->probe.foreign, (std::vector<std::string>{"its own way"}));
}

TYPED_TEST(DatagramTest, AForeignDatagramThatFailsIsDroppedAndTold) {
  this->probe.foreign_outcome = Errno::invalid;
  this->probe.append("its own way", Datagram::Target::foreign);
  this->probe.append("behind it");
  EXPECT_EQ(this->read_far(1), (std::vector<std::string>{"behind it"}));
  EXPECT_EQ(this->probe.errors, (std::vector<Errno>{Errno::invalid}));
}

TYPED_TEST(DatagramTest, AForeignDatagramIsTriedAgain) {
  this->probe.foreign_outcome = Errno::again;
  this->probe.append("its own way", Datagram::Target::foreign);
  EXPECT_TRUE(this->world.run_until([&] { return this->probe.foreign.size() > 1; }));
  this->probe.foreign_outcome = Errno::ok;
  EXPECT_TRUE(this->world.run_until([&] { return this->datagram().is_drained(); }));
}

TYPED_TEST(DatagramTest, APeerThatIsGoneCostsEachQueuedDatagramAnError) {
  this->fill();
  this->probe.append("second");
  this->probe.then = [&](std::string_view event) {
    if (event == "send_error") {
      EXPECT_LE(this->probe.errors.size(), 2U);
    }
  };
  this->world.forget_and_close(this->fds.far);
  EXPECT_TRUE(this->world.run_until([&] { return this->probe.count("send_error") == 2; }));
  EXPECT_TRUE(this->datagram().is_drained());
  EXPECT_EQ(this->probe.errors[0], static_cast<Errno>(ECONNREFUSED));
  EXPECT_TRUE(this->world.run_until([&] { return !this->datagram().is_send_waiting(); }));
}

TYPED_TEST(DatagramTest, DroppingTheQueueGivesEverythingBack) {
  this->fill();
  this->probe.append("more");
  this->datagram().drop_writes();
  EXPECT_EQ(this->datagram().queued_bytes(), 0U);
  EXPECT_EQ(this->probe.owners_released, this->probe.owners_queued);
  this->world.settle();
  EXPECT_EQ(this->probe.count("sent"), 0);
}

TYPED_TEST(DatagramTest, WhatIsAppendedWhileTheQueueIsDroppedStays) {
  const int count = this->fill();
  this->probe.append("dropped");
  this->probe.when_given_back = [&] { this->probe.append("later"); };
  this->datagram().drop_writes();
  EXPECT_EQ(this->datagram().queued_bytes(), std::string_view("later").size() + header_bytes);
  EXPECT_TRUE(this->datagram().is_send_waiting());
  EXPECT_EQ(this->read_far(static_cast<size_t>(count)).back(), "later");
}

TYPED_TEST(DatagramTest, ReleasedWhileAForeignDatagramIsSentItSaysNothingMore) {
  this->probe.foreign_outcome = Errno::again;
  this->probe.then = [&](std::string_view) { EXPECT_TRUE(this->datagram().release()); };
  this->probe.append("its own way", Datagram::Target::foreign);
  EXPECT_TRUE(this->world.run_until([&] { return !this->probe.foreign.empty(); }));
  this->world.settle();
  EXPECT_EQ(this->probe.events, (std::vector<std::string>{"foreign"}));
}

TYPED_TEST(DatagramTest, AClosedDescriptorCostsNoErrorWhenNothingIsQueued) {
  this->probe.foreign_outcome = Errno::invalid;
  this->probe.append("its own way", Datagram::Target::foreign);
  this->probe.then = [&](std::string_view event) {
    if (event == "send_error") this->probe.owned_fd = -1;
  };
  EXPECT_TRUE(this->world.run_until([&] { return this->probe.count("sent") > 0; }));
  EXPECT_EQ(this->probe.errors, (std::vector<Errno>{Errno::invalid}));
  EXPECT_FALSE(this->datagram().is_send_waiting());
}

TYPED_TEST(DatagramTest, ReleasedSocketsSayNothing) {
  ASSERT_EQ(this->datagram().start_reading(), Errno::ok);
  this->fill();
  this->world.write(this->fds.far, "x");
  EXPECT_TRUE(this->datagram().release());
  EXPECT_EQ(this->datagram().state(), DatagramSocket::State::released);
  this->world.settle();
  EXPECT_TRUE(this->probe.events.empty());
}

TYPED_TEST(DatagramTest, SendsNothingThroughAForeignDescriptor) {
  this->probe.owned_fd = -1;
  EXPECT_EQ(this->datagram().send(std::as_bytes(std::span("x", 1)), nullptr), Errno::bad_fd);
  this->world.settle();
  EXPECT_TRUE(this->world.read_datagrams(this->fds.far).empty());
}

TYPED_TEST(DatagramTest, QueuesNothingForAForeignDescriptor) {
  this->probe.owned_fd = -1;
  EXPECT_EQ(this->datagram().append({{}, nullptr, Datagram::Target::peer, {}}), Errno::bad_fd);
  EXPECT_TRUE(this->datagram().is_drained());
  EXPECT_FALSE(this->datagram().is_send_waiting());
}

TYPED_TEST(DatagramTest, WhatIsQueuedDoesNotGoThroughAForeignDescriptor) {
  const int count = this->fill();
  this->probe.owned_fd = -1;
  EXPECT_EQ(this->read_far(static_cast<size_t>(count - 1)).size(), static_cast<size_t>(count - 1));
  EXPECT_TRUE(this->world.run_until([&] { return this->probe.count("send_error") == 1; }));
  EXPECT_EQ(this->probe.errors, (std::vector<Errno>{Errno::bad_fd}));
  this->world.settle();
  EXPECT_TRUE(this->world.read_datagrams(this->fds.far).empty());
}

TYPED_TEST(DatagramTest, ReadsNothingFromAForeignDescriptor) {
  ASSERT_EQ(this->datagram().start_reading(), Errno::ok);
  this->probe.owned_fd = -1;
  this->world.write(this->fds.far, "x");
  EXPECT_TRUE(this->world.run_until([&] { return !this->probe.errors.empty(); }));
  this->world.settle();
  EXPECT_EQ(this->probe.errors, (std::vector<Errno>{Errno::bad_fd}));
  EXPECT_TRUE(this->probe.received.empty());
  EXPECT_EQ(this->datagram().start_reading(), Errno::bad_fd);
}

// Looking for a second datagram where there is never one becomes rare; where there are some it is always worth it.
TEST(BurstPacingTest, LooksLessOftenWhereNothingIsFound) {
  BurstPacing pacing;
  int looks = 0;
  for (int readiness = 0; readiness < 1000; ++readiness) {
    EXPECT_TRUE(pacing.may_look(0));
    if (pacing.may_look(1)) ++looks;
  }
  EXPECT_LT(looks, 30);
  for (int readiness = 0; readiness < 200; ++readiness) {
    EXPECT_TRUE(pacing.may_look(0));
    if (pacing.may_look(1)) pacing.note_received(2);
  }
  EXPECT_TRUE(pacing.may_look(0));
  EXPECT_TRUE(pacing.may_look(1));
}

// Whatever goes wrong: what arrives is in order and was sent, every owner comes back, and nothing is said after the end.
TEST(DatagramSimTest, KeepsItsPromisesUnderEveryFault) {
  for (int run = 0; run < 200; ++run) {
    io::SimWorld world(sim::Faults::harsh());
    static_cast<sim::SimBackend&>(world.backend()).set_pipe_capacity(200);
    sim::Random& random = static_cast<sim::SimBackend&>(world.backend()).random();
    for (int i = 0; i < run; ++i) (void)random.below(2);  // another course each time
    const io::FdPair fds = world.make_datagram_pair();
    std::vector<int> arrived;
    int sent = 0;
    {
      DatagramProbe probe(world, fds.near);
      for (int step = 0; step < 100; ++step) {
        switch (random.below(6)) {
          case 0: (void)probe.datagram->start_reading(); break;
          case 1: probe.datagram->stop_reading(); break;
          case 2: world.write(fds.far, "x"); break;
          case 3: world.turn(Deadline::immediate()); break;
          case 4:
            for (const std::string& text : world.read_datagrams(fds.far)) arrived.push_back(std::stoi(text));
            break;
          default:
            if (probe.datagram->is_drained() || probe.datagram->is_send_waiting()) {
              const std::string text = std::to_string(sent++);
              const auto bytes = std::as_bytes(std::span(text));
              if (probe.datagram->is_drained() && probe.datagram->send(bytes, nullptr) != Errno::again) break;
              if (random.chance(900)) probe.append(text);
            }
        }
      }
      const size_t said = probe.events.size();
      const bool at_once = probe.datagram->release();
      world.settle();
      EXPECT_TRUE(at_once || world.run_until([&] { return probe.count("released") == 1; }));
      EXPECT_EQ(probe.events.size(), said + (at_once ? 0 : 1));
    }
    EXPECT_TRUE(std::is_sorted(arrived.begin(), arrived.end()));
    EXPECT_EQ(std::adjacent_find(arrived.begin(), arrived.end()), arrived.end());
    world.close(fds.far);
  }
}

}  // namespace
}  // namespace cxxloop::net
