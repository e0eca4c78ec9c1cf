// SPDX-License-Identifier: MIT
#include "web/core/connection.h"

#include <algorithm>
#include <new>
#include <utility>

#include "base/assert.h"
#include "io/socket.h"

namespace cxxloop::web {

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
  if (phase_ == Phase::open) set_reading(true);
}

void Connection::begin_refused() noexcept {
  const Scope scope(*this);
  is_refused_ = true;
  session_.refuse_connection();
  if (phase_ != Phase::ended) set_reading(true);
}

// Everything that ends or moves the connection's deadline happens within a scope.
void Connection::leave() noexcept {
  if (phase_ != Phase::ended) return host_.deadlines.move(*this, next_deadline_ns());
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
  if (phase_ == Phase::lingering) deadline_ns = progress_ns_ + linger_ns;
  if (has_to_send() && host_.limits.write_ns > 0) {
    deadline_ns = std::min(deadline_ns, progress_ns_ + host_.limits.write_ns);
  }
  return deadline_ns;
}

void Connection::on_deadline(int64_t now_ns) noexcept {
  const Scope scope(*this);
  host_.now_ns = now_ns;
  if (phase_ == Phase::lingering) return end(Ending::Why::answered);
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
  if (phase_ == Phase::open) session_.on_ready();
}

void Connection::wrote() noexcept {
  if (is_broken_) return stream_.drop_writes();
  if (!stream_.is_send_waiting()) {
    if (host_.engine.cork().may_hold(stream_.queued_bytes(), host_.limits.write_buffer_bytes)) {
      return host_.engine.cork().add(stream_);
    }
    host_.engine.expect_io();
    stream_.flush();
  }
  is_full_ = stream_.queued_bytes() > host_.limits.write_buffer_bytes;
}

bool Connection::send_file(int file, uint64_t offset, uint64_t size) noexcept {
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
  if (phase_ != Phase::open) return;
  phase_ = Phase::flushing;
  has_lingering_ = lingers && !has_eof_;
  set_reading(has_lingering_);
  if (is_broken_) return make_ready();
  stream_.unlink();
  if (!stream_.is_send_waiting()) stream_.flush();
  if (phase_ == Phase::flushing && !is_broken_ && stream_.queued_bytes() == 0) on_flushed();
}

void Connection::on_flushed() noexcept {
  if (!has_lingering_ || has_eof_) return end(Ending::Why::answered);
  phase_ = Phase::lingering;
  host_.look_at_clock();
  progress_ns_ = host_.now_ns;
  (void)stream_.shutdown_write();  // a client that is gone is found out by the read
}

void Connection::reset(Ending::Why why) noexcept {
  if (phase_ != Phase::ended) io::reset_when_closed(fd_.get());
  end(why);
}

void Connection::end(Ending::Why why) noexcept {
  if (phase_ == Phase::ended) return;
  const Scope scope(*this);
  phase_ = Phase::ended;
  host_.deadlines.remove(*this);
  static_cast<ConnectionHost::Ready&>(*this).unlink();
  if (file_ != nullptr) (void)file_->stop();
  (void)stream_.release();  // false: on_released() will tell
  session_.on_connection_end(why);
  if (std::exchange(is_known_, false)) host_.application.on_connection_end(application_part_);
}

void Connection::on_data(std::span<const std::byte> data) noexcept {
  const Scope scope(*this);
  host_.look_at_clock();
  host_.counts.received_bytes += data.size();
  if (phase_ == Phase::open) return session_.on_bytes({reinterpret_cast<const char*>(data.data()), data.size()});
  dropped_bytes_ += data.size();
  if (dropped_bytes_ > linger_bytes_max) end(Ending::Why::answered);
}

void Connection::on_eof() noexcept {
  const Scope scope(*this);
  host_.look_at_clock();
  has_eof_ = true;
  if (phase_ == Phase::lingering) return end(Ending::Why::answered);
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
  if (phase_ == Phase::flushing && stream_.queued_bytes() == 0) return on_flushed();
  if (phase_ == Phase::open && file_ != nullptr) {
    if (stream_.queued_bytes() > 0) return;
    is_full_ = false;  // the file keeps the application waiting now
    if (pump_file()) session_.on_file_sent();
    return;
  }
  if (phase_ != Phase::open || !is_full_ || stream_.queued_bytes() > host_.limits.write_buffer_bytes / 2) return;
  is_full_ = false;
  session_.on_room();
}

// May come in the middle of a call of the application, which must not lose its exchange there.
void Connection::on_write_error(Errno) noexcept {
  if (phase_ == Phase::ended) return;
  const Scope scope(*this);
  is_broken_ = true;
  is_full_ = false;
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

}  // namespace cxxloop::web
