// SPDX-License-Identifier: MIT
//
// python/transport/datagram/datagram_transport.h: an asyncio.DatagramTransport over net::DatagramSocket, as asyncio's selector loop behaves.
//
// Thread: loop thread.  Owns: the datagram socket, and what SocketTransport owns.  Dies: as that says.
#pragma once

#include "net/datagram_socket.h"
#include "python/transport/socket_transport.h"

namespace cxxloop::python {

// The arguments of create_datagram_endpoint(). All borrowed.
struct DatagramArgs {
  PyObject* sock;
  PyObject* protocol;
  PyObject* address;  // where every datagram goes; None: sendto() names the address
  PyObject* waiter;   // None: nobody waits
  PyObject* extra;    // a dict of its own, with socket, sockname and peername
};

class DatagramTransport final : public SocketTransport, public net::DatagramHandler {
 public:
  // What each queued datagram counts besides its bytes, by the running asyncio's rule.
#if PY_VERSION_HEX >= 0x030D0000
  static constexpr size_t header_bytes = 8;
#else
  static constexpr size_t header_bytes = 0;
#endif

  DatagramTransport(TransportObject& self, LoopCore& core, int fd, const int* fd_witness) noexcept;

  // asyncio's constructor: schedules connection_made(), receiving, and the waiter.
  [[nodiscard]] bool open(Gil gil, const DatagramArgs& args) noexcept;

  // --- what the methods of the Python type do; false or null: the indicator is set ---------------------------
  [[nodiscard]] bool send_to(Gil gil, PyObject* data, PyObject* target) noexcept;
  [[nodiscard]] size_t write_buffer_size() noexcept override { return datagram_.queued_bytes(); }
  template <class F>
  void each_ref(F& f) noexcept {
    SocketTransport::each_ref(f);
    f(address, foreign_error_);
  }

  // --- net::DatagramHandler ----------------------------------------------------------------------------------
  bool on_may_receive_more() noexcept override;
  void on_datagram(std::span<const std::byte> data, const io::Address& sender) noexcept override;
  void on_receive_error(Errno error) noexcept override;
  void on_writable() noexcept override;
  Errno on_send_foreign(void* owner) noexcept override;
  void on_send_error(Errno error) noexcept override;
  void on_sent() noexcept override;
  void on_busy() noexcept override { on_channel_busy(); }
  void on_idle() noexcept override { on_channel_idle(); }
  void on_released() noexcept override { on_channel_released(); }

  Ref address;  // what create_datagram_endpoint() was told to send to, or None

 private:
  using Target = net::Datagram::Target;

  [[nodiscard]] bool check_target(Gil gil, PyObject** target) noexcept;
  [[nodiscard]] Target resolve(Gil gil, PyObject* target, const io::Address** resolved, io::Address* storage) noexcept;
  [[nodiscard]] bool send_after_loop_closed(Gil gil, PyObject* data, PyObject* target) noexcept;
  [[nodiscard]] Errno send_now(Gil gil, PyObject* data, PyObject* target) noexcept;
  [[nodiscard]] Errno send_bytes(Gil gil, std::span<const std::byte> bytes, PyObject* data, PyObject* target) noexcept;
  [[nodiscard]] Errno send_foreign(Gil gil, PyObject* data, PyObject* target) noexcept;
  [[nodiscard]] bool queue(Gil gil, PyObject* data, PyObject* target) noexcept;
  [[nodiscard]] bool lose_connection_if_drained(Gil gil) noexcept;
  [[nodiscard]] bool tell_error(Gil gil, Ref exception) noexcept;
  [[nodiscard]] bool tell_send_error(Gil gil, Errno error) noexcept;
  void report(Gil gil, const char* message) noexcept;

  net::DatagramSocket datagram_;
  Ref foreign_error_;       // why the socket object could not send
  int family_ = 0;
  bool connected_ = false;  // True exactly when the kernel knows the peer, and send() is to be used
};

struct DatagramTransportObject {
  TransportObject front;
  alignas(DatagramTransport) unsigned char storage[sizeof(DatagramTransport)];

  DatagramTransport& native() noexcept { return *static_cast<DatagramTransport*>(front.native); }
};
static_assert(alignof(DatagramTransportObject) <= 16, "Python's allocator aligns its objects to 16 bytes");

// New reference, or null with the indicator set.
PyObject* make_datagram_transport(Gil gil, LoopCore& core, const DatagramArgs& args) noexcept;
[[nodiscard]] bool add_datagram_transport_type(Gil gil, PyObject* module, ModuleState& state) noexcept;

}  // namespace cxxloop::python
