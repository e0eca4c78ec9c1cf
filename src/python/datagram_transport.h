// SPDX-License-Identifier: MIT
//
// python/datagram_transport.h: an asyncio.DatagramTransport over net::Datagram, as asyncio's selector loop behaves.
//
// Thread: loop thread.  Owns: the socket object (which owns the descriptor), the protocol, the datagram socket.
// Dies: by its reference count. While the poller has one of its ops it is pinned, as a selector's reader would pin it;
// the pin belongs to the loop, whose traverse shows it to the garbage collector.
#pragma once

#include "net/datagram.h"
#include "python/flow_control.h"
#include "python/loop.h"

namespace cxxloop::python {

// What create_datagram_endpoint() knows of a new transport. All borrowed.
struct DatagramArgs {
  PyObject* sock;
  PyObject* protocol;
  PyObject* address;  // where everything is sent; None: sendto() says
  PyObject* waiter;   // None: nobody waits
  PyObject* extra;    // a dict of its own, with socket, sockname and peername
};

class DatagramTransport final : public net::DatagramHandler {
 public:
  // What each queued datagram counts besides its bytes, by the running asyncio's rule.
#if PY_VERSION_HEX >= 0x030D0000
  static constexpr size_t header_bytes = 8;
#else
  static constexpr size_t header_bytes = 0;
#endif
  static constexpr long received_bytes_max = 256 * 1024;

  DatagramTransport(DatagramTransportObject& self, LoopCore& core, int fd, const int* owner_fd) noexcept;

  // asyncio's constructor: schedules connection_made(), receiving, and the waiter.
  [[nodiscard]] bool open(Gil gil, const DatagramArgs& args) noexcept;

  // --- what the methods of the Python type do; false or null: the indicator is set ---------------------------
  [[nodiscard]] bool send_to(Gil gil, PyObject* data, PyObject* target) noexcept;
  [[nodiscard]] bool close(Gil gil) noexcept;
  // asyncio's _force_close(): drop what is queued; `exception` (or None) goes to connection_lost().
  [[nodiscard]] bool force_close(Gil gil, PyObject* exception) noexcept;
  // asyncio's _fatal_error(): report, then force_close().
  [[nodiscard]] bool fatal_error(Gil gil, PyObject* exception, PyObject* message) noexcept;
  [[nodiscard]] bool call_connection_lost(Gil gil, PyObject* exception) noexcept;
  [[nodiscard]] bool start_receiving(Gil gil) noexcept;
  [[nodiscard]] bool pause_reading(Gil gil) noexcept;
  [[nodiscard]] bool resume_reading(Gil gil) noexcept;
  [[nodiscard]] bool set_write_limits(Gil gil, PyObject* high, PyObject* low) noexcept;
  PyObject* repr(Gil gil) noexcept;
  // The last reference is gone (asyncio's __del__).
  void finalize(Gil gil) noexcept;
  // The loop closes: its backend is about to go.
  void detach_from_loop(Gil gil) noexcept;

  [[nodiscard]] bool is_closing() const noexcept { return closing_; }
  [[nodiscard]] bool is_paused() const noexcept { return paused_; }
  [[nodiscard]] bool is_pinned() const noexcept { return pinned_; }
  [[nodiscard]] size_t write_buffer_size() const noexcept { return datagram_.queued_bytes(); }
  [[nodiscard]] const FlowControl& flow() const noexcept { return flow_; }

  // --- net::DatagramHandler ----------------------------------------------------------------------------------
  bool on_may_receive_more() noexcept override;
  void on_datagram(std::span<const std::byte> data, const io::Address& sender) noexcept override;
  void on_receive_error(Errno error) noexcept override;
  void on_writable() noexcept override;
  Errno on_send_foreign(void* owner) noexcept override;
  void on_send_error(Errno error) noexcept override;
  void on_sent() noexcept override;
  void on_released() noexcept override;

  template <class F>
  int each_ref(F&& f) noexcept {
    for (Ref* ref : {&loop, &sock, &protocol, &address, &receive_context_, &send_context_, &foreign_error_}) {
      if (const int result = f(*ref); result != 0) return result;
    }
    return 0;
  }

  Ref loop;
  Ref sock;      // null after connection_lost()
  Ref protocol;  // null after connection_lost()
  Ref address;   // what create_datagram_endpoint() was told to send to, or None
  const int fd;
  uint32_t conn_lost = 0;  // > 0: connection_lost() is scheduled; counts datagrams lost after that

 private:
  using Target = net::QueuedDatagram::Target;

  [[nodiscard]] bool schedule_callbacks(Gil gil, const DatagramArgs& args) noexcept;
  [[nodiscard]] bool schedule_connection_lost(Gil gil, PyObject* exception) noexcept;
  [[nodiscard]] bool check_target(Gil gil, PyObject** target) noexcept;
  [[nodiscard]] bool note_lost_datagram(Gil gil) noexcept;
  [[nodiscard]] Target resolve(Gil gil, PyObject* target, const io::Address** resolved, io::Address* storage) noexcept;
  [[nodiscard]] bool send_unwatched(Gil gil, PyObject* data, PyObject* target) noexcept;
  [[nodiscard]] Errno send_now(Gil gil, PyObject* data, PyObject* target) noexcept;
  [[nodiscard]] Errno send_bytes(Gil gil, std::span<const std::byte> bytes, PyObject* data, PyObject* target) noexcept;
  [[nodiscard]] Errno send_foreign(Gil gil, PyObject* data, PyObject* target) noexcept;
  [[nodiscard]] bool queue(Gil gil, PyObject* data, PyObject* target) noexcept;
  [[nodiscard]] bool lose_connection_if_drained(Gil gil) noexcept;
  [[nodiscard]] bool tell_error(Gil gil, Ref exception) noexcept;
  [[nodiscard]] bool tell_send_error(Gil gil, Errno error) noexcept;
  [[nodiscard]] bool log_debug(Gil gil, const char* format) noexcept;
  void report(Gil gil, const char* message) noexcept;
  void fail(Gil gil, const char* message) noexcept;
  void close_socket(Gil gil) noexcept;
  void update_pin() noexcept;
  [[nodiscard]] PyObject* self_object() const noexcept;
  [[nodiscard]] FlowControl::Parties parties() const noexcept { return {loop.get(), self_object(), protocol.get()}; }
  [[nodiscard]] bool is_open() const noexcept { return datagram_.state() == net::Datagram::State::open; }

  DatagramTransportObject& self_;
  ModuleState& state_;
  LoopCore* core_;          // null once detached
  net::Datagram datagram_;
  FlowControl flow_;
  Ref receive_context_;     // the protocol's receiving callbacks run in it
  Ref send_context_;        // resume_writing() runs in it
  Ref foreign_error_;       // why the socket object could not send
  int family_ = 0;
  bool connected_ = false;  // True exactly when the kernel knows the peer, and send() is to be used
  bool closing_ = false;
  bool paused_ = false;
  bool pinned_ = false;     // True exactly when an op of the socket keeps us alive
  bool close_when_released_ = false;
  bool queue_lost_ = false;  // True exactly when the loop was closed with datagrams queued: those behind are lost too
};

struct DatagramTransportObject {
  PyObject_HEAD
  PyObject* extra;      // the slot of asyncio.BaseTransport
  PyObject* dict;       // programs replace methods of one transport
  PyObject* weakrefs;
  alignas(DatagramTransport) unsigned char native_storage[sizeof(DatagramTransport)];

  DatagramTransport& native() noexcept { return *reinterpret_cast<DatagramTransport*>(native_storage); }
};
static_assert(alignof(DatagramTransportObject) <= 16, "Python's allocator aligns its objects to 16 bytes");

// New reference, or null with the indicator set.
PyObject* make_datagram_transport(Gil gil, LoopCore& core, const DatagramArgs& args) noexcept;
[[nodiscard]] bool add_datagram_transport_type(Gil gil, PyObject* module, ModuleState& state) noexcept;

// --- the loop's table of them (datagram_transport.cc) ---------------------------------------------------------
void register_datagram(LoopCore& core, int fd, DatagramTransportObject* transport) noexcept;
void unregister_datagram(LoopCore& core, int fd, DatagramTransportObject* transport) noexcept;
DatagramTransportObject* datagram_of_fd(LoopCore& core, int fd) noexcept;

}  // namespace cxxloop::python
