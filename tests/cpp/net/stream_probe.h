// SPDX-License-Identifier: MIT
//
// net/stream_probe.h: an owner of a stream that writes down what it is told.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "cpp/io/worlds.h"
#include "net/stream.h"

namespace cxxloop::net {

class StreamProbe final : public StreamHandler {
 public:
  StreamProbe(io::World& world, int fd)
      : owned_fd(fd),
        stream(std::make_unique<Stream>(world.backend(), fd, *this, release_chunk, &owned_fd)),
        world_(world),
        fd_(fd) {}
  ~StreamProbe() {
    if (stream != nullptr && stream->state() == Stream::State::open && !stream->release()) {
      EXPECT_TRUE(world_.run_until([this] { return stream->state() == Stream::State::released; }));
    }
    stream.reset();
    world_.close(fd_);
    EXPECT_EQ(chunks_released, chunks_appended);
  }

  void append(std::string_view text) {
    auto* const copy = new Chunk{this, std::string(text)};
    ASSERT_TRUE(stream->append({reinterpret_cast<const std::byte*>(copy->text.data()), copy->text.size(), copy}));
    ++chunks_appended;
  }
  [[nodiscard]] size_t flush_with(std::string_view text) {
    return stream->flush_with({reinterpret_cast<const std::byte*>(text.data()), text.size()});
  }
  [[nodiscard]] size_t count(std::string_view event) const {
    return static_cast<size_t>(std::count(events.begin(), events.end(), event));
  }

  std::optional<std::span<std::byte>> on_read_target() noexcept override {
    if (const auto choose = choose_target) return choose();
    return std::span<std::byte>();
  }
  void on_data(std::span<const std::byte> data) noexcept override {
    EXPECT_FALSE(data.empty());
    received.append(reinterpret_cast<const char*>(data.data()), data.size());
    tell("data");
  }
  void on_eof() noexcept override { tell("eof"); }
  void on_read_error(Errno error) noexcept override {
    last_error = error;
    tell("read_error");
  }
  void on_send_waiting(bool is_late) noexcept override { tell(is_late ? "send_waiting_late" : "send_waiting"); }
  void on_sent() noexcept override { tell("sent"); }
  void on_write_error(Errno error) noexcept override {
    last_error = error;
    EXPECT_EQ(stream->queued_bytes(), 0U);
    tell("write_error");
  }
  void on_released() noexcept override { tell("released"); }

  int owned_fd;  // another number: somebody else has closed the descriptor
  std::unique_ptr<Stream> stream;
  std::string received;
  std::vector<std::string> events;
  Errno last_error = Errno::ok;
  int chunks_appended = 0;
  int chunks_released = 0;
  std::function<std::optional<std::span<std::byte>>()> choose_target;
  std::function<void(std::string_view event)> then;

 private:
  struct Chunk {
    StreamProbe* probe;
    std::string text;
  };

  static void release_chunk(void* owner) noexcept {
    const std::unique_ptr<Chunk> chunk(static_cast<Chunk*>(owner));
    ++chunk->probe->chunks_released;
  }
  void tell(std::string_view event) {
    events.emplace_back(event);
    if (const auto react = then) react(event);
  }

  io::World& world_;
  const int fd_;
};

}  // namespace cxxloop::net
