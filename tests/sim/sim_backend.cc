// SPDX-License-Identifier: MIT
#include "sim/sim_backend.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace cxxloop::sim {

using io::Op;
using io::OpKind;
using io::OpState;

Faults Faults::benign() {
  return {.delays = 300,
          .reordering = 300,
          .short_reads = 200,
          .short_writes = 200,
          .false_full = 200,
          .queued_sends = 300,
          .late_wakes = 100,
          .early_wakes = 100};
}

Faults Faults::harsh() {
  Faults faults = benign();
  faults.late_cancels = 300;
  faults.resets = 5;
  faults.refusals = 50;
  faults.losses = 50;
  faults.accept_errors = 50;
  faults.submit_errors = 2;
  return faults;
}

SimBackend::SimBackend(uint64_t seed, Faults faults) : random_(seed), faults_(faults) {}

SimBackend::~SimBackend() { CXL_CHECK(ops_count_ == 0); }

// The world

SimBackend::Socket* SimBackend::find(int fd) noexcept {
  const auto found = sockets_.find(fd);
  return found == sockets_.end() ? nullptr : found->second.get();
}

// The lowest free number, as a kernel gives: a number that is reused at once is the hardest case.
int SimBackend::add_socket() {
  int fd = first_fd;
  while (sockets_.contains(fd)) ++fd;
  sockets_.emplace(fd, std::make_unique<Socket>());
  return fd;
}

void SimBackend::link(int a, int b) {
  find(a)->peer = b;
  find(b)->peer = a;
}

SimBackend::Pair SimBackend::make_pair() {
  const int near = add_socket();
  const int far = add_socket();
  link(near, far);
  return {near, far};
}

SimBackend::Pair SimBackend::make_datagram_pair() {
  const Pair pair = make_pair();
  find(pair.near)->is_datagram = true;
  find(pair.far)->is_datagram = true;
  return pair;
}

io::Address SimBackend::address_of(int fd) noexcept {
  io::Address address;
  address.storage = {};
  address.storage.ss_family = AF_UNIX;
  std::memcpy(reinterpret_cast<std::byte*>(&address.storage) + sizeof(sa_family_t), &fd, sizeof(fd));
  address.size = sizeof(sa_family_t) + sizeof(fd);
  return address;
}

int SimBackend::make_listener() {
  const int fd = add_socket();
  find(fd)->listens = true;
  return fd;
}

int SimBackend::connect(int listener) {
  const Pair pair = make_pair();
  find(listener)->backlog.push_back(pair.far);
  return pair.near;
}

Result<size_t> SimBackend::write(int fd, std::string_view bytes) {
  Socket* const socket = find(fd);
  if (socket == nullptr) return Errno::bad_fd;
  if (socket->is_datagram) return send_datagram(fd, std::as_bytes(std::span(bytes)), nullptr);
  const iovec iov{const_cast<char*>(bytes.data()), bytes.size()};
  return send_bytes(*socket, {&iov, 1}, false);
}

Result<size_t> SimBackend::read(int fd, std::span<std::byte> into) {
  Socket* const socket = find(fd);
  if (socket == nullptr) return Errno::bad_fd;
  io::Address sender;
  return socket->is_datagram ? receive_datagram(*socket, into, &sender) : receive_bytes(*socket, into, false);
}

void SimBackend::close(int fd) noexcept {
  Socket* const socket = find(fd);
  if (socket == nullptr) return;
  CXL_CHECK(socket->reader == nullptr && socket->writer == nullptr);
  for (const int waiting : std::exchange(socket->backlog, {})) close(waiting);
  if (Socket* const peer = find(socket->peer); peer != nullptr) {
    peer->peer = -1;
    peer->read_ended = !peer->is_datagram;
    if (!socket->incoming.empty()) peer->broken = true;
  }
  sockets_.erase(fd);
}

void SimBackend::reset(int fd) {
  Socket* const socket = find(fd);
  CXL_CHECK(socket != nullptr);
  Socket* const peer = find(std::exchange(socket->peer, -1));
  for (Socket* const end : {socket, peer}) {
    if (end == nullptr) continue;
    end->peer = -1;
    end->broken = true;
    end->read_ended = true;
    end->incoming.clear();
  }
}

void SimBackend::schedule(int64_t delay_ns, std::function<void()> event) {
  events_.emplace(now_ns_ + delay_ns, std::move(event));
}

bool SimBackend::readable(const Socket& socket) const noexcept {
  if (socket.listens) return !socket.backlog.empty();
  if (socket.is_datagram) return socket.broken || !socket.datagrams.empty();
  return socket.broken || socket.read_ended || !socket.incoming.empty();
}

size_t SimBackend::room_towards_peer(const Socket& socket) noexcept {
  const Socket* const peer = find(socket.peer);
  if (peer == nullptr) return 0;
  return pipe_capacity_ - std::min(pipe_capacity_, peer->incoming.size() + datagram_bytes(*peer));
}

bool SimBackend::writable(const Socket& socket) noexcept {
  if (socket.listens) return false;
  return socket.broken || socket.peer < 0 || socket.write_ended || room_towards_peer(socket) > 0;
}

Result<size_t> SimBackend::send_bytes(Socket& socket, std::span<const iovec> iov, bool with_faults) {
  if (std::exchange(socket.broken, false)) return Errno::conn_reset;
  Socket* const peer = find(socket.peer);
  if (peer == nullptr || socket.write_ended) return Errno::pipe;
  size_t room = room_towards_peer(socket);
  if (room == 0) return Errno::again;
  if (with_faults && random_.chance(faults_.short_writes)) room = random_.between(1, room);
  size_t sent = 0;
  for (const iovec& part : iov) {
    const auto* const bytes = static_cast<const std::byte*>(part.iov_base);
    const size_t size = std::min(part.iov_len, room - sent);
    peer->incoming.insert(peer->incoming.end(), bytes, bytes + size);
    sent += size;
  }
  return sent;
}

Result<size_t> SimBackend::receive_bytes(Socket& socket, std::span<std::byte> into, bool with_faults) {
  if (socket.incoming.empty()) {
    if (std::exchange(socket.broken, false)) return Errno::conn_reset;  // behind what had arrived, as on Linux
    if (socket.read_ended) return size_t{0};
    return Errno::again;
  }
  size_t size = std::min(into.size(), socket.incoming.size());
  if (with_faults && random_.chance(faults_.short_reads)) size = random_.between(1, size);
  const auto end = socket.incoming.begin() + static_cast<std::ptrdiff_t>(size);
  std::copy(socket.incoming.begin(), end, into.begin());
  socket.incoming.erase(socket.incoming.begin(), end);
  return size;
}

// One byte for the datagram itself: an empty one takes room too.
size_t SimBackend::datagram_bytes(const Socket& socket) noexcept {
  size_t size = 0;
  for (const Datagram& datagram : socket.datagrams) size += 1 + datagram.bytes.size();
  return size;
}

Result<size_t> SimBackend::send_datagram(int fd, std::span<const std::byte> bytes, const io::Address* address) {
  Socket& socket = *find(fd);
  if (std::exchange(socket.broken, false)) return static_cast<Errno>(ECONNREFUSED);
  int target_fd = socket.peer;
  if (address != nullptr) {
    std::memcpy(&target_fd, reinterpret_cast<const std::byte*>(&address->storage) + sizeof(sa_family_t), sizeof(int));
  }
  Socket* const target = find(target_fd);
  if (target == nullptr || !target->is_datagram) return static_cast<Errno>(ECONNREFUSED);
  if (bytes.size() >= pipe_capacity_) return static_cast<Errno>(EMSGSIZE);
  const bool full = datagram_bytes(*target) >= pipe_capacity_;
  if (full && target_fd == socket.peer) return Errno::again;
  const bool arrives = !full && !random_.chance(faults_.losses);
  if (arrives) target->datagrams.push_back({fd, {bytes.begin(), bytes.end()}});
  if (datagram_watcher_) datagram_watcher_({fd, target_fd, bytes, arrives});
  return bytes.size();
}

Result<size_t> SimBackend::receive_datagram(Socket& socket, std::span<std::byte> into, io::Address* sender) {
  if (std::exchange(socket.broken, false)) return static_cast<Errno>(ECONNREFUSED);
  if (socket.datagrams.empty()) return Errno::again;
  const Datagram datagram = std::move(socket.datagrams.front());
  socket.datagrams.pop_front();
  const size_t size = std::min(into.size(), datagram.bytes.size());
  std::copy_n(datagram.bytes.begin(), size, into.begin());
  *sender = address_of(datagram.sender);
  return size;
}

// io::Backend

Errno SimBackend::submit(Op& op) noexcept {
  CXL_CHECK(!op.in_kernel());
  Socket* const socket = find(op.fd);
  if (socket == nullptr) return Errno::bad_fd;
  Op*& place = op.reads() ? socket->reader : socket->writer;
  if (place != nullptr) {
    if (place->still_owned()) return Errno::exists;
    drop_from_batch(*place);
    displaced_.push_back(std::exchange(place, nullptr));
  }
  if (random_.chance(faults_.submit_errors)) return Errno::no_memory;
  place = &op;
  op.state = OpState::armed;
  ++ops_count_;
  if (op.kind == OpKind::send) {
    auto& send = static_cast<io::SendOp&>(op);
    sends_.push_back({&send, {}, false, std::nullopt});
    if (random_.chance(500)) gather(sends_.back());
  }
  return Errno::ok;
}

bool SimBackend::cancel(Op& op) noexcept {
  if (op.state == OpState::idle) return true;
  drop_from_batch(op);
  on_taken_back(op);
  if (op.state == OpState::cancelling) return false;
  PendingSend* const send = find_send(op);
  const bool is_queued = send != nullptr && send->is_queued;
  if (is_queued || random_.chance(faults_.late_cancels)) {
    if (send != nullptr && !is_queued) gather(*send);
    op.state = OpState::cancelling;
    return false;
  }
  detach(op);
  return true;
}

void SimBackend::drop_from_batch(Op& op) noexcept {
  if (op.batch_index < 0) return;
  batch_[static_cast<size_t>(op.batch_index)] = nullptr;
  op.batch_index = -1;
}

void SimBackend::detach(Op& op) noexcept {
  PendingSend* const send = find_send(op);
  const bool is_queued = send != nullptr && send->is_queued;
  if (send != nullptr) sends_.erase(sends_.begin() + (send - sends_.data()));
  if (!is_queued && std::erase(displaced_, &op) == 0) {
    Socket& socket = *find(op.fd);
    (op.reads() ? socket.reader : socket.writer) = nullptr;
  }
  op.state = OpState::idle;
  --ops_count_;
  drop_from_batch(op);
  on_taken_back(op);
}

Result<size_t> SimBackend::send_now(int fd, std::span<const iovec> iov) noexcept {
  for (const PendingSend& send : sends_) CXL_CHECK(!send.is_queued || send.op->fd != fd || !send.op->still_owned());
  Socket* const socket = find(fd);
  if (socket == nullptr) return Errno::bad_fd;
  if (random_.chance(faults_.false_full)) return Errno::again;
  if (random_.chance(faults_.resets)) reset(fd);
  return send_bytes(*socket, iov, true);
}

Result<size_t> SimBackend::send_now_to(int fd, std::span<const std::byte> datagram,
                                        const io::Address* address) noexcept {
  Socket* const socket = find(fd);
  if (socket == nullptr) return Errno::bad_fd;
  if (random_.chance(faults_.false_full)) return Errno::again;
  if (random_.chance(faults_.refusals)) socket->broken = true;
  return send_datagram(fd, datagram, address);
}

io::SendResult SimBackend::try_send(io::SendOp& op, std::span<const iovec> iov) noexcept {
  CXL_CHECK(!op.in_kernel());
  if (!random_.chance(faults_.queued_sends)) return io::SendResult::of(send_now(op.fd, iov));
  sends_.push_back({&op, {iov.begin(), iov.end()}, true, std::nullopt});
  op.state = OpState::armed;
  ++ops_count_;
  has_queued_sends_ = true;
  return io::SendResult::queued();
}

void SimBackend::hand_over() noexcept {
  has_queued_sends_ = false;
  for (PendingSend& send : sends_) {
    if (send.is_queued) hand_over_one(send);
  }
}

void SimBackend::hand_over_one(PendingSend& send) noexcept {
  if (send.result.has_value()) return;
  Socket* const socket = find(send.op->fd);
  Result<size_t> sent = Errno::bad_fd;
  if (send.op->still_owned() && socket != nullptr) {
    if (random_.chance(faults_.resets)) reset(send.op->fd);
    sent = random_.chance(faults_.false_full) ? Errno::again : send_bytes(*socket, send.iov, true);
  }
  send.result = sent.ok() ? static_cast<int32_t>(sent.value()) : -static_cast<int32_t>(sent.error());
}

io::SendResult SimBackend::settle(io::SendOp& op) noexcept {
  PendingSend* const send = find_send(op);
  CXL_CHECK(send != nullptr && send->is_queued && op.state == OpState::armed);
  hand_over_one(*send);
  const int32_t result = *send->result;
  detach(op);
  return io::SendResult::of(result >= 0 ? Result<size_t>(static_cast<size_t>(result)) : errno_of(result));
}

SimBackend::PendingSend* SimBackend::find_send(const Op& op) noexcept {
  const auto found = std::find_if(sends_.begin(), sends_.end(), [&op](const PendingSend& send) { return send.op == &op; });
  return found == sends_.end() ? nullptr : &*found;
}

// A backend may look at a submitted op's bytes at any time from submit() on.
void SimBackend::gather(PendingSend& send) noexcept {
  if (!send.iov.empty()) return;
  send.iov.resize(io::SendOp::iov_max);
  send.iov.resize(send.op->gather(*send.op, send.iov));
}

Result<size_t> SimBackend::send_pending(io::SendOp& op) noexcept {
  PendingSend* const send = find_send(op);
  gather(*send);
  return send_bytes(*find(op.fd), send->iov, true);
}

void SimBackend::drain() noexcept {
  hand_over();
  for (const PendingSend& send : std::vector(sends_)) detach(*send.op);
  while (!displaced_.empty()) detach(*displaced_.back());
  std::vector<io::Op*> ops;
  for (const auto& [fd, socket] : sockets_) {
    for (Op* const op : {socket->reader, socket->writer}) {
      if (op != nullptr) ops.push_back(op);
    }
  }
  for (Op* const op : ops) {
    Socket& socket = *find(op->fd);
    const bool accepts = op->kind == OpKind::accept && !socket.backlog.empty() && random_.chance(500);
    if (accepts) {  // the kernel was faster
      const int accepted = socket.backlog.front();
      socket.backlog.pop_front();
      close(accepted);
    }
    detach(*op);
  }
  batch_.clear();
  next_in_batch_ = 0;
  CXL_CHECK(ops_count_ == 0);
}

Errno SimBackend::shutdown_write(int fd) noexcept {
  Socket* const socket = find(fd);
  if (socket == nullptr) return Errno::bad_fd;
  socket->write_ended = true;
  if (Socket* const peer = find(socket->peer); peer != nullptr) peer->read_ended = true;
  return Errno::ok;
}

Errno SimBackend::wait(Deadline deadline) noexcept {
  CXL_CHECK(next_in_batch_ == batch_.size());
  ++counters_.waits;
  if (deadline != Deadline::immediate()) ++counters_.blocking_waits;
  batch_.clear();
  next_in_batch_ = 0;
  stalled_ = false;
  now_ns_ += 1 + static_cast<int64_t>(random_.below(1000));
  hand_over();
  run_due_events();
  bool with_delays = true;
  for (;;) {
    collect(with_delays);
    if (woken_.exchange(false) || collected() > 0 || deadline.at_ns <= now_ns_) break;
    if (random_.chance(faults_.early_wakes)) break;
    // Asleep: what was delayed comes now, or the next thing in time.
    if (std::exchange(with_delays, false)) continue;
    const int64_t event_at = events_.empty() ? Deadline::never().at_ns : events_.begin()->first;
    if (deadline == Deadline::never() && events_.empty()) {
      stalled_ = true;
      break;
    }
    now_ns_ = std::max(now_ns_, std::min(deadline.at_ns, event_at));
    if (random_.chance(faults_.late_wakes)) now_ns_ += static_cast<int64_t>(random_.below(5'000'000));
    run_due_events();
  }
  if (random_.chance(faults_.reordering)) shuffle_batch();
  return Errno::ok;
}

void SimBackend::run_due_events() {
  while (!events_.empty() && events_.begin()->first <= now_ns_) {
    const auto event = std::move(events_.begin()->second);
    events_.erase(events_.begin());
    event();
  }
}

void SimBackend::collect(bool with_delays) {
  for (const PendingSend& send : sends_) {
    if (send.is_queued) collect_op(send.op, true, with_delays);
  }
  for (const auto& [fd, socket] : sockets_) {
    collect_op(socket->reader, readable(*socket), with_delays);
    collect_op(socket->writer, writable(*socket), with_delays);
  }
}

void SimBackend::collect_op(Op* op, bool ready, bool with_delays) {
  if (op == nullptr || op->batch_index >= 0 || (!ready && op->state != OpState::cancelling)) return;
  if (with_delays && random_.chance(faults_.delays)) return;
  op->batch_index = static_cast<int32_t>(batch_.size());
  batch_.push_back(op);
}

void SimBackend::shuffle_batch() {
  for (size_t i = batch_.size(); i > 1; --i) std::swap(batch_[i - 1], batch_[random_.below(i)]);
  for (size_t i = 0; i < batch_.size(); ++i) batch_[i]->batch_index = static_cast<int32_t>(i);
}

const Op* SimBackend::next_collected() noexcept {
  if (!displaced_.empty()) return displaced_.front();
  while (next_in_batch_ < batch_.size() && batch_[next_in_batch_] == nullptr) ++next_in_batch_;
  return next_in_batch_ < batch_.size() ? batch_[next_in_batch_] : nullptr;
}

bool SimBackend::dispatch_one() noexcept {
  if (!displaced_.empty()) {
    complete_failed(*displaced_.front(), Errno::bad_fd);
    return true;
  }
  Op* op = nullptr;
  while (op == nullptr && next_in_batch_ < batch_.size()) op = batch_[next_in_batch_++];
  if (op == nullptr) return false;
  op->batch_index = -1;
  if (const PendingSend* const send = find_send(*op); send != nullptr && send->is_queued) {
    complete_last(*op, *send->result);
    return true;
  }
  if (op->state == OpState::cancelling) {
    complete_cancelled(*op);
    return true;
  }
  if (!op->still_owned()) {
    complete_failed(*op, Errno::bad_fd);
    return true;
  }
  complete_ready(*op);
  return true;
}

// A kernel may finish an op before the cancel reaches it: then the real result counts. A cancelled recv never takes
// bytes; they belong to the next recv op of the descriptor (io/backend.h).
void SimBackend::complete_cancelled(Op& op) noexcept {
  Socket& socket = *find(op.fd);
  Result<size_t> result = Errno::canceled;
  if (op.still_owned() && random_.chance(500)) {
    if (op.kind == OpKind::send && writable(socket)) {
      result = send_pending(static_cast<io::SendOp&>(op));
    } else if (op.kind == OpKind::accept && readable(socket)) {
      Result<int> accepted = take_connection(socket, static_cast<io::AcceptOp&>(op));
      result = accepted.ok() ? Result<size_t>(static_cast<size_t>(accepted.value())) : accepted.error();
    } else if ((op.kind == OpKind::poll_read && readable(socket)) || (op.kind == OpKind::poll_write && writable(socket))) {
      result = size_t{0};
    }
  }
  complete_last(op, result.ok() ? static_cast<int32_t>(result.value()) : -static_cast<int32_t>(result.error()));
}

Result<size_t> SimBackend::receive(io::RecvOp& op, std::span<std::byte> into) noexcept {
  if (random_.chance(faults_.resets)) reset(op.fd);
  return receive_bytes(*find(op.fd), into, true);
}

Result<size_t> SimBackend::receive_from(io::RecvFromOp& op, std::span<std::byte> into) noexcept {
  Socket& socket = *find(op.fd);
  if (random_.chance(faults_.refusals)) socket.broken = true;
  return receive_datagram(socket, into, &op.peer);
}

Result<int> SimBackend::accept_from(io::AcceptOp& op) noexcept {
  Socket& listener = *find(op.fd);
  if (listener.backlog.empty()) return Errno::again;
  return take_connection(listener, op);
}

Result<int> SimBackend::take_connection(Socket& listener, io::AcceptOp& op) {
  if (random_.chance(faults_.accept_errors)) return static_cast<Errno>(random_.chance(500) ? EMFILE : ENOBUFS);
  const int fd = listener.backlog.front();
  listener.backlog.pop_front();
  op.peer.storage.ss_family = AF_UNIX;
  op.peer.size = sizeof(sa_family_t);
  return fd;
}

Result<size_t> SimBackend::send_bytes_of(io::SendOp& op) noexcept {
  if (random_.chance(faults_.resets)) reset(op.fd);
  return send_pending(op);
}

}  // namespace cxxloop::sim
