// SPDX-License-Identifier: MIT
#include "web/core/connection.h"

#include <algorithm>
#include <new>
#include <utility>

#include "base/assert.h"
#include "io/socket.h"

namespace cxxloop::web {
namespace {

constexpr Refusal too_many{503, "too many connections"};
constexpr Refusal wrong_scheme{400, "this port speaks HTTPS, and the request came without TLS"};

}  // namespace

Connection::Connection(ConnectionHost& host, UniqueFd fd, AddressCounts& addresses, AddressCounts::Entry* address) noexcept
    : host_(host),
      addresses_(addresses),
      address_(address),
      fd_(std::move(fd)),
      stream_(host.backend, fd_.get(), *this, OutputPool::let_go),
      session_(host, *this) {
  ++host_.counts.connections;
  host_.deadlines.add(*this, Deadlines::never_ns);
}

Connection::~Connection() {
  CXL_ASSERT(phase_ == Phase::ended && depth_ == 0);
  addresses_.drop(address_);
  --host_.counts.connections;
}

void Connection::begin(const io::Address& peer) noexcept {
  const Scope scope(*this);
  io::send_without_delay(fd_.get());
  is_known_ = true;
  application_part_ = host_.application.on_connect(fd_.get(), peer);
  if (phase_ == Phase::open && host_.tls != nullptr && !begin_tls()) return end(Ending::Why::closed);
  if (phase_ != Phase::ended) set_reading(true);
}

void Connection::begin_proxied() noexcept {
  const Scope scope(*this);
  introduction_.reset(new (std::nothrow) ProxyHeader);
  if (introduction_ == nullptr) return end(Ending::Why::closed);
  phase_ = Phase::introducing;
  progress_ns_ = host_.now_ns;
  set_reading(true);
}

// What is no header gets no answer: a proxy does not expect one.
void Connection::on_introduction(std::string_view bytes) noexcept {
  const ProxyHeader::Step step = introduction_->next(bytes);
  if (step.outcome == ProxyHeader::Outcome::more) return;
  if (step.outcome == ProxyHeader::Outcome::refused) {
    ++host_.counts.bad_requests;
    return end(Ending::Why::refused);
  }
  const std::unique_ptr<ProxyHeader> introduction = std::move(introduction_);
  phase_ = Phase::open;
  if (introduction->has_address() && !host_.admit(introduction->address(), &address_)) {
    if (host_.tls != nullptr) return end(Ending::Why::closed);  // not worth a handshake
    return session_.refuse_connection(too_many);
  }
  begin(introduction->address());
  bytes.remove_prefix(step.used);
  if (!bytes.empty() && phase_ != Phase::ended) take(std::as_bytes(std::span(bytes)));
}

void Connection::begin_refused() noexcept {
  const Scope scope(*this);
  is_refused_ = true;
  if (host_.tls == nullptr) {
    session_.refuse_connection(too_many);
  } else if (!begin_tls()) {
    return end(Ending::Why::closed);
  }
  if (phase_ != Phase::ended) set_reading(true);
}

// Everything that ends or moves the connection's deadline happens within a scope.
void Connection::leave() noexcept {
  if (phase_ != Phase::ended) return host_.deadlines.move(*this, next_deadline_ns());
  // Not before: an application that ends the connection inside on_request() still looks at its part of it.
  if (is_known_) {
    is_known_ = false;
    host_.application.on_connection_end(application_part_);
  }
  // on_released() and on_file_ready() come back here.
  if (stream_.state() != net::Stream::State::released || (file_ != nullptr && file_->is_waiting())) return;
  ConnectionHost& host = host_;
  const bool was_refused = is_refused_;
  delete this;
  host.on_gone(was_refused);
}

int64_t Connection::next_deadline_ns() const noexcept {
  int64_t deadline_ns = Deadlines::never_ns;
  if (phase_ == Phase::open) deadline_ns = session_.deadline_ns();
  if (phase_ == Phase::securing) {
    if (host_.limits.handshake_ns > 0) deadline_ns = tls_->begin_ns() + host_.limits.handshake_ns;
    if (host_.is_draining()) deadline_ns = std::min(deadline_ns, std::max(tls_->begin_ns(), host_.drain_ns) + drain_handshake_ns);
  }
  if (phase_ == Phase::introducing) {
    if (host_.limits.head_ns > 0) deadline_ns = progress_ns_ + host_.limits.head_ns;
    if (host_.is_draining()) {
      deadline_ns = std::min(deadline_ns, std::max(progress_ns_, host_.drain_ns) + Http1Session::drain_grace_ns);
    }
  }
  if (phase_ == Phase::lingering) deadline_ns = progress_ns_ + linger_ns;
  if (has_to_send() && host_.limits.write_ns > 0) {
    deadline_ns = std::min(deadline_ns, progress_ns_ + host_.limits.write_ns);
  }
  return deadline_ns;
}

void Connection::on_deadline(int64_t now_ns) noexcept {
  if (depth_ > 0) return;  // a callback of ours turns the loop: its end sets the deadline anew
  const Scope scope(*this);
  host_.now_ns = now_ns;
  if (phase_ == Phase::lingering) return end(Ending::Why::answered);
  if (phase_ == Phase::securing) {
    host_.counts.count_timeout(Limit::handshake_time);
    return end(Ending::Why::timed_out);
  }
  if (phase_ == Phase::introducing) {
    host_.counts.count_timeout(Limit::head_time);
    return end(Ending::Why::timed_out);
  }
  if (has_to_send() && host_.limits.write_ns > 0 && progress_ns_ + host_.limits.write_ns <= now_ns) {
    host_.counts.count_timeout(Limit::write_time);
    return reset(Ending::Why::timed_out);
  }
  if (phase_ == Phase::open) session_.on_deadline(now_ns);
}

// The deadline of an idle connection is another now.
void Connection::drain() noexcept {
  const Scope scope(*this);
  if (phase_ == Phase::open) session_.on_drain();
}

void Connection::on_ready() noexcept {
  const Scope scope(*this);
  host_.look_at_clock();
  if (is_cut_off_) return reset(Ending::Why::aborted);
  if (is_broken_) return end(Ending::Why::client_gone);
  if (tls_ != nullptr) {
    seal_and_tell();
    tell_room();  // what could not be encrypted before may be sent now, without another event
  }
  if (phase_ == Phase::flushing && queued_bytes() == 0) return on_flushed();
  if (phase_ == Phase::open) session_.on_ready();
}

void Connection::wrote() noexcept {
  if (is_broken_) return break_off();
  hold_or_flush();
}

void Connection::hold_or_flush() noexcept {
  if (!stream_.is_send_waiting()) {
    net::Cork& cork = host_.engine.cork();
    if (cork.may_hold(queued_bytes(), host_.limits.write_buffer_bytes)) {
      if (tls_ != nullptr) return cork.add(stream_, *tls_);
      if (depth_ <= 1 && !stream_.is_linked()) host_.look_at_clock();  // the application writes in a callback of its own
      return cork.add_patiently(stream_, host_.now_ns);
    }
    host_.engine.expect_io();
    flush();
  }
  is_full_ = queued_bytes() > host_.limits.write_buffer_bytes;
}

void Connection::flush() noexcept {
  if (tls_ != nullptr) {
    tls_->unlink();
    seal();
  }
  if (!stream_.is_send_waiting()) stream_.flush();
}

// Nothing can be sent any more; end() follows.
void Connection::break_off() noexcept {
  if (tls_ != nullptr) tls_->drop();
  stream_.drop_writes();
}

bool Connection::send_file(int file, uint64_t offset, uint64_t size) noexcept {
  if (tls_ != nullptr) {
    progress_ns_ = host_.backend.now_ns();
    tls_->begin_file(file, offset, size);
    stream_.unlink();
    flush();
    is_full_ = queued_bytes() > host_.limits.write_buffer_bytes;
    return !tls_->has_file() && !is_broken_;
  }
  file_.reset(new (std::nothrow) FileSending(host_.backend, fd_.get(), file, offset, size, this, on_file_ready));
  progress_ns_ = host_.backend.now_ns();
  if (file_ == nullptr) {
    is_broken_ = true;
    make_ready();
    return false;
  }
  stream_.unlink();
  if (!stream_.is_send_waiting()) stream_.flush();
  return stream_.queued_bytes() == 0 && !is_broken_ && pump_file();  // else on_sent() begins
}

// True: all is sent, and the kernel has let go.
bool Connection::pump_file() noexcept {
  host_.engine.expect_io();
  const uint64_t left_bytes = file_->left_bytes();
  const FileSending::Progress progress = file_->send_piece();
  host_.counts.sent_bytes += left_bytes - file_->left_bytes();
  switch (progress) {
    case FileSending::Progress::some:
    case FileSending::Progress::none:
      if (file_->wait() == Errno::ok) return false;
      break;
    case FileSending::Progress::done:
      if (!file_->stop()) return false;
      file_.reset();
      return true;
    case FileSending::Progress::broken: break;
    case FileSending::Progress::short_file: is_cut_off_ = true; break;
  }
  is_broken_ = true;
  make_ready();
  (void)file_->stop();
  return false;
}

void Connection::on_file_ready(void* connection) noexcept {
  Connection& self = *static_cast<Connection*>(connection);
  const Scope scope(self);
  self.host_.look_at_clock();
  if (self.phase_ != Phase::open || self.is_broken_) return;
  self.progress_ns_ = self.host_.now_ns;
  if (self.file_->is_done()) {
    self.file_.reset();
  } else if (!self.pump_file()) {
    return;
  }
  self.session_.on_file_sent();
}

void Connection::set_reading(bool reads) noexcept {
  if (phase_ == Phase::ended || has_eof_ || reads == stream_.is_reading()) return;
  if (!reads) return stream_.stop_reading();
  if (stream_.start_reading() == Errno::ok) return;
  is_broken_ = true;
  make_ready();
}

void Connection::finish(bool lingers) noexcept {
  if (phase_ != Phase::open && phase_ != Phase::securing) return;
  phase_ = Phase::flushing;
  has_lingering_ = lingers && !has_eof_;
  set_reading(has_lingering_);
  if (is_broken_) return make_ready();
  if (tls_ != nullptr) tls_->finish();
  stream_.unlink();
  flush();
  if (phase_ == Phase::flushing && !is_broken_ && queued_bytes() == 0) on_flushed();
}

void Connection::on_flushed() noexcept {
  if (!has_lingering_ || has_eof_) return end(Ending::Why::answered);
  phase_ = Phase::lingering;
  host_.look_at_clock();
  progress_ns_ = host_.now_ns;
  (void)stream_.shutdown_write();  // a client that is gone is found out by the read
}

void Connection::reset(Ending::Why why) noexcept {
  // In a forked child the connection is still its parent's.
  if (phase_ != Phase::ended && !host_.engine.cork().is_inherited()) io::reset_when_closed(fd_.get());
  end(why);
}

void Connection::end(Ending::Why why) noexcept {
  if (phase_ == Phase::ended) return;
  const Scope scope(*this);
  phase_ = Phase::ended;
  host_.deadlines.remove(*this);
  static_cast<ConnectionHost::Ready&>(*this).unlink();
  if (file_ != nullptr) (void)file_->stop();
  if (tls_ != nullptr) tls_->unlink();
  (void)stream_.release();  // false: on_released() will tell
  session_.on_connection_end(why);
}

void Connection::on_data(std::span<const std::byte> data) noexcept {
  const Scope scope(*this);
  host_.look_at_clock();
  host_.counts.received_bytes += data.size();
  take(data);
}

// What has come goes to whoever reads in this phase.
void Connection::take(std::span<const std::byte> data) noexcept {
  const std::string_view bytes(reinterpret_cast<const char*>(data.data()), data.size());
  if (phase_ == Phase::introducing) return on_introduction(bytes);
  if (tls_ != nullptr && (phase_ == Phase::open || phase_ == Phase::securing)) return on_encrypted(data);
  if (phase_ == Phase::open) return session_.on_bytes(bytes);
  dropped_bytes_ += static_cast<uint32_t>(bytes.size());
  if (dropped_bytes_ > linger_bytes_max) end(Ending::Why::answered);
}

void Connection::on_eof() noexcept {
  const Scope scope(*this);
  host_.look_at_clock();
  has_eof_ = true;
  if (phase_ == Phase::lingering) return end(Ending::Why::answered);
  if (phase_ == Phase::introducing || phase_ == Phase::securing) return end(Ending::Why::client_gone);
  if (phase_ == Phase::open) session_.on_eof();
}

void Connection::on_read_error(Errno) noexcept { end(Ending::Why::client_gone); }

void Connection::on_send_waiting(bool) noexcept {
  const Scope scope(*this);
  progress_ns_ = host_.backend.now_ns();
}

void Connection::on_sent() noexcept {
  const Scope scope(*this);
  host_.look_at_clock();
  progress_ns_ = host_.now_ns;
  if (tls_ != nullptr) seal_and_tell();
  if (phase_ == Phase::flushing && !is_broken_ && queued_bytes() == 0) return on_flushed();
  if (phase_ == Phase::open && file_ != nullptr) {
    if (stream_.queued_bytes() > 0) return;
    is_full_ = false;  // the file keeps the application waiting now
    if (pump_file()) session_.on_file_sent();
    return;
  }
  tell_room();
}

void Connection::tell_room() noexcept {
  if (phase_ != Phase::open || !is_full_ || queued_bytes() > host_.limits.write_buffer_bytes / 2) return;
  is_full_ = false;
  session_.on_room();
}

// May come in the middle of a call of the application, which must not lose its exchange there.
void Connection::on_write_error(Errno) noexcept {
  if (phase_ == Phase::ended) return;
  const Scope scope(*this);
  is_broken_ = true;
  is_full_ = false;
  if (tls_ != nullptr) tls_->drop();
  make_ready();
}

void Connection::on_released() noexcept {
  if (depth_ == 0) leave();
}

void Connection::finish_release() noexcept {
  host_.backend.forget(fd_.get());
  if (stream_.state() == net::Stream::State::releasing) return stream_.finish_release();
  leave();  // only the op of a file was out
}

// --- TLS ------------------------------------------------------------------------------------------------------

bool Connection::begin_tls() noexcept {
  if (host_.tls_buffers == nullptr) return false;
  std::unique_ptr<TlsSession> session = host_.tls->make_session(host_.tls_buffers->wire);
  if (session == nullptr || phase_ != Phase::open) return false;
  tls_.reset(new (std::nothrow) TlsStream(this, on_seal_due, stream_, *host_.tls_buffers, std::move(session), host_.now_ns));
  if (tls_ != nullptr) phase_ = Phase::securing;
  return tls_ != nullptr;
}

// All that has come is decrypted at once, as all of it would be given to the session without TLS.
void Connection::on_encrypted(std::span<const std::byte> data) noexcept {
  const TlsBuffers::Loan loan(*host_.tls_buffers);
  if (!loan.is_given()) return end(Ending::Why::client_gone);
  tls_->take(data);
  if (phase_ == Phase::securing && !secure()) return;
  while (phase_ == Phase::open && tls_ != nullptr) {
    const TlsRead read = tls_->read();
    if (stream_.queued_bytes() > tls_backlog_bytes_max) return end(Ending::Why::client_gone);
    if (stream_.queued_bytes() > 0) hold_or_flush();
    if (read.bytes > 0) session_.on_bytes(tls_->plain(read.bytes));
    if (read.outcome == TlsOutcome::done) continue;
    if (read.outcome != TlsOutcome::wait) on_tls_end(read.outcome == TlsOutcome::closed);
    return;
  }
}

// The client sends no more: it has said so, or what it has sent was no TLS.
void Connection::on_tls_end(bool is_orderly) noexcept {
  if (phase_ != Phase::open) return;
  if (!is_orderly) {
    stream_.flush();  // the alert
    return end(Ending::Why::client_gone);
  }
  has_eof_ = true;
  stream_.stop_reading();
  session_.on_eof();
}

// False: the handshake is not done.
bool Connection::secure() noexcept {
  if (tls_->is_plain_http()) {
    ++host_.counts.bad_requests;
    tls_.reset();
    phase_ = Phase::open;
    session_.refuse_connection(wrong_scheme);
    return false;
  }
  const TlsOutcome outcome = tls_->handshake();
  if (phase_ != Phase::securing) return false;  // what the session runs has ended the connection
  if (outcome == TlsOutcome::wait) {
    if (stream_.queued_bytes() > 0) hold_or_flush();
    return false;
  }
  if (outcome != TlsOutcome::done) {
    ++host_.counts.handshakes_failed;
    finish(true);
    return false;
  }
  ++host_.counts.handshakes;
  phase_ = Phase::open;
  session_.on_secured();
  if (is_refused_) session_.refuse_connection(too_many);
  return phase_ == Phase::open;
}

// Encrypts what is queued, as far as the kernel takes it. Calls nobody above.
void Connection::seal() noexcept {
  const uint64_t file_before = tls_->file_left_bytes();
  const TlsStream::Sealed sealed = tls_->seal();
  host_.counts.sent_bytes += file_before - tls_->file_left_bytes();
  switch (sealed) {
    case TlsStream::Sealed::all:
    case TlsStream::Sealed::waiting: return;
    case TlsStream::Sealed::paused: return make_ready();
    case TlsStream::Sealed::short_file: is_cut_off_ = true; break;
    case TlsStream::Sealed::broken: break;
  }
  is_broken_ = true;
  tls_->drop();
  make_ready();
}

void Connection::seal_and_tell() noexcept {
  const bool had_file = tls_->has_file();
  seal();
  if (!had_file || tls_->has_file() || is_broken_ || phase_ != Phase::open) return;
  is_full_ = queued_bytes() > host_.limits.write_buffer_bytes;
  session_.on_file_sent();
}

void Connection::on_seal_due(void* connection) noexcept {
  Connection& self = *static_cast<Connection*>(connection);
  const Scope scope(self);
  if (!self.is_broken_ && self.phase_ != Phase::ended) self.seal_and_tell();
}

}  // namespace cxxloop::web
