// SPDX-License-Identifier: MIT
//
// net/stream_program.h: a user of streams who does everything a user may do, at random, inside callbacks and outside,
// and who notices every broken promise of net/stream.h.
//
// The bytes of a connection tell where they belong: the upper three bits are the number of drop_writes() calls before
// them, the lower five their place since then modulo 31. So a lost, doubled or misplaced byte shows.
#pragma once

#include <cstddef>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "net/cork.h"
#include "net/stream.h"
#include "sim/choices.h"
#include "sim/sim_backend.h"

namespace cxxloop::net {

class StreamProgram;

// What a stream end has appended since each of its drops.
class SentText {
 public:
  static constexpr size_t drops_max = 7;

  [[nodiscard]] std::vector<std::byte> append(size_t size);
  [[nodiscard]] bool may_drop() const noexcept { return sizes_.size() <= drops_max; }
  void drop() { sizes_.push_back(0); }
  [[nodiscard]] const std::vector<size_t>& sizes() const noexcept { return sizes_; }
  [[nodiscard]] static std::byte at(size_t epoch, size_t position) noexcept {
    return static_cast<std::byte>((epoch << 5) | (position % 31));
  }

 private:
  std::vector<size_t> sizes_{0};
};

// Checks received bytes against what was sent.
class ReceivedText {
 public:
  // False: these bytes cannot come next.
  [[nodiscard]] bool take(std::span<const std::byte> bytes, const SentText& sent) noexcept;
  [[nodiscard]] bool complete(const SentText& sent) const noexcept;

 private:
  size_t epoch_ = 0;
  size_t position_ = 0;
};

// One end of a connection.
class StreamEnd final : public StreamHandler {
 public:
  StreamEnd(StreamProgram& program, int fd);
  ~StreamEnd();
  void meet(StreamEnd& peer) noexcept { peer_ = &peer; }

  // Any one thing a user may do.
  void act() noexcept;
  // Brings the connection to its graceful end; called before each turn until is_over().
  void wind_up() noexcept;
  // True exactly when the stream is gone.
  [[nodiscard]] bool is_over() const noexcept { return stream_ == nullptr; }
  // True exactly when everything the peer sent has arrived.
  [[nodiscard]] bool received_all() const noexcept { return received_.complete(peer_->sent_); }
  // True exactly when it left before both sides had ended.
  [[nodiscard]] bool left_early() const noexcept { return left_early_; }

  // StreamHandler
  std::optional<std::span<std::byte>> on_read_target() noexcept override;
  void on_data(std::span<const std::byte> data) noexcept override;
  void on_eof() noexcept override;
  void on_read_error(Errno error) noexcept override;
  void on_send_waiting(bool is_late) noexcept override;
  void on_sent() noexcept override;
  void on_write_error(Errno error) noexcept override;
  void on_busy() noexcept override;
  void on_idle() noexcept override;
  void on_released() noexcept override;

  // What must hold whenever no call of the stream is under way.
  void check_between_calls() noexcept;

 private:
  void start_reading() noexcept;
  void stop_reading() noexcept;
  void write() noexcept;
  void write_with_tail() noexcept;
  void append(size_t size) noexcept;
  void flush_or_cork() noexcept;
  void drop() noexcept;
  void end_writing() noexcept;
  void lose_descriptor() noexcept;
  void shutdown_when_drained() noexcept;
  void release() noexcept;
  [[nodiscard]] bool may_fail() const noexcept;
  [[nodiscard]] bool owns_descriptor() const noexcept { return owner_fd_ == fd_; }
  void check_reading(const char* promise) noexcept;
  void note_reading_ended() noexcept;

  StreamProgram& program_;
  StreamEnd* peer_ = nullptr;
  const int fd_;
  int owner_fd_;  // another number: somebody else has closed the descriptor
  std::unique_ptr<Stream> stream_;
  SentText sent_;
  ReceivedText received_;
  std::vector<std::byte> buffer_;  // where the next bytes go, if not to the shared buffer
  bool reading_ = false;
  bool in_target_ = false;
  bool last_read_granted_ = false;  // reading was stopped by the target function, which took the read all the same
  bool read_over_ = false;
  bool wants_eof_ = false;          // no more appends
  bool write_over_ = false;
  bool write_failed_ = false;       // the peer will see no end of file before we leave
  bool flushed_at_last_ = false;
  bool told_waiting_ = false;
  bool busy_ = false;               // between on_busy() and on_idle()
  bool released_ = false;
  bool awaits_released_ = false;
  bool left_early_ = false;
};

class StreamProgram {
 public:
  // gentle: nothing breaks by itself, so that everything has to arrive.
  StreamProgram(uint64_t world_seed, sim::Choices& choices, bool gentle);
  ~StreamProgram();

  // The promise that was broken, or an empty string.
  [[nodiscard]] std::string run();

  // For the ends.
  void check(bool kept, const char* promise) noexcept;
  void disturb() noexcept;  // any end acts, in the middle of a callback
  [[nodiscard]] bool append(Stream& stream, std::vector<std::byte> bytes) noexcept;
  [[nodiscard]] sim::Choices& choices() noexcept { return choices_; }
  [[nodiscard]] sim::SimBackend& backend() noexcept { return *backend_; }
  [[nodiscard]] Cork& cork() noexcept { return cork_; }
  [[nodiscard]] bool gentle() const noexcept { return gentle_; }
  [[nodiscard]] bool winds_up() const noexcept { return winds_up_; }

 private:
  struct Chunk {
    StreamProgram* program;
    std::vector<std::byte> bytes;
    bool released = false;
  };

  static constexpr size_t connections_max = 6;

  static void release_chunk(void* owner) noexcept;
  friend class StreamEnd;
  void connect();
  void turn(Deadline deadline) noexcept;
  void play();
  void wind_up();
  void check_the_end();

  std::unique_ptr<sim::SimBackend> backend_;
  sim::Choices& choices_;
  const bool gentle_;
  bool winds_up_ = false;
  int depth_ = 0;
  std::string broken_;
  std::deque<Chunk> chunks_;
  Cork cork_;
  std::vector<std::unique_ptr<StreamEnd>> ends_;
};

}  // namespace cxxloop::net
