// SPDX-License-Identifier: MIT
//
// How a channel tells its owner when it needs it: on a stream, with an owner that lives as long as it is referred to.
#include "net/channel.h"

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "cpp/io/worlds.h"
#include "net/stream.h"

namespace cxxloop::net {
namespace {

using Events = std::vector<std::string>;

// Its stream is destroyed when nothing refers to it, as a reference count would have it.
class Owner final : public StreamHandler {
 public:
  Owner(io::World& world, int fd, Events& events)
      : stream(std::make_unique<Stream>(world.backend(), fd, *this, [](void*) noexcept {})), events_(events) {}

  void let_go() noexcept {
    if (--references > 0) return;
    events_.emplace_back("dies");
    EXPECT_TRUE(stream->state() == Channel::State::released || stream->release());
    stream.reset();
  }

  std::optional<std::span<std::byte>> on_read_target() noexcept override {
    if (const auto act = in_target) act();
    return std::span<std::byte>();
  }
  void on_data(std::span<const std::byte>) noexcept override { tell("data"); }
  void on_eof() noexcept override { tell("eof"); }
  void on_read_error(Errno) noexcept override { tell("read_error"); }
  void on_send_waiting(bool) noexcept override { tell("send_waiting"); }
  void on_sent() noexcept override { tell("sent"); }
  void on_write_error(Errno) noexcept override { tell("write_error"); }
  void on_busy() noexcept override {
    ++references;
    tell("busy");
  }
  void on_idle() noexcept override {
    tell("idle");
    let_go();
  }
  void on_released() noexcept override { tell("released"); }

  int references = 1;
  std::function<void(std::string_view event)> then;
  std::function<void()> in_target;
  std::unique_ptr<Stream> stream;

 private:
  void tell(std::string_view event) {
    events_.emplace_back(event);
    if (const auto react = then) react(event);
  }

  Events& events_;
};

class ChannelTest : public testing::Test {
 protected:
  class World : public io::SimWorld {
   public:
    sim::SimBackend& sim() { return static_cast<sim::SimBackend&>(backend()); }
  };

  ChannelTest() : fds(world.make_pair()), owner(world, fds.near, events) { world.sim().set_pipe_capacity(10); }
  ~ChannelTest() override {
    if (owner.stream != nullptr && owner.stream->state() == Channel::State::open) (void)owner.stream->release();
    world.sim().set_faults(sim::Faults::none());
    world.settle();
    world.close(fds.far);
  }
  void write(std::string_view text) {
    ASSERT_TRUE(stream().append({reinterpret_cast<const std::byte*>(text.data()), text.size(), nullptr}));
    stream().flush();
  }
  Stream& stream() { return *owner.stream; }
  // What an owner does that answers on_read_target() all the same.
  void stop_and_take_last_read() {
    ++owner.references;
    stream().stop_reading();
    stream().take_last_read();
    owner.let_go();
  }

  World world;
  io::FdPair fds;
  Events events;
  Owner owner;
};

TEST_F(ChannelTest, BusyFromTheFirstOpToTheLast) {
  EXPECT_FALSE(stream().is_busy());
  ASSERT_EQ(stream().start_reading(), Errno::ok);
  EXPECT_EQ(events, Events{"busy"});
  write("0123456789and more");
  EXPECT_EQ(events, (Events{"busy", "send_waiting"}));
  stream().stop_reading();
  EXPECT_TRUE(stream().is_busy());
  EXPECT_EQ(world.read(fds.far), "0123456789");
  ASSERT_TRUE(world.run_until([&] { return stream().is_drained(); }));
  EXPECT_EQ(events, (Events{"busy", "send_waiting", "sent", "idle"}));
  EXPECT_FALSE(stream().is_busy());
}

TEST_F(ChannelTest, IdleIsToldAtOnceWhenTheOwnerTakesTheLastOpBack) {
  ASSERT_EQ(stream().start_reading(), Errno::ok);
  stream().stop_reading();
  write("0123456789and more");
  stream().drop_writes();
  EXPECT_EQ(events, (Events{"busy", "idle", "busy", "send_waiting", "idle"}));
}

TEST_F(ChannelTest, IdleIsToldAfterTheEndOfFile) {
  ASSERT_EQ(stream().start_reading(), Errno::ok);
  owner.let_go();  // only the channel refers to its owner now
  world.close(fds.far);
  ASSERT_TRUE(world.run_until([&] { return owner.stream == nullptr; }));
  EXPECT_EQ(events, (Events{"busy", "eof", "idle", "dies"}));
}

TEST_F(ChannelTest, ReadingStartedAgainAtTheEndOfFileStaysBusy) {
  ASSERT_EQ(stream().start_reading(), Errno::ok);
  owner.then = [this](std::string_view event) {
    const bool is_first = event == "eof" && events.size() == 2;
    EXPECT_TRUE(!is_first || stream().start_reading() == Errno::ok);
  };
  world.close(fds.far);
  ASSERT_TRUE(world.run_until([&] { return events.size() == 4; }));
  EXPECT_EQ(events, (Events{"busy", "eof", "eof", "idle"}));
}

TEST_F(ChannelTest, TheLastReadKeepsItsOwnerUntilTheBytesAreTold) {
  ASSERT_EQ(stream().start_reading(), Errno::ok);
  owner.in_target = [this] { stop_and_take_last_read(); };
  owner.let_go();  // only the channel refers to its owner now
  world.write(fds.far, "x");
  ASSERT_TRUE(world.run_until([&] { return owner.stream == nullptr; }));
  EXPECT_EQ(events, (Events{"busy", "idle", "busy", "data", "idle", "dies"}));
}

TEST_F(ChannelTest, TheLastReadEndsIfThereIsNothing) {
  ASSERT_EQ(stream().start_reading(), Errno::ok);
  owner.in_target = [this] {
    stop_and_take_last_read();
    EXPECT_EQ(world.read(fds.near), "x");
  };
  owner.let_go();
  world.write(fds.far, "x");
  ASSERT_TRUE(world.run_until([&] { return owner.stream == nullptr; }));
  EXPECT_EQ(events, (Events{"busy", "idle", "busy", "idle", "dies"}));
}

TEST_F(ChannelTest, TheLastReadOfALateBackendIsTheLast) {
  ASSERT_EQ(stream().start_reading(), Errno::ok);
  world.sim().set_faults({.late_cancels = 1000});
  owner.in_target = [this] {
    stop_and_take_last_read();
    EXPECT_EQ(world.read(fds.near), "x");
  };
  world.write(fds.far, "x");
  ASSERT_TRUE(world.run_until([&] { return events.size() == 4; }));
  world.write(fds.far, "y");
  world.settle();
  EXPECT_EQ(events, (Events{"busy", "idle", "busy", "idle"}));
}

TEST_F(ChannelTest, NothingIsToldOfAChannelThatItsHandlerDestroyed) {
  ASSERT_EQ(stream().start_reading(), Errno::ok);
  owner.then = [this](std::string_view event) {
    if (event != "eof") return;
    owner.then = nullptr;
    EXPECT_TRUE(stream().release());
    owner.stream.reset();
  };
  world.close(fds.far);
  ASSERT_TRUE(world.run_until([&] { return owner.stream == nullptr; }));
  EXPECT_EQ(events, (Events{"busy", "eof", "idle"}));  // by release()
}

TEST_F(ChannelTest, AReleasedChannelIsBusyUntilTheKernelLetsGo) {
  ASSERT_EQ(stream().start_reading(), Errno::ok);
  world.sim().set_faults({.late_cancels = 1000});
  stream().stop_reading();
  EXPECT_EQ(events, (Events{"busy", "idle"}));
  EXPECT_FALSE(stream().release());
  EXPECT_EQ(events, (Events{"busy", "idle", "busy"}));
  owner.let_go();
  ASSERT_TRUE(world.run_until([&] { return owner.stream == nullptr; }));
  EXPECT_EQ(events, (Events{"busy", "idle", "busy", "released", "idle", "dies"}));
}

TEST_F(ChannelTest, ADrainedBackendEndsTheReleaseAndTheQueue) {
  ASSERT_EQ(stream().start_reading(), Errno::ok);
  write("0123456789and more");
  world.sim().set_faults({.late_cancels = 1000});
  EXPECT_FALSE(stream().release());
  EXPECT_EQ(stream().queue().bytes(), std::string_view("and more").size());  // the kernel may still read them
  world.backend().drain();
  owner.then = [this](std::string_view event) {
    EXPECT_TRUE(event != "released" || stream().queue().empty());
  };
  owner.let_go();
  owner.stream->finish_release();
  EXPECT_EQ(events, (Events{"busy", "send_waiting", "released", "idle", "dies"}));
}

}  // namespace
}  // namespace cxxloop::net
