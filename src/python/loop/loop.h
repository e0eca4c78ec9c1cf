// SPDX-License-Identifier: MIT
//
// python/loop/loop.h: the native half of cxxloop.Loop: queues, backend, watches, and the tables of what it serves.
//
// The Python half (cxxloop/_loop.py) derives from this type and from asyncio's own loop class: what runs per loop or
// per connection is asyncio's code, what runs per callback or per packet is here.
// Thread: loop thread, except call_soon_threadsafe() and what net::Engine names.  Owns: everything queued.
#pragma once

#include <array>
#include <memory>
#include <span>

#include "base/clock.h"
#include "base/fd_map.h"
#include "base/page_buffer.h"
#include "base/ring_queue.h"
#include "io/backend.h"
#include "net/engine.h"
#include "net/watch_table.h"
#include "python/handle/handle.h"
#include "python/interp/heap_type.h"
#include "python/interp/module_state.h"
#include "python/interp/report.h"
#include "python/loop/address_cache.h"
#include "python/loop/flood_brake.h"
#include "python/loop/lingering.h"
#include "python/loop/loop_access.h"
#include "python/loop/replacements.h"
#include "python/loop/served.h"

namespace cxxloop::python {

struct LoopObject;
struct ListenerObject;

// Gives the GIL away while the kernel may put the thread to sleep.
class GilSleepHooks final : public io::SleepHooks {
 public:
  void before_sleep() noexcept override { thread_ = Gil::in_slot().save(); }
  void after_sleep() noexcept override { Gil::restore(thread_); }

 private:
  PyThreadState* thread_ = nullptr;
};

// What the loop serves on a descriptor. All null: nothing, or nothing yet.
struct FdRow {
  Served* transport;           // borrowed unless the transport is pinned
  ListenerObject* listener;    // owned
  PyObject* watched_files[2];  // by net::Direction; owned: the file object given to add_reader()

  [[nodiscard]] bool is_empty() const noexcept {
    return transport == nullptr && listener == nullptr && watched_files[0] == nullptr && watched_files[1] == nullptr;
  }
};

struct LoopCore : HandleHost {
  explicit LoopCore(LoopObject& self_object, ModuleState& module_state) noexcept;

  LoopObject& self;
  GilSleepHooks sleep_hooks;
  std::unique_ptr<io::Backend> backend;        // null until open() and after close()
  std::unique_ptr<io::Backend> closed_backend;  // of a loop that a callback has closed: the callback returns into it
  std::unique_ptr<net::WatchTable> watches;    // tokens are owned references to handles or sock ops
  FdMap<FdRow> fd_rows;                        // what is served, by descriptor
  FloodBrake flood_brake;
  RingQueue<PyObject*> ready;                  // owned references to handles
  size_t ready_before_io = 0;                  // entries of `ready` that run before the collected completions
  AddressCache addresses;                          // of datagrams
  IntrusiveList<Lingering> lingering;
  IntrusiveList<LoopGuest> guests;             // what other modules serve
  IntrusiveList<Lingering> closed_guests;      // of a loop that a callback has closed: the callback may return into them
  static constexpr size_t read_buffer_size = 256 * 1024;  // what asyncio reads at once
  PageBuffer read_buffer;                      // of sock_recv and pipes: bytes are copied out at their exact size
  Ref tls_scratch;                             // a bytearray that plaintext is copied out of likewise; null: not used yet
  Ref task_factory;                            // null: asyncio.Task
  Ref exit_exception;                          // a SystemExit/KeyboardInterrupt on its way out of run_forever()
  uint64_t fork_generation = 0;
  bool has_untracked_watches = false;  // True if a handle that add_reader() has made in this run may be untracked
  bool closed = false;
  bool is_closing = false;  // True from close_core() on, which a destructor of what it drops may call again
  bool stopping = false;
  Replacements replaced;

  template <class F>
  void each_ref(F& f) noexcept {
    f(task_factory, exit_exception, spare_context, tls_scratch);
  }
  // What is queued, watched and served (type.cc): close_core() and clear_queues() drop it.
  template <class F>
  void each_kept_ref(F& f) noexcept;
};

struct LoopObject {
  PyObject_HEAD
  alignas(LoopCore) unsigned char core_storage[sizeof(LoopCore)];

  LoopCore& core() noexcept { return *reinterpret_cast<LoopCore*>(core_storage); }
};
static_assert(alignof(LoopObject) <= 16, "Python's allocator aligns its objects to 16 bytes");

inline PyObject* as_object(LoopObject& loop) noexcept { return reinterpret_cast<PyObject*>(&loop); }
inline LoopCore& core_of(PyObject* loop) noexcept { return reinterpret_cast<LoopObject*>(loop)->core(); }

// --- checks: false means the indicator is set -----------------------------------------------------------------
[[nodiscard]] bool check_closed(Gil gil, LoopCore& core) noexcept;
// The loop belongs to the process that made it: its poller is shared with the parent after a fork.
[[nodiscard]] bool check_forked(Gil gil, LoopCore& core) noexcept;

// --- scheduling (schedule.cc) ----------------------------------------------------------------------------
// Queue a handle that has its turn now, whatever other threads have called; takes the reference.
// False: no memory, the indicator is set.
[[nodiscard]] bool push_ready(Gil gil, LoopCore& core, Ref handle) noexcept;
// Room for one handle more, before it is taken from where it waits. False: no memory, the indicator is set.
[[nodiscard]] inline bool make_room_for_ready(Gil, LoopCore& core) noexcept {
  return core.ready.make_room() || PyErr_NoMemory() != nullptr;
}
// Queue a native handle behind everything that was called before it, by this thread or another.
[[nodiscard]] bool enqueue(Gil gil, LoopCore& core, HandleObject* handle) noexcept;
// Move handles from the engine's tasks to `ready`, the oldest first, and run what tasks of others there are among them.
// False: no memory, the indicator is set, and nothing was lost.
[[nodiscard]] bool take_posted_batch(Gil gil, LoopCore& core) noexcept;
[[nodiscard]] bool take_all_posted(Gil gil, LoopCore& core) noexcept;
// The same for a timer that is due.
[[nodiscard]] bool take_due_timer(Gil gil, LoopCore& core, TimerTask& timer) noexcept;
// The handle of a task in the loop's engine, or null: somebody else's task.
HandleObject* posted_handle(Task& task) noexcept;
TimerHandleObject* timer_handle(TimerTask& timer) noexcept;
// loop.call_soon(callback, *args, context=context) without the handle; through the program's own, if it replaced that.
[[nodiscard]] bool schedule(Gil gil, LoopCore& core, PyObject* callback, PyObject* const* args, Py_ssize_t nargs,
                            PyObject* context) noexcept;
// loop.time() in nanoseconds, the replacement's if there is one. False: the indicator is set.
[[nodiscard]] bool loop_time_ns(Gil gil, LoopCore& core, int64_t* now_ns) noexcept;
void clear_queues(Gil gil, LoopCore& core) noexcept;
// The loop stops: what it has queued may be part of a cycle with it, which the collector has to find.
void track_queued(Gil gil, LoopCore& core) noexcept;
// The same for a handle that is queued in a loop that does not run.
inline void track_unless_running(LoopCore& core, HandleObject* handle) noexcept {
  if (!core.engine.cork().is_open()) [[unlikely]] track_handle(handle);
}
// loop.create_future(), the replacement's if there is one.
Ref create_future(Gil gil, LoopCore& core) noexcept;

// --- a step of a turn (step.cc) ----------------------------------------------------------------------------
// Run a handle, native or asyncio's own, unless it was cancelled. False: the indicator is set.
[[nodiscard]] bool run_any_handle(Gil gil, LoopCore& core, PyObject* handle) noexcept;
// run_any_handle() has failed. True exactly when the exception came before the first bytecode of the callback: a signal
// arrived while native code ran, and Python called its handler when the callback was entered.
[[nodiscard]] bool was_left_before_callback(Gil gil, const LoopCore& core, PyObject* handle) noexcept;
// Debug mode: run_any_handle(), with asyncio's warning if it was slow.
[[nodiscard]] bool run_timed(Gil gil, LoopCore& core, PyObject* handle) noexcept;
// Debug mode: call back the oldest collected completion, as run_timed() would run asyncio's handle for it.
[[nodiscard]] bool dispatch_timed(Gil gil, LoopCore& core) noexcept;

// --- a turn (turn.cc) ------------------------------------------------------------------------------------
PyObject* run_turns(Gil gil, LoopCore& core) noexcept;
// True exactly when a new turn would begin now and find nothing: nothing that a callback caused, nothing that has
// arrived, and no reason to leave run_forever().
inline bool turn_is_idle(const LoopCore& core) noexcept {
  return core.ready.empty() && core.engine.is_idle() && !core.stopping && !core.exit_exception;
}
// A callback of the backend failed with the indicator set: run_turns() will raise it.
void leave_run_forever(Gil gil, LoopCore& core) noexcept;
// False: leave_run_forever() was called; the indicator is set to its exception.
[[nodiscard]] bool take_exit(Gil gil, LoopCore& core) noexcept;
// For a callback of the backend: report(), or leave_run_forever() if that answers false.
void report_or_leave(Gil gil, LoopCore& core, const char* message, ReportFields fields = {}) noexcept;

// --- readiness (watches.cc) --------------------------------------------------------------------------------
void on_watch_ready(void* core, void* token, int fd, net::Direction direction) noexcept;
// The descriptor of a socket, a file or an int, as selectors takes it; -1 with the indicator set.
int parse_fileobj(Gil gil, LoopCore& core, PyObject* fileobj) noexcept;
// RuntimeError if an open transport serves the descriptor.
[[nodiscard]] bool ensure_fd_no_transport(Gil gil, LoopCore& core, PyObject* fileobj) noexcept;
// Hand the watch to `token` (a handle or a sock op; takes a reference) and cancel the former one.
[[nodiscard]] bool watch_fd(Gil gil, LoopCore& core, int fd, net::Direction direction, PyObject* token) noexcept;
// The row of a descriptor. Null: no memory, or EBADF from the kernel; the indicator is set.
[[nodiscard]] FdRow* make_fd_row(Gil gil, LoopCore& core, int fd) noexcept;
// True exactly when there was a watch.
bool unwatch_fd(Gil gil, LoopCore& core, int fd, net::Direction direction) noexcept;
void release_watches(Gil gil, LoopCore& core) noexcept;

// --- transports (served.cc), listeners (transport/listener.cc) ------------------------------------------------
// False: no memory, the indicator is set.
[[nodiscard]] bool register_transport(Gil gil, LoopCore& core, int fd, Served* transport) noexcept;
void unregister_transport(LoopCore& core, int fd, Served* transport) noexcept;
Served* transport_of_fd(LoopCore& core, int fd) noexcept;
// (protocol_factory, sock, sslcontext, server, backlog), as asyncio's handles for listening sockets have them; backlog is
// how many connections are accepted at once. Null: nobody listens, or the indicator is set.
Ref accept_args_of(Gil gil, LoopCore& core, int fd) noexcept;
// Gives back the memory of rows without content.
void free_empty_rows(LoopCore& core) noexcept;
// A list of the servers that listen, one for each of their sockets.
Ref servers_of(Gil gil, LoopCore& core) noexcept;
void release_net(Gil gil, LoopCore& core) noexcept;
[[nodiscard]] bool add_listener_type(Gil gil, PyObject* module, ModuleState& state) noexcept;

extern const Method schedule_methods[];
extern const Method watch_methods[];
extern const Method sock_methods[];
// The loop's buffer for one read. Empty: no memory, the indicator is set.
std::span<std::byte> read_buffer(Gil gil, LoopCore& core) noexcept;
void run_sock_op(Gil gil, LoopCore& core, PyObject* op) noexcept;
void abandon_sock_op(Gil gil, PyObject* op) noexcept;
[[nodiscard]] bool add_sock_op_type(Gil gil, PyObject* module, ModuleState& state) noexcept;
extern const Method net_methods[];

[[nodiscard]] bool add_loop_type(Gil gil, PyObject* module, ModuleState& state) noexcept;

}  // namespace cxxloop::python
