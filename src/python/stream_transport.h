// SPDX-License-Identifier: MIT
//
// python/stream_transport.h: an asyncio.Transport over net::Stream, with the behaviour of asyncio's socket transport.
//
// Thread: loop thread.  Owns: the socket object (which owns the descriptor), the protocol, the stream.
// Dies: by its reference count. While the poller has one of its ops it is pinned, as a selector's reader would pin it;
// the pin belongs to the loop, whose traverse shows it to the garbage collector.
#pragma once

#include "net/stream.h"
#include "python/loop.h"

namespace cxxloop::python {

// What create_connection() and accept know of a new transport. All borrowed; null or None: not given.
struct TransportArgs {
  PyObject* sock;
  PyObject* protocol;
  PyObject* waiter;
  PyObject* extra;
  PyObject* server;
  PyObject* context;  // 3.15: every callback runs in it; before: each in a copy of the current one
};

class TlsProtocol;

class StreamTransport final : public net::StreamHandler {
 public:
  StreamTransport(StreamTransportObject& self, LoopCore& core, int fd, const int* owner_fd) noexcept;

  // asyncio's constructor: attaches to the server, schedules connection_made(), reading, and the waiter.
  [[nodiscard]] bool open(Gil gil, const TransportArgs& args) noexcept;

  // --- what the methods of the Python type do; false or null: the indicator is set ---------------------------
  [[nodiscard]] bool write(Gil gil, PyObject* data) noexcept;
  [[nodiscard]] bool write_lines(Gil gil, PyObject* list_of_data) noexcept;
  [[nodiscard]] bool write_eof(Gil gil) noexcept;
  [[nodiscard]] bool close(Gil gil) noexcept;
  [[nodiscard]] bool abort(Gil gil) noexcept;
  // asyncio's _force_close(): drop what is queued; `exception` (or None) goes to connection_lost().
  [[nodiscard]] bool force_close(Gil gil, PyObject* exception) noexcept;
  // asyncio's _fatal_error(): report, then force_close().
  [[nodiscard]] bool fatal_error(Gil gil, PyObject* exception, PyObject* message) noexcept;
  [[nodiscard]] bool call_connection_lost(Gil gil, PyObject* exception) noexcept;
  [[nodiscard]] bool start_reading(Gil gil) noexcept;
  [[nodiscard]] bool pause_reading(Gil gil) noexcept;
  [[nodiscard]] bool resume_reading(Gil gil) noexcept;
  [[nodiscard]] bool set_protocol(Gil gil, PyObject* new_protocol) noexcept;
  [[nodiscard]] bool set_write_limits(Gil gil, PyObject* high, PyObject* low) noexcept;
  PyObject* make_empty_waiter(Gil gil) noexcept;
  PyObject* repr(Gil gil) noexcept;
  // Send what waits for the end of the callback.
  void send_held_back() noexcept;
  // Bytes the kernel has not taken; what waits for the end of the callback is sent first.
  [[nodiscard]] size_t write_buffer_size(Gil gil) noexcept;
  // Those bytes, copied: what a program that looks at asyncio's _buffer sees.
  [[nodiscard]] PyObject* copy_write_buffer(Gil gil) noexcept;
  // The last reference is gone (asyncio's __del__).
  void finalize(Gil gil) noexcept;
  // The loop closes: its backend is about to go.
  void detach_from_loop(Gil gil) noexcept;

  [[nodiscard]] bool is_closing() const noexcept { return closing_; }
  [[nodiscard]] bool is_paused() const noexcept { return paused_; }
  [[nodiscard]] bool is_reading() const noexcept { return !closing_ && !paused_; }
  [[nodiscard]] bool is_pinned() const noexcept { return pinned_; }

  // --- net::StreamHandler ------------------------------------------------------------------------------------
  std::optional<std::span<std::byte>> on_read_target() noexcept override;
  void on_data(std::span<const std::byte> data) noexcept override;
  void on_eof() noexcept override;
  void on_read_error(Errno error) noexcept override;
  void on_send_waiting() noexcept override;
  void on_sent() noexcept override;
  void on_write_error(Errno error) noexcept override;
  void on_released() noexcept override;

  template <class F>
  int each_ref(F&& f) noexcept {
    for (Ref* ref :
         {&loop, &sock, &protocol, &server, &call_context, &read_context_, &write_context_, &read_buffer_,
          &empty_waiter}) {
      if (const int result = f(*ref); result != 0) return result;
    }
    return 0;
  }

  Ref loop;          // null after connection_lost()
  Ref sock;          // null after connection_lost()
  Ref protocol;      // null after connection_lost()
  Ref server;
  Ref call_context;  // 3.15: given by the server
  Ref empty_waiter;  // sendfile waits for the queue to drain
  size_t high_water = 64 * 1024;
  size_t low_water = 16 * 1024;
  const int fd;
  uint32_t conn_lost = 0;  // > 0: connection_lost() is scheduled; counts writes after that
  bool eof_written = false;
  bool protocol_paused = false;
  bool protocol_connected = false;

 private:
  // Bytes written in one callback that may wait for its end; more are sent at once.
  static constexpr size_t corked_bytes_max = 64 * 1024;
  // Other buffers than bytes are offered to the kernel before they are copied, from this size on.
  static constexpr size_t send_before_copy_bytes = 4096;

  [[nodiscard]] bool fill_extra(Gil gil, const TransportArgs& args) noexcept;
  [[nodiscard]] bool schedule_callbacks(Gil gil, const TransportArgs& args) noexcept;
  [[nodiscard]] bool schedule_connection_lost(Gil gil, PyObject* exception) noexcept;
  [[nodiscard]] bool check_writable(Gil gil, const char* method, bool* drop) noexcept;
  [[nodiscard]] bool append_owned(Gil gil, Ref bytes) noexcept;
  [[nodiscard]] bool write_buffer(Gil gil, PyObject* data) noexcept;
  [[nodiscard]] bool after_append(Gil gil) noexcept;
  [[nodiscard]] bool note_lost_write(Gil gil) noexcept;
  [[nodiscard]] bool may_cork() const noexcept;
  [[nodiscard]] bool send_unwatched(Gil gil, PyObject* data) noexcept;
  [[nodiscard]] bool shutdown_unwatched(Gil gil) noexcept;
  void flush_corked() noexcept;
  [[nodiscard]] bool maybe_pause_protocol(Gil gil) noexcept;
  [[nodiscard]] bool maybe_resume_protocol(Gil gil) noexcept;
  [[nodiscard]] bool tell_flow(Gil gil, PyObject* method, const char* failure) noexcept;
  [[nodiscard]] bool on_drained(Gil gil) noexcept;
  [[nodiscard]] bool resume_stream(Gil gil) noexcept;
  void deliver_to_tls(Gil gil, std::span<const std::byte> data) noexcept;
  void deliver(Gil gil, PyObject* method, PyObject* argument, const char* failure) noexcept;
  void fail(Gil gil, const char* message) noexcept;
  void close_socket(Gil gil) noexcept;
  [[nodiscard]] bool log_debug(Gil gil, const char* format) noexcept;
  void update_pin() noexcept;
  [[nodiscard]] PyObject* self_object() const noexcept;
  [[nodiscard]] bool stream_is_open() const noexcept { return stream_.state() == net::Stream::State::open; }

  StreamTransportObject& self_;
  ModuleState& state_;
  LoopCore* core_;         // null once detached
  net::Stream stream_;
  Ref read_context_;          // the protocol's reading callbacks run in it
  Ref write_context_;         // resume_writing() runs in it
  Ref read_buffer_;           // BufferedProtocol: the buffer the next bytes go to
  bool closing_ = false;
  bool paused_ = false;
  bool buffered_protocol_ = false;
  TlsProtocol* tls_protocol_ = nullptr;  // the native side of `protocol`, if it is TLS
  bool pinned_ = false;       // True exactly when an op of the stream keeps us alive
  bool close_when_released_ = false;
  bool queue_lost_ = false;   // True exactly when the loop was closed with bytes queued; what comes behind them is lost too
};

struct StreamTransportObject {
  PyObject_HEAD
  PyObject* extra;      // the slot of asyncio.BaseTransport
  PyObject* dict;       // programs replace methods of one transport
  PyObject* weakrefs;
  alignas(StreamTransport) unsigned char native_storage[sizeof(StreamTransport)];

  StreamTransport& native() noexcept { return *reinterpret_cast<StreamTransport*>(native_storage); }
};

// New reference, or null with the indicator set.
PyObject* make_stream_transport(Gil gil, LoopCore& core, const TransportArgs& args) noexcept;
[[nodiscard]] bool add_stream_transport_type(Gil gil, PyObject* module, ModuleState& state) noexcept;

}  // namespace cxxloop::python
