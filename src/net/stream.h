// SPDX-License-Identifier: MIT
//
// net/stream.h: one connected byte stream: reading, a write queue, half-close, release.
//
// Decision: a write is appended and sent at the end of the callback that made it (net/cork.h), because a response is
// usually two writes (head, body) and one vectored send costs half of two.
// Thread: loop thread.  Python: none.  Owns: one RecvOp, one SendOp, the queued bytes; borrows the fd.
// Dies: after release() returned true or on_released() was called, never earlier: the kernel may hold its buffers.
#pragma once

#include <cstddef>
#include <optional>
#include <span>

#include "base/intrusive_list.h"
#include "io/backend.h"
#include "io/op.h"
#include "net/channel.h"
#include "net/write_queue.h"

namespace cxxloop::net {

// What a stream tells its owner. Every method may call any method of the stream, or destroy it as its last act.
class StreamHandler : public ChannelHandler {
 public:
  // Where the next bytes go. Empty: the shared buffer. Nothing: the owner cannot take any now, or has released the
  // stream. One that stopped reading and returns a span gets this one read all the same; it calls take_last_read() before.
  virtual std::optional<std::span<std::byte>> on_read_target() noexcept = 0;
  virtual void on_data(std::span<const std::byte> data) noexcept = 0;  // never empty
  virtual void on_eof() noexcept = 0;                                   // reading has stopped by itself
  virtual void on_read_error(Errno error) noexcept = 0;                 // reading has stopped by itself
  // The kernel is full; told once until the queue is empty. `is_late`: what is queued was written in callbacks that have
  // ended.
  virtual void on_send_waiting(bool is_late) noexcept = 0;
  virtual void on_sent() noexcept = 0;                     // a send that had to wait went through; see queued_bytes()
  virtual void on_write_error(Errno error) noexcept = 0;   // the queue is empty now

 protected:
  ~StreamHandler() = default;
};

class Stream final : public Channel, public ListNode {
 public:
  // `fd_witness`: as io::Op's; valid until the stream is released.
  Stream(io::Backend& backend, int fd, StreamHandler& handler, WriteQueue::ReleaseFn release_chunk,
         const int* fd_witness = nullptr) noexcept;
  ~Stream();

  [[nodiscard]] Errno start_reading() noexcept override;
  [[nodiscard]] bool is_reading() const noexcept override { return wants_read_; }
  // The stream stays busy until the read has ended that on_read_target() is about to return a span for. REQUIRES: inside
  // on_read_target(), !is_reading().
  void take_last_read() noexcept;

  // What was appended, not sent and not dropped.
  [[nodiscard]] size_t queued_bytes() const noexcept { return queue_.bytes() - dropped_bytes_; }
  [[nodiscard]] bool is_drained() const noexcept override { return queued_bytes() == 0; }
  // All that was appended and not sent; what was dropped stands in front.
  [[nodiscard]] const WriteQueue& queue() const noexcept { return queue_; }
  [[nodiscard]] bool is_send_waiting() const noexcept override { return sending_ == Sending::waiting; }
  // For a writer that fills the queue of one stream or of another: append(), grow_last() and reserve() are its only business.
  [[nodiscard]] WriteQueue& queue() noexcept { return queue_; }
  // True exactly when flush() would find out what queued_bytes() does not know yet: the cork or the backend holds bytes back.
  [[nodiscard]] bool is_held_back() const noexcept { return is_linked() || sending_ == Sending::handed_over; }
  // Releases what queue().has_spent() tells of: to be called after flush() and drop_writes(), in on_sent() and in
  // on_write_error(). An owner may call any method of the stream but not destroy it.
  void release_spent() noexcept { queue_.release_spent(); }
  // Queue bytes; takes chunk.owner unless it returns false (no memory).
  [[nodiscard]] bool append(const WriteChunk& chunk) noexcept { return queue_.append(chunk); }
  // As WriteQueue's: nothing is allocated, and several small writes leave as one chunk.
  [[nodiscard]] bool grow_last(const std::byte* at, size_t size) noexcept { return queue_.grow_last(at, size); }
  // Gives back what an empty queue keeps: for a stream that will be idle for a while.
  void release_memory() noexcept { queue_.release_memory(); }
  // Makes room for so many chunks more, which can then be appended without fail. False: no memory.
  [[nodiscard]] bool reserve(size_t chunks) noexcept { return queue_.reserve(chunks); }
  // Send everything queued as far as the kernel takes it; the rest is sent when the fd is writable.
  // An error clears the queue and is told by on_write_error().
  void flush() noexcept { send_all(false); }
  // As flush(), but the backend may hold the bytes back until Backend::flush(), and tell later what became of them.
  void flush_later() noexcept { (void)hand_over(true); }
  // As flush(), with `tail` behind the queue. Returns how many bytes of `tail` were not sent and must be append()ed
  // by the caller, who then calls flush() once more to have them waited for. 0 after an error: `tail` is lost too.
  [[nodiscard]] size_t flush_with(std::span<const std::byte> tail) noexcept;
  [[nodiscard]] Errno shutdown_write() noexcept {
    return recv_.still_owned() ? backend_.shutdown_write(recv_.fd) : Errno::bad_fd;
  }

 private:
  // idle -> handed_over (the backend has queued the bytes) -> idle; or -> waiting (the kernel was full), as from idle;
  // waiting -> waiting (a part went) -> idle.
  enum class Sending : uint8_t { idle, handed_over, waiting };

  static size_t on_gather(io::SendOp& op, std::span<iovec> iov) noexcept;
  static void on_recv_complete(io::Op& op, int32_t result) noexcept;
  static void on_last_recv_complete(io::Op& op, int32_t result) noexcept;
  static void on_send_complete(io::Op& op, int32_t result) noexcept;
  static std::optional<std::span<std::byte>> on_recv_target(io::RecvOp& op) noexcept;
  void finish_recv(int32_t result) noexcept;
  void end_recv(int32_t result) noexcept;
  void finish_send(int32_t result) noexcept;
  void send_all(bool is_late) noexcept;
  // True: the bytes are handed over. False: nothing is left to send now, and a handler may have destroyed the stream.
  [[nodiscard]] bool hand_over(bool is_late) noexcept;
  // Asks what became of the bytes that are handed over. False: as hand_over().
  [[nodiscard]] bool settle(bool is_late) noexcept;
  [[nodiscard]] Errno submit_send() noexcept;
  void wait_writable(bool is_late) noexcept;
  void fail_writes(Errno error) noexcept;
  void take_back_read() noexcept override;
  void clear_queue() noexcept override;
  [[nodiscard]] bool has_ops() const noexcept override { return recv_.in_kernel() || send_.in_kernel(); }
  void forget() noexcept override { backend_.forget(recv_.fd); }

  io::Backend& backend_;
  StreamHandler& handler_;
  io::RecvOp recv_;
  io::SendOp send_;
  WriteQueue queue_;
  size_t dropped_bytes_ = 0;  // at the front of the queue: kept only because the kernel still reads them
  Sending sending_ = Sending::idle;
  bool wants_read_ = false;  // True exactly when the owner wants on_data()
};

}  // namespace cxxloop::net
