// SPDX-License-Identifier: MIT
//
// python/transport/stream/stream_transport.h: an asyncio.Transport over net::Stream, with the behaviour of asyncio's socket transport.
//
// Thread: loop thread.  Owns: the stream, and what SocketTransport owns.  Dies: as that says.
#pragma once

#include "net/stream.h"
#include "python/transport/native_protocol.h"
#include "python/transport/socket_transport.h"

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

class StreamTransport final : public SocketTransport, public net::StreamHandler {
 public:
  StreamTransport(TransportObject& self, LoopCore& core, int fd, const int* fd_witness) noexcept;

  // asyncio's constructor: attaches to the server, schedules connection_made(), reading, and the waiter.
  [[nodiscard]] bool open(Gil gil, const TransportArgs& args) noexcept;

  // --- what the methods of the Python type do; false or null: the indicator is set ---------------------------
  [[nodiscard]] bool write(Gil gil, PyObject* data) noexcept;
  [[nodiscard]] bool write_lines(Gil gil, PyObject* list_of_data) noexcept;
  [[nodiscard]] bool write_eof(Gil gil) noexcept;
  [[nodiscard]] bool set_protocol(Gil gil, PyObject* new_protocol) noexcept override;
  PyObject* make_empty_waiter(Gil gil) noexcept;
  void send_held_back() noexcept override;
  // The program has the descriptor and may use it at any time: nothing is held back from now on.
  void share_descriptor() noexcept;
  [[nodiscard]] size_t write_buffer_size() noexcept override;
  // Those bytes, copied: what a program that looks at asyncio's _buffer sees.
  [[nodiscard]] PyObject* copy_write_buffer(Gil gil) noexcept;
  template <class F>
  void each_ref(F& f) noexcept {
    SocketTransport::each_ref(f);
    f(server, call_context, read_buffer_, buffer_context_, empty_waiter);
  }
  template <class F>
  void each_kept_ref(F& f) noexcept {
    if (is_lingering()) return;  // the kernel still reads that memory: the collector must not end it together with us
    stream_.queue().each_owner_that_may_call_back([&f](void* owner) { f(static_cast<PyObject*>(owner)); });
  }

  // --- net::StreamHandler ------------------------------------------------------------------------------------
  std::optional<std::span<std::byte>> on_read_target() noexcept override;
  void on_data(std::span<const std::byte> data) noexcept override;
  void on_eof() noexcept override;
  void on_read_error(Errno error) noexcept override;
  void on_send_waiting(bool is_late) noexcept override;
  void on_sent() noexcept override;
  void on_write_error(Errno error) noexcept override;
  void on_busy() noexcept override { on_channel_busy(); }
  void on_idle() noexcept override { on_channel_idle(); }
  void on_released() noexcept override { on_channel_released(); }

  Ref server;
  Ref call_context;  // 3.15: given by the server
  Ref empty_waiter;  // sendfile waits for the queue to drain
  bool eof_written = false;

 private:
  // Other buffers than bytes are offered to the kernel before they are copied or kept, from this size on.
  static constexpr size_t send_before_copy_bytes = 4096;

  [[nodiscard]] bool fill_extra(Gil gil, const TransportArgs& args) noexcept;
  // The usual case: nothing of what check_writable() looks for is there.
  [[nodiscard]] bool is_plainly_writable() const noexcept {
    return !eof_written && !empty_waiter && !is_lost() && !stream_.is_linked();
  }
  [[nodiscard]] bool check_writable(Gil gil, const char* method, bool* drop) noexcept;
  [[nodiscard]] bool append_view(Gil gil, PyObject* view, size_t size) noexcept;
  [[nodiscard]] bool append_owned(Gil gil, Ref bytes) noexcept;
  [[nodiscard]] bool append_rest(Gil gil, PyObject* data, std::span<const std::byte> rest, bool offered) noexcept;
  [[nodiscard]] Ref keep_line(Gil gil, PyObject* line) noexcept;
  [[nodiscard]] bool append_line(Gil gil, PyObject* line) noexcept;
  [[nodiscard]] bool write_buffer(Gil gil, PyObject* data) noexcept;
  [[nodiscard]] bool after_append(Gil gil) noexcept;
  [[nodiscard]] bool send_appended(Gil gil) noexcept;
  [[nodiscard]] bool is_shared() const noexcept;
  [[nodiscard]] bool send_after_loop_closed(Gil gil, PyObject* data) noexcept;
  [[nodiscard]] bool shutdown_after_loop_closed(Gil gil) noexcept;
  [[nodiscard]] PyObject* callback_context() const noexcept override { return call_context.get(); }
  [[nodiscard]] bool after_connection_lost(Gil gil) noexcept override;
  void after_socket_closed(Gil gil) noexcept override;
  void detach_from_server(Gil gil) noexcept;
  void release_sent(Gil gil) noexcept override;
  [[nodiscard]] bool on_drained(Gil gil) noexcept;
  [[nodiscard]] Ref ask_for_buffer(Gil gil) noexcept;
  [[nodiscard]] Ref call_get_buffer(Gil gil) noexcept;
  [[nodiscard]] std::optional<std::span<std::byte>> memory_of_buffer(Gil gil) noexcept;
  [[nodiscard]] Ref take_read_context() noexcept;
  void on_buffer_filled(Gil gil, std::span<const std::byte> data) noexcept;
  void deliver_natively(Gil gil, PyObject* context, std::span<const std::byte> data) noexcept;
  [[nodiscard]] Ref receiver_or_none() const noexcept;
  void deliver(Gil gil, PyObject* context, PyObject* method, PyObject* argument, const char* failure) noexcept;

  net::Stream stream_;
  Ref read_buffer_;                      // BufferedProtocol: the buffer the next bytes go to
  Ref buffer_context_;                   // in which that was asked for, and in which its bytes are told of
  bool buffered_protocol_ = false;
  bool descriptor_given_out_ = false;    // True exactly when the program has asked our TransportSocket for it
  NativeProtocolObject* native_protocol_ = nullptr;  // `protocol`, if its receiving side is native
};

struct StreamTransportObject {
  TransportObject front;
  alignas(StreamTransport) unsigned char storage[sizeof(StreamTransport)];

  StreamTransport& native() noexcept { return *static_cast<StreamTransport*>(front.native); }
};

// New reference, or null with the indicator set.
PyObject* make_stream_transport(Gil gil, LoopCore& core, const TransportArgs& args) noexcept;
[[nodiscard]] bool add_stream_transport_type(Gil gil, PyObject* module, ModuleState& state) noexcept;

}  // namespace cxxloop::python
