// SPDX-License-Identifier: MIT
//
// net/datagram_program.h: a user of datagram sockets who does everything a user may do, at random, inside callbacks and
// outside, and who notices every broken promise of net/datagram_socket.h.
//
// Each end keeps a model of its queue and of what is on its way to it. The simulator tells what the kernel takes; that
// must be what is being sent, or else the front of the model, and what arrives must be what comes next, byte for byte.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "net/datagram_socket.h"
#include "sim/choices.h"
#include "sim/sim_backend.h"

namespace cxxloop::net {

class DatagramEnd;
class DatagramProgram;

// A datagram that a user wants to send; the owner of its bytes when it is queued.
struct Message {
  Message(DatagramEnd& sender_end, uint32_t message_id, size_t message_size);
  [[nodiscard]] bool equals(std::span<const std::byte> data) const noexcept;

  DatagramEnd& sender;
  const uint32_t id;  // of one sender's messages the next is the greater one
  const size_t size;
  std::vector<std::byte> bytes;
  Datagram::Target target = Datagram::Target::peer;
  int target_fd = -1;
  bool accepted = false;  // append() took it
  bool sent = false;
  bool dropped = false;   // by its sender
  bool released = false;
};

// One end of a pair of connected sockets; any other socket's address will do as well.
class DatagramEnd final : public DatagramHandler {
 public:
  DatagramEnd(DatagramProgram& program, int fd);
  ~DatagramEnd();
  void meet(DatagramEnd& peer) noexcept { peer_ = &peer; }

  // Any one thing a user may do.
  void act() noexcept;
  // Reads what is there, or leaves if the descriptor has gone.
  void read_on() noexcept;
  void release() noexcept;
  // True exactly when the socket is gone.
  [[nodiscard]] bool is_over() const noexcept { return datagram_ == nullptr; }
  [[nodiscard]] bool is_released() const noexcept { return released_; }
  [[nodiscard]] int fd() const noexcept { return fd_; }

  // What must hold whenever no call of the socket is under way.
  void check_between_calls() noexcept;
  // What must hold when everybody reads and nothing happens any more.
  void check_at_rest() noexcept;
  // The kernel took a datagram from this end.
  void note_sent(const sim::SimBackend::SentDatagram& sent) noexcept;
  void note_released(Message& message) noexcept;

  // DatagramHandler
  bool on_may_receive_more() noexcept override;
  void on_datagram(std::span<const std::byte> data, const io::Address& sender) noexcept override;
  void on_receive_error(Errno error) noexcept override;
  void on_writable() noexcept override;
  Errno on_send_foreign(void* owner) noexcept override;
  void on_send_error(Errno error) noexcept override;
  void on_sent() noexcept override;
  void on_busy() noexcept override;
  void on_idle() noexcept override;
  void on_released() noexcept override;

 private:
  // The socket is not freed meanwhile.
  class Pin {
   public:
    explicit Pin(DatagramEnd& end) noexcept : end_(end) { ++end_.pins_; }
    Pin(const Pin&) = delete;
    Pin& operator=(const Pin&) = delete;
    ~Pin() {
      if (--end_.pins_ == 0 && end_.may_free_) end_.datagram_.reset();
    }

   private:
    DatagramEnd& end_;
  };

  void start_reading() noexcept;
  void stop_reading() noexcept;
  void send() noexcept;
  void send_or_append(Message& message) noexcept;
  [[nodiscard]] Errno try_send(Message& message) noexcept;
  [[nodiscard]] Errno send_foreign(Message& message) noexcept;
  void append(Message& message) noexcept;
  [[nodiscard]] Message& make_message() noexcept;
  void drop() noexcept;
  void note_dropped() noexcept;
  void lose_descriptor() noexcept { owner_fd_ = -1; }
  [[nodiscard]] bool owns_descriptor() const noexcept { return owner_fd_ == fd_; }
  [[nodiscard]] bool plausible(Errno error, const Message& message) const noexcept;

  DatagramProgram& program_;
  DatagramEnd* peer_ = nullptr;
  const int fd_;
  int owner_fd_;  // another number: somebody else has closed the descriptor
  std::unique_ptr<DatagramSocket> datagram_;
  std::deque<Message*> queued_;    // accepted, neither released nor dropped
  std::deque<Message*> expected_;  // in the kernel's buffer
  Message* trying_ = nullptr;      // what is being sent past the queue
  const Message* last_lost_ = nullptr;
  uint32_t next_id_ = 1;
  uint32_t sent_id_ = 0;           // of the last one the kernel took
  size_t losses_untold_ = 0;
  size_t drops_pending_ = 0;       // dropped and not yet released
  uint64_t looked_at_ = 0;         // the dispatch that received a second datagram
  int pins_ = 0;
  std::optional<Pin> look_pin_;    // from on_may_receive_more() to what follows it
  bool reading_ = false;
  bool busy_ = false;              // between on_busy() and on_idle()
  bool flushing_ = false;
  bool released_ = false;
  bool awaits_released_ = false;
  bool may_free_ = false;
};

class DatagramProgram {
 public:
  static constexpr size_t header_bytes = 8;

  // gentle: nothing breaks by itself.
  DatagramProgram(uint64_t world_seed, sim::Choices& choices, bool gentle);
  ~DatagramProgram();

  // The promise that was broken, or an empty string.
  [[nodiscard]] std::string run();

  // For the ends.
  void check(bool kept, const char* promise) noexcept;
  void disturb() noexcept;  // any end acts, in the middle of a callback
  [[nodiscard]] Message& make_message(DatagramEnd& sender, uint32_t id, size_t size) noexcept;
  // The socket that has this descriptor, or null.
  [[nodiscard]] DatagramEnd* end_of(int fd) noexcept;
  // The number of a socket, or one that nobody has.
  [[nodiscard]] int any_fd() noexcept;
  static void release_message(void* owner) noexcept;
  [[nodiscard]] sim::Choices& choices() noexcept { return choices_; }
  [[nodiscard]] sim::SimBackend& backend() noexcept { return *backend_; }
  [[nodiscard]] bool gentle() const noexcept { return gentle_; }
  [[nodiscard]] bool winds_up() const noexcept { return winds_up_; }
  [[nodiscard]] size_t capacity() const noexcept { return capacity_; }
  [[nodiscard]] uint64_t dispatches() const noexcept { return dispatches_; }

 private:
  static constexpr size_t pairs_max = 4;

  void connect();
  void turn(Deadline deadline) noexcept;
  void play();
  void rest() noexcept;
  void wind_up();
  void check_the_end();

  std::unique_ptr<sim::SimBackend> backend_;
  sim::Choices& choices_;
  const bool gentle_;
  const size_t capacity_;
  bool winds_up_ = false;
  int depth_ = 0;
  uint64_t dispatches_ = 1;
  std::string broken_;
  std::deque<Message> messages_;
  std::vector<std::unique_ptr<DatagramEnd>> ends_;
};

}  // namespace cxxloop::net
