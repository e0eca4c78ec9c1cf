// SPDX-License-Identifier: MIT
//
// Read with libev's ev.c and ev_epoll.c (4.33) at hand. What its behaviour means for us:
// - ev_io_stop() makes no system call; an event nobody wants is unregistered when it comes.
// - ev_io_set() before a start registers with the kernel again. Needed whenever a descriptor gets its first op: the
//   number may have been closed and reused in between, and the kernel has then forgotten it.
// - A library built with assertions (Debian's is) aborts the process when epoll_ctl() meets a closed descriptor, so
//   those are sorted out before every such call (verify_changed(), on_reregister()).
// - Errors found while registering are queued as events that do not shorten the sleep (on_before_sleep()).
#include "io/ev_backend.h"

#include <ev.h>

#include <array>
#include <cstdlib>
#include <new>
#include <utility>

#include "base/fd_map.h"
#include "base/fork_generation.h"
#include "io/ev_sleep_timer.h"
#include "io/op_batch.h"
#include "io/readiness.h"
#include "io/socket.h"
#include "io/wakeup.h"

namespace cxxloop::io {
namespace {

#ifdef __linux__
constexpr unsigned poller_flag = EVBACKEND_EPOLL;
constexpr const char* poller_name = "epoll";
#else
constexpr unsigned poller_flag = EVBACKEND_KQUEUE;
constexpr const char* poller_name = "kqueue";
#endif

// What libev's callback for failed system calls left for the wait() that runs on this thread.
thread_local Errno wait_error = Errno::ok;
void on_system_error(const char*) noexcept { wait_error = last_errno(); }

// All there is about one descriptor number. It never moves, and is freed only while libev does not point at it.
struct FdEntry {
  ev_io watcher;
  Op* reader;
  Op* writer;
  FdEntry* next_changed;  // in the list of those to verify before the next wait
  bool is_changed;        // True exactly when it is in that list.
  bool owner_forgets;        // True: fd was checked and its owner will call forget() before closing it.
  Errno failure;          // why libev has given the descriptor up; ok: it has not
  FileIdentity file;      // what was registered last

  [[nodiscard]] Op*& place_of(const Op& op) noexcept { return op.reads() ? reader : writer; }
  [[nodiscard]] int wanted_events() const noexcept {
    return (reader != nullptr ? EV_READ : 0) | (writer != nullptr ? EV_WRITE : 0);
  }
};

class EvBackend final : public ReadinessBackend<EvBackend> {
 public:
  EvBackend() noexcept = default;
  ~EvBackend() override;
  [[nodiscard]] Errno open() noexcept;

  [[nodiscard]] const char* name() const noexcept override { return "libev"; }
  [[nodiscard]] Errno submit(Op& op) noexcept override;
  [[nodiscard]] bool cancel(Op& op) noexcept override;
  [[nodiscard]] Result<size_t> send_now(int fd, std::span<const iovec> iov) noexcept override {
    return send_vector(fd, iov);
  }
  [[nodiscard]] SendResult try_send(SendOp& op, std::span<const iovec> iov) noexcept override {
    return SendResult::of(send_vector(op.fd, iov));
  }
  [[nodiscard]] Result<size_t> send_now_to(int fd, std::span<const std::byte> datagram,
                                            const Address* address) noexcept override {
    return send_to(fd, datagram, address);
  }
  [[nodiscard]] Errno shutdown_write(int fd) noexcept override { return io::shutdown_write(fd); }
  void forget(int fd) noexcept override;
  void drain() noexcept override;
  void release_memory() noexcept override;
  [[nodiscard]] Errno wait(Deadline deadline) noexcept override;
  [[nodiscard]] size_t collected() const noexcept override { return batch_.size(); }
  [[nodiscard]] const Op* next_collected() noexcept override { return batch_.front(); }
  bool dispatch_one() noexcept override;
  void wake() noexcept override { wakeup_.notify(); }
  [[nodiscard]] size_t ops_count() const noexcept override { return ops_count_; }
  [[nodiscard]] BackendCounters counters() const noexcept override;

 private:
  static EvBackend& of(struct ev_loop* loop) noexcept { return *static_cast<EvBackend*>(ev_userdata(loop)); }
  static void on_fd_event(struct ev_loop* loop, ev_io* watcher, int events) noexcept;
  static void on_wakeup(struct ev_loop* loop, ev_io*, int) noexcept;
  static void on_reregister(struct ev_loop* loop, ev_fork*, int) noexcept;
  static void on_before_sleep(struct ev_loop* loop) noexcept;
  static void on_after_sleep(struct ev_loop* loop) noexcept;

  [[nodiscard]] Errno open_wakers() noexcept;
  [[nodiscard]] Errno rebuild_after_fork() noexcept;
  [[nodiscard]] bool has_memory_for(int fd) noexcept;
  void sync_interest(int fd, FdEntry& entry) noexcept;
  void mark_changed(FdEntry& entry) noexcept;
  void verify_changed() noexcept;
  void fail_if_closed(FdEntry& entry) noexcept;
  void collect(FdEntry& entry, int events) noexcept;
  void collect_the_rest() noexcept;
  void detach(Op& op) noexcept;
  [[nodiscard]] bool displace_former_owners(int fd, FdEntry& entry) noexcept;
  [[nodiscard]] bool prepare_sleep(Deadline deadline) noexcept;

  friend ReadinessBackend<EvBackend>;
  [[nodiscard]] Result<size_t> receive(RecvOp& op, std::span<std::byte> into) noexcept {
    return io::receive(op.fd, into);
  }
  [[nodiscard]] Result<size_t> receive_from(RecvFromOp& op, std::span<std::byte> into) noexcept {
    return io::receive_from(op.fd, into, &op.peer);
  }
  [[nodiscard]] Result<int> accept_from(AcceptOp& op) noexcept { return accept_connection(op.fd, &op.peer); }
  [[nodiscard]] Result<size_t> send_bytes_of(SendOp& op) noexcept;

  static constexpr size_t shared_buffer_size = 256 * 1024;
  static constexpr size_t events_per_poll_min = 64;

  struct ev_loop* loop_ = nullptr;
  uint64_t generation_ = fork_generation();
  FdMap<FdEntry> fds_;
  OpBatch batch_;
  OpBatch displaced_;  // whose places the next owners of their numbers have taken; the next wait() collects them
  size_t events_per_poll_ = events_per_poll_min;  // libev's epoll_eventmax
  size_t ops_count_ = 0;
  int libev_fds_ = 0;  // libev's table by descriptor has room for so many, at least
  FdEntry* first_changed_ = nullptr;
  Wakeup wakeup_;
  bool may_sleep_ = false;  // True exactly when the ev_run() under way may sleep.
  bool asleep_ = false;  // True exactly between the sleep hooks: whoever calls now is another thread.
  bool woken_ = false;  // True exactly when wake() ended the current wait.
  ev_io wakeup_watcher_{};
  ev_fork reregister_watcher_{};
  SleepTimer timer_;
  BackendCounters counters_;
};

EvBackend::~EvBackend() {
  CXL_ASSERT(ops_count_ == 0);
  // In a forked child this only closes the child's copies: ev_loop_destroy() makes no epoll_ctl(), which would edit the
  // set that the parent goes on using.
  if (loop_ != nullptr) ev_loop_destroy(loop_);
}

Errno EvBackend::open() noexcept {
  ev_set_syserr_cb(on_system_error);  // The default aborts the process.
  loop_ = ev_loop_new(poller_flag | EVFLAG_NOENV);
  if (loop_ == nullptr) {
    const Errno error = last_errno();
    return error != Errno::ok ? error : Errno::no_memory;
  }
  ev_set_userdata(loop_, this);
  ev_set_loop_release_cb(loop_, on_before_sleep, on_after_sleep);
  ev_fork_init(&reregister_watcher_, on_reregister);
  ev_fork_start(loop_, &reregister_watcher_);
  return open_wakers();
}

Errno EvBackend::open_wakers() noexcept {
  if (const Errno error = wakeup_.open(); error != Errno::ok) return error;
  ev_io_init(&wakeup_watcher_, on_wakeup, wakeup_.fd(), EV_READ);
  ev_io_start(loop_, &wakeup_watcher_);
  return timer_.open(loop_);
}

// A child that goes on with its parent's loop gets a poller of its own with the same descriptors in it.
Errno EvBackend::rebuild_after_fork() noexcept {
  generation_ = fork_generation();
  ev_loop_fork(loop_);
  ev_io_stop(loop_, &wakeup_watcher_);
  timer_.close(loop_);
  return open_wakers();
}

BackendCounters EvBackend::counters() const noexcept {
  BackendCounters counters = counters_;
  counters.wake_writes = wakeup_.writes();
  counters.timer_arms = timer_.arms();
  return counters;
}

Errno EvBackend::submit(Op& op) noexcept {
  CXL_ASSERT(!op.in_kernel());
  if (op.fd < 0) return Errno::bad_fd;
  FdEntry* entry = fds_.find(op.fd);
  if (entry == nullptr) {  // before the table grows by a number that is no descriptor: there are two thousand million
    if (!is_open(op.fd)) return Errno::bad_fd;
    entry = fds_.find_or_make(op.fd);
  }
  if (entry == nullptr || !batch_.reserve(ops_count_ + 1)) return Errno::no_memory;
  Op*& place = entry->place_of(op);
  if (place != nullptr && place->still_owned()) return Errno::exists;
  if (place != nullptr && !displace_former_owners(op.fd, *entry)) return Errno::no_memory;
  if (entry->wanted_events() != 0 && !is_open(op.fd)) return Errno::bad_fd;
  const bool owner_forgets = op.kind != OpKind::poll_read && op.kind != OpKind::poll_write;
  if (entry->wanted_events() == 0 && !(owner_forgets && entry->owner_forgets)) {
    if (const Errno error = check_pollable(op.fd, &entry->file); error != Errno::ok) return error;
    entry->owner_forgets = owner_forgets;
  }
  if (op.fd >= libev_fds_ && !has_memory_for(op.fd)) return Errno::no_memory;
  place = &op;
  op.state = OpState::armed;
  ++ops_count_;
  entry->failure = Errno::ok;
  sync_interest(op.fd, *entry);
  return Errno::ok;
}

// libev ends the process when its table by descriptor cannot grow, which the coming ev_io_start() makes twice as large as it
// has to be, and rounds up to pages. So ask for as much before.
bool EvBackend::has_memory_for(int fd) noexcept {
  constexpr size_t row_bytes = 16;
  constexpr size_t rounding_bytes = 8192;
  void* volatile memory = std::malloc(2 * row_bytes * (static_cast<size_t>(fd) + 1) + rounding_bytes);
  if (memory == nullptr) return false;
  std::free(memory);
  libev_fds_ = fd + 1;
  return true;
}

bool EvBackend::cancel(Op& op) noexcept {
  if (op.in_kernel()) detach(op);
  return true;
}

void EvBackend::forget(int fd) noexcept {
  FdEntry* const entry = fds_.find(fd);
  if (entry != nullptr) entry->owner_forgets = false;
}

void EvBackend::drain() noexcept {
  while (Op* const op = batch_.pop_front()) detach(*op);
  fds_.for_each([this](const FdEntry& entry) noexcept {
    for (Op* const op : {entry.reader, entry.writer}) {
      if (op != nullptr) detach(*op);
    }
  });
  while (Op* const op = displaced_.pop_front()) detach(*op);
  CXL_ASSERT(ops_count_ == 0);
}

void EvBackend::release_memory() noexcept {
  if (!batch_.empty() || !displaced_.empty()) return;
  fds_.free_unused([](const FdEntry& entry) noexcept {
    return !ev_is_active(&entry.watcher) && entry.wanted_events() == 0 && !entry.is_changed;
  });
  batch_.shrink(ops_count_);
}

// Tells libev what the ops of `fd` wait for. Makes no system call: libev does, once, in the next ev_run().
void EvBackend::sync_interest(int fd, FdEntry& entry) noexcept {
  ev_io* const watcher = &entry.watcher;
  const int wanted = entry.wanted_events();
  const int started = ev_is_active(watcher) ? watcher->events & (EV_READ | EV_WRITE) : 0;
  if (wanted == started) return;
  if (started != 0) ev_io_stop(loop_, watcher);
  if (wanted == 0) return;
  if (started != 0) {
    ev_io_modify(watcher, wanted);
  } else {
    ev_io_init(watcher, on_fd_event, fd, wanted);
    watcher->data = &entry;
  }
  ev_io_start(loop_, watcher);
  mark_changed(entry);
}

void EvBackend::detach(Op& op) noexcept {
  FdEntry& entry = *fds_.find(op.fd);
  Op*& place = entry.place_of(op);
  const bool given_up = place != &op;
  if (given_up) {
    displaced_.remove(op);
  } else {
    place = nullptr;
  }
  op.state = OpState::idle;
  --ops_count_;
  batch_.remove(op);
  on_taken_back(op);
  if (given_up) return;
  // A descriptor that was given up is not registered again for the op that is left: that one will complete too.
  if (entry.failure == Errno::ok) sync_interest(op.fd, entry);
}

// The ops of a former owner of the number make room for those of the next one. They complete a last time after the next
// wait(), and the descriptor is registered anew: the kernel has forgotten the number. False: out of memory.
bool EvBackend::displace_former_owners(int fd, FdEntry& entry) noexcept {
  if (!displaced_.reserve(displaced_.size() + 2)) return false;
  for (Op** const place : {&entry.reader, &entry.writer}) {
    if (*place == nullptr || (*place)->still_owned()) continue;
    batch_.remove(**place);
    displaced_.push_front(*std::exchange(*place, nullptr));
  }
  sync_interest(fd, entry);
  return true;
}

// One fcntl() (0.1 us) for each registration with the kernel: closing a descriptor that is still watched is a mistake
// user code makes, and it must not abort the process.
void EvBackend::mark_changed(FdEntry& entry) noexcept {
  if (asleep_) wakeup_.notify();  // Another thread's change: libev tells the kernel of it in the next ev_run() only.
  if (std::exchange(entry.is_changed, true)) return;
  entry.next_changed = std::exchange(first_changed_, &entry);
}

void EvBackend::verify_changed() noexcept {
  while (first_changed_ != nullptr) {
    FdEntry& entry = *std::exchange(first_changed_, first_changed_->next_changed);
    entry.is_changed = false;
    fail_if_closed(entry);
  }
}

void EvBackend::fail_if_closed(FdEntry& entry) noexcept {
  if (!ev_is_active(&entry.watcher) || is_open(entry.watcher.fd)) return;
  ev_io_stop(loop_, &entry.watcher);
  entry.failure = Errno::bad_fd;
  collect(entry, EV_READ | EV_WRITE);
}

// The writer first: the batch is filled from the back, and asyncio calls the reader first.
void EvBackend::collect(FdEntry& entry, int events) noexcept {
  Op* const writer = (events & EV_WRITE) != 0 ? entry.writer : nullptr;
  Op* const reader = (events & EV_READ) != 0 ? entry.reader : nullptr;
  if (writer != nullptr && writer->batch_index < 0) batch_.push_front(*writer);
  if (reader != nullptr && reader->batch_index < 0) batch_.push_front(*reader);
}

void EvBackend::on_fd_event(struct ev_loop* loop, ev_io* watcher, int events) noexcept {
  auto& entry = *static_cast<FdEntry*>(watcher->data);
  if ((events & EV_ERROR) != 0) {
    // epoll_ctl() failed and libev has stopped the watcher: closed by another thread a moment ago, or a limit reached.
    entry.failure = is_open(watcher->fd) ? Errno::no_memory : Errno::bad_fd;
  }
  of(loop).collect(entry, events);
}

void EvBackend::on_wakeup(struct ev_loop* loop, ev_io*, int) noexcept {
  of(loop).wakeup_.drain();
  of(loop).woken_ = true;
}

// libev is about to register every descriptor again, after a fork or an event for one that was closed long ago.
void EvBackend::on_reregister(struct ev_loop* loop, ev_fork*, int) noexcept {
  EvBackend& self = of(loop);
  self.fds_.for_each([&self](FdEntry& entry) noexcept { self.fail_if_closed(entry); });
}

// The last moment before the kernel may put us to sleep: what is already collected, or failed to register, must not
// wait for the next event.
void EvBackend::on_before_sleep(struct ev_loop* loop) noexcept {
  EvBackend& self = of(loop);
  if (!self.batch_.empty() || ev_pending_count(loop) != 0) self.wakeup_.notify();
  if (!self.may_sleep_ || self.sleep_hooks_ == nullptr) return;
  self.asleep_ = true;
  self.sleep_hooks_->before_sleep();
}

void EvBackend::on_after_sleep(struct ev_loop* loop) noexcept {
  EvBackend& self = of(loop);
  if (!self.may_sleep_ || self.sleep_hooks_ == nullptr) return;
  self.sleep_hooks_->after_sleep();
  self.asleep_ = false;
}

// True: sleeping is allowed, and the timer will end it in time.
bool EvBackend::prepare_sleep(Deadline deadline) noexcept {
  if (deadline == Deadline::immediate() || !batch_.empty()) return false;
  if (deadline == Deadline::never()) {
    timer_.clear();
    return true;
  }
  if (deadline.at_ns <= monotonic_ns()) return false;
  timer_.set(loop_, deadline.at_ns);
  return true;
}

Errno EvBackend::wait(Deadline deadline) noexcept {
  CXL_ASSERT(batch_.empty());
  ++counters_.waits;
  if (generation_ != fork_generation()) [[unlikely]] {
    if (const Errno error = rebuild_after_fork(); error != Errno::ok) return error;
    wakeup_.notify();  // A wake() made in the child before this went to the parent's descriptor.
  }
  verify_changed();
  while (Op* const op = displaced_.pop_front()) batch_.push_front(*op);
  wait_error = Errno::ok;
  woken_ = false;
  may_sleep_ = prepare_sleep(deadline);
  if (may_sleep_) ++counters_.blocking_waits;
  for (;;) {
    ev_run(loop_, may_sleep_ ? EVRUN_ONCE : EVRUN_NOWAIT);
    const bool slept = std::exchange(may_sleep_, false);
    collect_the_rest();
    // Only a timer that was set for an earlier deadline is a reason to go on: everything else is for the caller.
    const bool in_vain = slept && timer_.fired() && !woken_ && batch_.empty() && wait_error == Errno::ok;
    if (!in_vain) return wait_error;
    may_sleep_ = prepare_sleep(deadline);
    if (!may_sleep_) return wait_error;
  }
}

// libev asks the kernel for 64 events at first and for twice as many each time it got so many: asyncio asks for all.
void EvBackend::collect_the_rest() noexcept {
  while (batch_.size() >= events_per_poll_) {
    events_per_poll_ *= 2;
    ev_run(loop_, EVRUN_NOWAIT);
  }
}

bool EvBackend::dispatch_one() noexcept {
  Op* const op = batch_.pop_front();
  if (op == nullptr) return false;
  const Errno failure = op->still_owned() ? fds_.find(op->fd)->failure : Errno::bad_fd;
  if (failure != Errno::ok) [[unlikely]] {
    complete_failed(*op, failure);
  } else {
    complete_ready(*op);
  }
  return true;
}

Result<size_t> EvBackend::send_bytes_of(SendOp& op) noexcept {
  std::array<iovec, SendOp::iov_max> iov;
  const size_t count = op.gather(op, iov);
  return send_vector(op.fd, std::span(iov).first(count));
}

}  // namespace

std::unique_ptr<Backend> make_ev_backend(Errno* why) noexcept {
  std::unique_ptr<EvBackend> backend(new (std::nothrow) EvBackend);
  *why = backend == nullptr ? Errno::no_memory : backend->open();
  if (*why != Errno::ok) return nullptr;
  return backend;
}

BackendBase ev_base() noexcept { return {"libev", ev_version_major(), ev_version_minor(), poller_name}; }

}  // namespace cxxloop::io
