// SPDX-License-Identifier: MIT
//
// python/transport/socket_transport.h: what StreamTransport and DatagramTransport have in common: asyncio's _SelectorTransport.
//
// Thread: loop thread.  Owns: the socket object (which owns the descriptor) and the protocol.
// Dies: by its reference count. While the poller has one of its ops it is pinned, as a selector's reader would pin it;
// the pin belongs to the loop, whose traverse shows it to the garbage collector.
#pragma once

#include "net/channel.h"
#include "python/transport/flow_control.h"
#include "python/interp/heap_type.h"
#include "python/loop/loop.h"

namespace cxxloop::python {

class SocketTransport;

// The front of every transport object; the native part follows it.
struct TransportObject {
  PyObject_HEAD
  PyObject* extra;      // the slot of asyncio.BaseTransport
  PyObject* dict;       // programs replace methods of one transport
  PyObject* weakrefs;
  SocketTransport* native;
};

// The life of a connection. connection_lost() is always called by the loop, never from inside close() or abort().
//
//   open ---close()---> draining ---all is sent---> ending ---connection_lost() has run---> releasing ---> closed
//     |                    |                           |                                ^       the kernel has no op
//     +--------------------+---abort(), an error-------+---> losing ---it has run-------+
//     +---close(), nothing is queued-------------------------^
//
//   losing -> draining: there was no memory to schedule connection_lost(), close() and abort() can be called again.
enum class Life : uint8_t {
  open,
  draining,   // what is queued is still sent; asyncio's _closing from here on
  ending,     // connection_lost() runs; what it writes is still sent (streams since 3.14: losing at once, as in asyncio)
  losing,     // connection_lost() is scheduled, or runs, and writes are lost; asyncio's _conn_lost from here on
  releasing,  // it has run, and the kernel has not let go of an op
  closed,     // the socket is closed and the protocol let go
};

class SocketTransport : public Served, public Lingering {
 public:
  // --- what the methods of the Python type do; false or null: the indicator is set ---------------------------
  [[nodiscard]] bool start_reading(Gil gil) noexcept;
  [[nodiscard]] bool pause_reading(Gil gil) noexcept;
  [[nodiscard]] bool resume_reading(Gil gil) noexcept;
  [[nodiscard]] bool close(Gil gil) noexcept;
  [[nodiscard]] bool abort(Gil gil) noexcept;
  // asyncio's _force_close(): drop what is queued; `exception` (or None) goes to connection_lost().
  [[nodiscard]] bool force_close(Gil gil, PyObject* exception) noexcept;
  // asyncio's _fatal_error(): report, then force_close(). A null message: its creation failed, the indicator is set.
  [[nodiscard]] bool fatal_error(Gil gil, PyObject* exception, PyObject* message) noexcept;
  [[nodiscard]] bool call_connection_lost(Gil gil, PyObject* exception) noexcept;
  [[nodiscard]] virtual bool set_protocol(Gil gil, PyObject* new_protocol) noexcept;
  [[nodiscard]] bool set_write_limits(Gil gil, PyObject* high, PyObject* low) noexcept;
  PyObject* repr(Gil gil) noexcept;
  // Send what waits for the end of the callback, if this kind of transport holds anything back.
  virtual void send_held_back() noexcept {}
  // Bytes the kernel has not taken; what is held back is sent first.
  [[nodiscard]] virtual size_t write_buffer_size() noexcept = 0;
  // The last reference is gone (asyncio's __del__).
  void finalize(Gil gil) noexcept;

  // --- what the loop asks -------------------------------------------------------------------------------------
  [[nodiscard]] PyObject* object() const noexcept final { return reinterpret_cast<PyObject*>(&self_); }
  [[nodiscard]] bool keeps_descriptor() const noexcept final { return !is_closing() && !is_lent; }
  [[nodiscard]] bool is_pinned() const noexcept final { return channel_->is_busy(); }
  [[nodiscard]] bool is_polled(bool sends) const noexcept final {
    return is_attached() && (sends ? channel_->is_send_waiting() : channel_->is_reading());
  }
  void detach_from_loop(Gil gil) noexcept final;

  [[nodiscard]] bool is_closing() const noexcept { return life_ != Life::open; }
  [[nodiscard]] bool is_paused() const noexcept { return paused_; }
  [[nodiscard]] bool is_reading() const noexcept { return !is_closing() && !paused_; }
  // asyncio's _conn_lost: 1 for the end, and 1 for each write after it.
  [[nodiscard]] uint32_t conn_lost() const noexcept { return (is_lost() ? 1 : 0) + lost_writes_; }
  [[nodiscard]] const net::WriteMarks& write_marks() const noexcept { return flow_.marks(); }

  template <class F>
  void each_ref(F& f) noexcept {
    f(self_.extra, self_.dict, loop, sock, protocol, read_context_, write_context_);
  }

  Ref loop;
  Ref sock;      // null when closed
  Ref protocol;  // null when closed
  const int fd;
  bool is_lent = false;  // True exactly while sendfile has the descriptor, which the loop's own methods may use then

  virtual ~SocketTransport() = default;

 protected:
  // The constructor of the kind sets channel_.
  SocketTransport(TransportObject& self, LoopCore& core, int fd) noexcept;

  // connection_made(), then reading, then the waiter (None: nobody waits).
  [[nodiscard]] bool schedule_start(Gil gil, PyObject* waiter) noexcept;
  // asyncio's count and warning of what is written after the end.
  [[nodiscard]] bool note_lost_write(Gil gil) noexcept;
  [[nodiscard]] bool log_debug(Gil gil, const char* format) noexcept;
  // The indicator is set: report it as asyncio does and close.
  void fail(Gil gil, const char* message) noexcept;
  void on_channel_released() noexcept;
  void on_backend_drained(Gil gil) noexcept override;
  // The pin: the channel refers to us while it may call us.
  void on_channel_busy() noexcept { Py_INCREF(object()); }
  void on_channel_idle() noexcept { Py_DECREF(object()); }
  [[nodiscard]] PyObject* self_object() const noexcept { return object(); }
  [[nodiscard]] FlowControl::Parties parties() const noexcept { return {loop.get(), self_object(), protocol.get()}; }
  // What is written is lost: connection_lost() was scheduled, or has run.
  [[nodiscard]] bool is_lost() const noexcept { return life_ >= Life::losing; }
  // The channel may be used. Not any more when connection_lost() has run, when the last reference is gone (a destructor
  // that runs later may still call us), or when the loop is closed, which leave an open transport open.
  [[nodiscard]] bool is_attached() const noexcept { return core_ != nullptr; }
  // True exactly while a transport that is not attached has an op that the kernel has not let go of.
  [[nodiscard]] bool is_lingering() const noexcept { return channel_->state() == net::Channel::State::releasing; }

  // --- what the kinds do besides -----------------------------------------------------------------------------
  // The context of every callback; null: each has a copy of the current one.
  [[nodiscard]] virtual PyObject* callback_context() const noexcept { return nullptr; }
  // protocol.connection_lost() has run. False: the indicator is set.
  [[nodiscard]] virtual bool after_connection_lost(Gil) noexcept { return true; }
  virtual void after_socket_closed(Gil) noexcept {}
  // Let go of the memory that was lent to us, of what is sent or dropped.
  // Runs Python: whatever the lender does then; it may write, close or abort us, or close the loop.
  virtual void release_sent(Gil) noexcept {}

  void enter(Life next) noexcept;

  TransportObject& self_;
  ModuleState& state_;
  Life life_ = Life::open;
  LoopCore* core_;      // null exactly when not attached
  net::Channel* channel_ = nullptr;
  FlowControl flow_;
  Ref read_context_;    // the protocol's reading callbacks run in it
  Ref write_context_;   // resume_writing() runs in it
  bool queue_lost_ = false;  // True exactly when the loop was closed with something queued; what comes behind is lost too

 private:
  [[nodiscard]] bool start_channel(Gil gil) noexcept;
  [[nodiscard]] bool lose(Gil gil, PyObject* exception) noexcept;
  [[nodiscard]] bool schedule_connection_lost(Gil gil, PyObject* exception) noexcept;
  [[nodiscard]] bool report_fatal(Gil gil, PyObject* exception, PyObject* message) noexcept;
  void detach(Gil gil) noexcept;
  void let_go(Gil gil) noexcept;
  void close_socket(Gil gil, const Ref& owner) noexcept;

  uint32_t lost_writes_ = 0;
  bool paused_ = false;        // True exactly between pause_reading() and resume_reading(); asyncio's outlives close(), too
  bool is_abandoned_ = false;  // True exactly when the last reference is gone: nobody else will close the socket
};

// --- the Python type that the others derive from (type.cc) -----------------------------------

[[nodiscard]] inline SocketTransport& transport_of(PyObject* self) noexcept {
  return *reinterpret_cast<TransportObject*>(self)->native;
}
// A new, tracked object of `type` whose native part, a `Native` in `Object::storage`, was made of `args`; null: the
// indicator is set.
template <class Object, class Native, class... Args>
Ref make_transport_object(PyTypeObject* type, LoopCore& core, Args... args) noexcept {
  Object* const object = PyObject_GC_New(Object, type);
  if (object == nullptr) return {};
  TransportObject& front = object->front;
  front.extra = front.dict = front.weakrefs = nullptr;
  front.native = new (object->storage) Native(front, core, args...);
  Ref result = Ref::steal(reinterpret_cast<PyObject*>(object));
  PyObject_GC_Track(result.get());
  return result;
}
// tp_dealloc of every kind: a type that a specification makes does not inherit it.
void dealloc_transport(PyObject* self) noexcept;
[[nodiscard]] bool add_socket_transport_type(Gil gil, PyObject* module, ModuleState& state) noexcept;

}  // namespace cxxloop::python
