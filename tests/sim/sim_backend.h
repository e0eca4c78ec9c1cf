// SPDX-License-Identifier: MIT
//
// sim/sim_backend.h: a backend without a kernel: sockets, time and misfortune all come from one seed.
//
// Time is virtual: wait() moves it to the next scheduled event or to its deadline and returns at once. Descriptor
// numbers begin above what a test ever opens, so that a real close() of one fails and harms nothing; forget() is what
// closes a descriptor here, because its owner calls it right before close().
// Thread: one, except wake().
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "io/readiness.h"
#include "sim/random.h"

namespace cxxloop::sim {

// How often things go wrong, in thousandths of the occasions.
struct Faults {
  uint32_t delays = 0;         // readiness is reported by a later wait()
  uint32_t reordering = 0;     // the completions of a wait() come in another order
  uint32_t short_reads = 0;    // fewer bytes than there are
  uint32_t short_writes = 0;   // fewer bytes than there is room for
  uint32_t false_full = 0;     // a send is told that the kernel is full although there is room
  uint32_t queued_sends = 0;   // try_send() answers queued
  uint32_t late_wakes = 0;     // a deadline is overslept
  uint32_t early_wakes = 0;    // wait() returns before its deadline with nothing
  uint32_t late_cancels = 0;   // cancel() answers false
  uint32_t resets = 0;         // a connection breaks on a send or receive
  uint32_t refusals = 0;       // a datagram socket hears of an unreachable peer on a send or receive
  uint32_t losses = 0;         // a datagram is taken and never arrives
  uint32_t accept_errors = 0;  // EMFILE or ENOBUFS instead of a connection
  uint32_t submit_errors = 0;  // submit() answers no_memory

  static Faults none() { return {}; }
  // What a correct kernel may do at any time.
  static Faults benign();
  // That, and everything that breaks.
  static Faults harsh();
};

class SimBackend final : public io::ReadinessBackend<SimBackend> {
 public:
  static constexpr int first_fd = 1 << 14;
  static constexpr size_t shared_buffer_size = 64 * 1024;

  explicit SimBackend(uint64_t seed, Faults faults = Faults::none());
  ~SimBackend() override;

  // io::Backend
  [[nodiscard]] const char* name() const noexcept override { return "simulator"; }
  [[nodiscard]] Errno submit(io::Op& op) noexcept override;
  [[nodiscard]] bool cancel(io::Op& op) noexcept override;
  [[nodiscard]] Result<size_t> send_now(int fd, std::span<const iovec> iov) noexcept override;
  [[nodiscard]] Result<size_t> send_now_to(int fd, std::span<const std::byte> datagram,
                                            const io::Address* address) noexcept override;
  [[nodiscard]] io::SendResult try_send(io::SendOp& op, std::span<const iovec> iov) noexcept override;
  [[nodiscard]] io::SendResult settle(io::SendOp& op) noexcept override;
  void drain() noexcept override;
  [[nodiscard]] Errno shutdown_write(int fd) noexcept override;
  void forget(int fd) noexcept override { close(fd); }
  [[nodiscard]] Errno wait(Deadline deadline) noexcept override;
  [[nodiscard]] size_t collected() const noexcept override {
    return batch_.size() - next_in_batch_ + displaced_.size();
  }
  [[nodiscard]] const io::Op* next_collected() noexcept override;
  bool dispatch_one() noexcept override;
  void wake() noexcept override { woken_.store(true); }
  [[nodiscard]] size_t ops_count() const noexcept override { return ops_count_; }
  [[nodiscard]] io::BackendCounters counters() const noexcept override { return counters_; }

  // The world. Every descriptor works both as an op's fd and with the calls of a peer below.
  struct Pair {
    int near;
    int far;
  };
  [[nodiscard]] Pair make_pair();
  [[nodiscard]] int make_listener();
  // Connected datagram sockets; any datagram socket also takes datagrams sent to its address_of().
  [[nodiscard]] Pair make_datagram_pair();
  [[nodiscard]] static io::Address address_of(int fd) noexcept;
  struct SentDatagram {
    int sender;
    int target;
    std::span<const std::byte> bytes;
    bool arrives;  // False: lost on its way, or the target's buffer was full
  };
  // Is told of each datagram that was taken from its sender.
  void watch_datagrams(std::function<void(const SentDatagram&)> watcher) { datagram_watcher_ = std::move(watcher); }
  // The client's end of a connection that waits to be accepted.
  [[nodiscard]] int connect(int listener);

  // What a peer does; again when it would block. Peers suffer no faults.
  [[nodiscard]] Result<size_t> write(int fd, std::string_view bytes);
  [[nodiscard]] Result<size_t> read(int fd, std::span<std::byte> into);
  // Ends the connection; a reset one if bytes are left unread, as TCP does. REQUIRES: no op on it.
  void close(int fd) noexcept;
  // Breaks the connection: ECONNRESET for both ends.
  void reset(int fd);
  [[nodiscard]] bool is_open(int fd) const noexcept { return sockets_.contains(fd); }
  [[nodiscard]] size_t open_count() const noexcept { return sockets_.size(); }

  // Bytes that one direction of a connection holds before a sender has to wait. A datagram may exceed what is left, as
  // a kernel lets it, or a socket would be writable and refuse to send.
  void set_pipe_capacity(size_t bytes) { pipe_capacity_ = bytes; }

  // What goes wrong from now on.
  void set_faults(Faults faults) { faults_ = faults; }

  [[nodiscard]] int64_t now_ns() const noexcept override { return now_ns_; }
  // Runs `event` inside the wait() that reaches the time.
  void schedule(int64_t delay_ns, std::function<void()> event);
  // True exactly when the last wait() was without a deadline and nothing could have ended it: a real one would hang.
  [[nodiscard]] bool stalled() const noexcept { return stalled_; }
  [[nodiscard]] Random& random() noexcept { return random_; }

 private:
  struct Datagram {
    int sender;
    std::vector<std::byte> bytes;
  };

  struct Socket {
    bool listens = false;
    bool is_datagram = false;
    std::deque<Datagram> datagrams;  // received and not read
    int peer = -1;                   // -1: gone
    std::deque<std::byte> incoming;
    bool read_ended = false;         // the peer has closed or shut down its side
    bool write_ended = false;        // we have shut down ours
    bool broken = false;             // reset; reported by the next operation
    std::deque<int> backlog;         // accepted ends of connections, for a listener
    io::Op* reader = nullptr;
    io::Op* writer = nullptr;
  };

  // What a submitted op waits to send, or try_send() has queued.
  struct PendingSend {
    io::SendOp* op;
    std::vector<iovec> iov;
    bool is_queued;                 // else submitted, and waiting for room
    std::optional<int32_t> result;  // of a queued one that was handed over
  };

  void hand_over() noexcept override;
  [[nodiscard]] PendingSend* find_send(const io::Op& op) noexcept;
  void gather(PendingSend& send) noexcept;
  void hand_over_one(PendingSend& send) noexcept;
  [[nodiscard]] Result<size_t> send_pending(io::SendOp& op) noexcept;
  [[nodiscard]] Socket* find(int fd) noexcept;
  int add_socket();
  void link(int a, int b);
  [[nodiscard]] bool readable(const Socket& socket) const noexcept;
  [[nodiscard]] bool writable(const Socket& socket) noexcept;
  [[nodiscard]] size_t room_towards_peer(const Socket& socket) noexcept;
  [[nodiscard]] Result<size_t> send_bytes(Socket& socket, std::span<const iovec> iov, bool with_faults);
  [[nodiscard]] Result<size_t> receive_bytes(Socket& socket, std::span<std::byte> into, bool with_faults);

  [[nodiscard]] static size_t datagram_bytes(const Socket& socket) noexcept;
  [[nodiscard]] Result<size_t> send_datagram(int fd, std::span<const std::byte> bytes, const io::Address* address);
  [[nodiscard]] Result<size_t> receive_datagram(Socket& socket, std::span<std::byte> into, io::Address* sender);

  [[nodiscard]] Result<int> take_connection(Socket& listener, io::AcceptOp& op);

  void collect(bool with_delays);
  void collect_op(io::Op* op, bool ready, bool with_delays);
  void shuffle_batch();
  void run_due_events();
  void drop_from_batch(io::Op& op) noexcept;
  void detach(io::Op& op) noexcept;
  void complete_cancelled(io::Op& op) noexcept;

  friend io::ReadinessBackend<SimBackend>;
  [[nodiscard]] Result<size_t> receive(io::RecvOp& op, std::span<std::byte> into) noexcept;
  [[nodiscard]] Result<size_t> receive_from(io::RecvFromOp& op, std::span<std::byte> into) noexcept;
  [[nodiscard]] Result<int> accept_from(io::AcceptOp& op) noexcept;
  [[nodiscard]] Result<size_t> send_bytes_of(io::SendOp& op) noexcept;

  Random random_;
  Faults faults_;
  std::map<int, std::unique_ptr<Socket>> sockets_;  // ordered: iteration must not depend on addresses
  std::multimap<int64_t, std::function<void()>> events_;
  std::function<void(const SentDatagram&)> datagram_watcher_;
  std::vector<io::Op*> batch_;
  size_t next_in_batch_ = 0;
  std::vector<PendingSend> sends_;
  std::vector<io::Op*> displaced_;  // whose places the next owners of their numbers have taken
  size_t ops_count_ = 0;
  size_t pipe_capacity_ = 64 * 1024;
  int64_t now_ns_ = 1'000 * ns_per_second;
  std::atomic<bool> woken_{false};
  bool stalled_ = false;
  io::BackendCounters counters_;
};

}  // namespace cxxloop::sim
