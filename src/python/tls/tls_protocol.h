// SPDX-License-Identifier: MIT
//
// python/tls/tls_protocol.h: the native half of cxxloop's SSLProtocol: what asyncio.sslproto.SSLProtocol does per packet.
//
// The Python half (cxxloop/_tls.py) derives from this type and from the running Python's SSLProtocol: handshake,
// shutdown, timeouts, failures are asyncio's code, which reads and assigns the fields below under asyncio's names.
// Decision: records go through the ssl module's own SSLObject, so that every context and every subclass keeps working;
// what OpenSSL would refuse with SSLWantReadError is not asked for, because that exception costs more than a record.
// An SSLObject or a BIO of another type (a subclass, a replacement) is served by asyncio's code.
// Thread: loop thread.  Dies: by its reference count.
#pragma once

#include <span>

#include "python/loop/loop.h"
#include "python/transport/native_protocol.h"

namespace cxxloop::python {

struct TlsProtocolObject;

// Fields of asyncio's SSLProtocol, which its Python code assigns in place; null: not assigned yet. The limits are
// whatever number the program gave.
struct TlsFields {
  Ref loop;
  Ref state;           // an SSLProtocolState
  Ref sslobj;
  Ref raw_sslobj;      // the _ssl._SSLSocket inside: a Python frame less per record; null: not an ssl.SSLObject
  Ref incoming;
  Ref outgoing;
  Ref transport;
  Ref app_protocol;
  Ref app_transport;
  Ref backlog;         // a deque: what was written before the handshake ended, or during a renegotiation
  Ref outgoing_high;
  Ref outgoing_low;
  Ref incoming_high;
  Ref incoming_low;
  Py_ssize_t backlog_size = 0;  // bytes
  char app_protocol_is_buffer = 0;
  char app_reading_paused = 0;
  char app_writing_paused = 0;
  char ssl_reading_paused = 0;
  char ssl_writing_paused = 0;
};

class TlsProtocol : public TlsFields {
 public:
  TlsProtocol(TlsProtocolObject& self, ModuleState& module_state, PyObject* its_module) noexcept
      : module(Ref::borrow(its_module)), self_(self), state_(module_state) {
    state_.tls_gauge.add();
  }
  TlsProtocol(const TlsProtocol&) = delete;
  TlsProtocol& operator=(const TlsProtocol&) = delete;
  ~TlsProtocol() { state_.tls_gauge.remove(); }

  // --- what the transport below and the methods of the Python type do; false: the indicator is set -----------
  // asyncio's buffer_updated(), with the bytes where the transport has received them.
  [[nodiscard]] bool on_data(Gil gil, std::span<const std::byte> data) noexcept;
  [[nodiscard]] bool do_handshake(Gil gil) noexcept;
  [[nodiscard]] bool read(Gil gil) noexcept;
  [[nodiscard]] bool write_backlog(Gil gil) noexcept;
  [[nodiscard]] bool write(Gil gil, PyObject* data) noexcept;
  [[nodiscard]] bool write_lines(Gil gil, PyObject* list_of_data) noexcept;
  [[nodiscard]] bool send_outgoing(Gil gil) noexcept;
  // Bytes that wait to be read; -1 with the indicator set.
  Py_ssize_t read_buffer_size(Gil gil) noexcept;
  // Another transport wrote to the incoming BIO: we no longer know where records end.
  void stop_counting_records() noexcept { counts_records_ = awaits_hello_ = false; }
  [[nodiscard]] bool set_sslobj(Gil gil, PyObject* object) noexcept;

  Ref module;  // has our count; when the interpreter ends, our type may let go of it before us

  template <class F>
  void each_ref(F& f) noexcept {
    f(loop, state, sslobj, raw_sslobj, incoming, outgoing, transport, app_protocol, app_transport, backlog, outgoing_high,
      outgoing_low, incoming_high, incoming_low);
  }
  template <class F>
  void each_kept_ref(F& f) noexcept {
    f(module);
  }

 private:
  // A BIO never gives memory back, so it never holds more than this unless the peer or the program makes it wait.
  static constexpr size_t bio_bytes_max = 32 * 1024;
  // Plaintext of one round of reading that needs no list.
  static constexpr Py_ssize_t scratch_bytes = 256 * 1024;
  // Results of read_record() and encrypt_piece() beside a count of bytes.
  static constexpr Py_ssize_t again = -1;   // OpenSSL needs more from the peer
  static constexpr Py_ssize_t failed = -2;  // the indicator is set

  [[nodiscard]] bool parts_are_known() const noexcept;
  [[nodiscard]] bool is_in(PyObject* ssl_state) const noexcept { return state.get() == ssl_state; }
  [[nodiscard]] bool call_own(Gil gil, PyObject* method) noexcept;
  [[nodiscard]] bool call_base(Gil gil, PyObject* method, PyObject* argument) noexcept;
  [[nodiscard]] bool contain_failure(Gil gil) noexcept;

  [[nodiscard]] int is_hello_missing(Gil gil) noexcept;
  [[nodiscard]] bool feed(Gil gil, std::span<const std::byte> data) noexcept;
  [[nodiscard]] bool feed_piece(Gil gil, std::span<const std::byte>* input) noexcept;
  void count_records(std::span<const std::byte> data) noexcept;
  void count_hello(std::span<const std::byte> data) noexcept;
  [[nodiscard]] bool read_fed(Gil gil, std::span<const std::byte> input) noexcept;
  [[nodiscard]] bool read_and_answer(Gil gil, std::span<const std::byte> input) noexcept;
  [[nodiscard]] bool read_to_bytes(Gil gil, std::span<const std::byte> input) noexcept;
  bool fail_with_input(Gil gil, std::span<const std::byte> input) noexcept;
  [[nodiscard]] bool read_to_buffer(Gil gil, std::span<const std::byte> input) noexcept;
  [[nodiscard]] int may_read(Gil gil) noexcept;
  Py_ssize_t read_record(Gil gil, PyObject* target, Py_ssize_t room) noexcept;
  Py_ssize_t fill_buffer(Gil gil, PyObject* buffer, Py_ssize_t filled, Py_ssize_t size, bool* at_eof) noexcept;
  Py_ssize_t decrypt(Gil gil, std::span<const std::byte>* input, PyObject* buffer, Py_ssize_t size,
                     bool* at_eof) noexcept;
  Py_ssize_t outcome_of(Gil gil, const Ref& count, Py_ssize_t room) noexcept;
  Py_ssize_t pending_in(Gil gil, const Ref& bio) noexcept;
  [[nodiscard]] static bool check_there(Gil gil, const Ref& part) noexcept;
  Ref scratch(Gil gil) noexcept;
  [[nodiscard]] bool end_reading(Gil gil) noexcept;

  Py_ssize_t encrypt(Gil gil, PyObject* data, Ref* parts, Py_ssize_t* written) noexcept;
  Py_ssize_t encrypt_piece(Gil gil, PyObject* piece) noexcept;
  [[nodiscard]] bool write_now(Gil gil, PyObject* data) noexcept;
  [[nodiscard]] bool empty_backlog(Gil gil) noexcept;
  [[nodiscard]] bool append_to_backlog(Gil gil, PyObject* data) noexcept;
  [[nodiscard]] bool collect(Gil gil, Ref* parts) noexcept;
  [[nodiscard]] bool send_parts(Gil gil, Ref* parts) noexcept;

  [[nodiscard]] bool control_app_writing(Gil gil) noexcept;
  [[nodiscard]] bool control_ssl_reading(Gil gil) noexcept;
  [[nodiscard]] bool tell_app(Gil gil, PyObject* method, const char* failure) noexcept;
  [[nodiscard]] PyObject* self_object() const noexcept;

  TlsProtocolObject& self_;
  ModuleState& state_;
  // The record that is arriving: its header (type, version, length of the body), and the bytes of its body to come;
  // the client's first one, and later those that are counted.
  std::array<uint8_t, 5> header_{};
  uint8_t header_seen_ = 0;
  size_t body_missing_ = 0;
  size_t records_ready_ = 0;     // at least as many whole records as OpenSSL has not looked at
  bool counts_records_ = false;  // True exactly when the four fields above are in step with what was fed
  bool awaits_hello_ = true;     // False when OpenSSL has something to do for a server's handshake
  bool record_left_ = false;     // True when the last read may have left a part of its record
  bool is_broken_ = false;       // True after an SSLError: every read tells it again
};

struct TlsProtocolObject {
  NativeProtocolObject front;
  alignas(TlsProtocol) unsigned char native_storage[sizeof(TlsProtocol)];

  TlsProtocol& native() noexcept { return *reinterpret_cast<TlsProtocol*>(native_storage); }
};

// The native protocol behind an object, or null for any other object.
TlsProtocol* tls_protocol_of(const ModuleState& state, PyObject* object) noexcept;
[[nodiscard]] bool add_tls_types(Gil gil, PyObject* module, ModuleState& state) noexcept;

}  // namespace cxxloop::python
