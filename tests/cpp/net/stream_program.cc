// SPDX-License-Identifier: MIT
#include "cpp/net/stream_program.h"

#include <algorithm>
#include <utility>

namespace cxxloop::net {
namespace {

sim::Faults gentle_faults() {
  sim::Faults faults = sim::Faults::benign();
  faults.late_cancels = 300;
  return faults;
}

sim::Faults rough_faults() {
  sim::Faults faults = sim::Faults::harsh();
  faults.resets = 10;
  faults.submit_errors = 20;
  return faults;
}

}  // namespace

std::vector<std::byte> SentText::append(size_t size) {
  std::vector<std::byte> bytes(size);
  const size_t epoch = sizes_.size() - 1;
  for (std::byte& byte : bytes) byte = at(epoch, sizes_.back()++);
  return bytes;
}

bool ReceivedText::take(std::span<const std::byte> bytes, const SentText& sent) noexcept {
  for (const std::byte byte : bytes) {
    const size_t epoch = static_cast<size_t>(byte) >> 5;
    if (epoch < epoch_ || epoch >= sent.sizes().size()) return false;
    if (epoch > epoch_) position_ = 0;
    epoch_ = epoch;
    if (position_ >= sent.sizes()[epoch] || byte != SentText::at(epoch, position_)) return false;
    ++position_;
  }
  return true;
}

bool ReceivedText::complete(const SentText& sent) const noexcept {
  if (sent.sizes().back() == 0) return true;
  return epoch_ == sent.sizes().size() - 1 && position_ == sent.sizes().back();
}

// StreamEnd

StreamEnd::StreamEnd(StreamProgram& program, int fd)
    : program_(program),
      fd_(fd),
      owner_fd_(fd),
      stream_(std::make_unique<Stream>(program.backend(), fd, *this, StreamProgram::release_chunk, &owner_fd_)) {}

StreamEnd::~StreamEnd() {
  if (stream_ != nullptr) static_cast<void>(stream_.release());  // A promise was broken: its ops may be anywhere.
}

void StreamEnd::act() noexcept {
  if (stream_ == nullptr || released_) return;
  switch (program_.choices().below(16)) {
    case 0: case 1: case 2: return start_reading();
    case 3: return stop_reading();
    case 4: return program_.choices().chance(20) ? lose_descriptor() : (stop_reading(), start_reading());
    case 5: case 6: case 7: case 8: return write();
    case 9: case 10: return write_with_tail();
    case 11: return stream_->flush();
    case 12: return flush_or_cork();
    case 13: return program_.choices().chance(300) ? drop() : start_reading();
    case 14: return program_.choices().chance(200) ? end_writing() : start_reading();
    default: return program_.choices().chance(150) ? release() : start_reading();
  }
}

void StreamEnd::start_reading() noexcept {
  if (reading_) return;
  const Errno error = stream_->start_reading();
  reading_ = error == Errno::ok;
  program_.check(reading_ || (!program_.gentle() && error == Errno::no_memory), "start_reading() fails as submit()");
  program_.check(stream_->is_reading() == reading_, "is_reading() after start_reading()");
  if (reading_) last_read_granted_ = false;
}

void StreamEnd::stop_reading() noexcept {
  stream_->stop_reading();
  if (reading_ && in_target_) last_read_granted_ = true;
  reading_ = false;
  program_.check(!stream_->is_reading(), "is_reading() after stop_reading()");
}

void StreamEnd::append(size_t size) noexcept {
  // What is written after the descriptor has gone must not arrive: nobody has sent it.
  std::vector<std::byte> bytes = owns_descriptor() ? sent_.append(size) : std::vector<std::byte>(size);
  program_.check(program_.append(*stream_, std::move(bytes)), "append()");
}

void StreamEnd::write() noexcept {
  if (wants_eof_) return;
  sim::Choices& choices = program_.choices();
  const bool many = choices.chance(100);
  const size_t pieces = many ? choices.between(io::SendOp::iov_max - 2, 2 * io::SendOp::iov_max + 2) : choices.between(1, 3);
  for (size_t i = 0; i < pieces; ++i) append(many ? choices.between(1, 8) : choices.between(1, 1500));
  flush_or_cork();
}

void StreamEnd::flush_or_cork() noexcept {
  switch (program_.choices().below(3)) {
    case 0: return stream_->flush();
    case 1: return program_.cork().add(*stream_);
    default: return;  // queued, until somebody flushes
  }
}

void StreamEnd::write_with_tail() noexcept {
  if (wants_eof_) return;
  const size_t size = program_.choices().between(1, 1500);
  const std::vector<std::byte> tail = owns_descriptor() ? sent_.append(size) : std::vector<std::byte>(size);
  const size_t left = stream_->flush_with(tail);
  if (stream_ == nullptr || released_ || write_over_) {
    return program_.check(left == 0, "flush_with() after an error leaves nothing to append");
  }
  program_.check(left <= tail.size(), "flush_with() leaves a part of the tail");
  if (left == 0) return;
  const auto rest = tail.end() - static_cast<std::ptrdiff_t>(left);
  program_.check(program_.append(*stream_, {rest, tail.end()}), "append()");
  if (program_.choices().chance(500)) stream_->flush();
}

void StreamEnd::drop() noexcept {
  if (wants_eof_ || !sent_.may_drop()) return;
  stream_->drop_writes();
  sent_.drop();
  told_waiting_ = false;
  program_.check(stream_->queued_bytes() == 0, "nothing is queued after drop_writes()");
  program_.check(!stream_->is_linked(), "nothing is corked after drop_writes()");
}

void StreamEnd::end_writing() noexcept {
  if (std::exchange(wants_eof_, true)) return;
  stream_->flush();
  if (stream_ != nullptr && !released_) shutdown_when_drained();
}

void StreamEnd::shutdown_when_drained() noexcept {
  if (!wants_eof_ || write_over_ || stream_->queued_bytes() > 0 || stream_->is_send_waiting()) return;
  const Errno error = stream_->shutdown_write();
  program_.check(error == (owns_descriptor() ? Errno::ok : Errno::bad_fd), "shutdown_write()");
  write_over_ = true;
  write_failed_ = error != Errno::ok;
}

// Somebody else closes the descriptor, and its number may be a stranger's at once.
void StreamEnd::lose_descriptor() noexcept { owner_fd_ = -1; }

void StreamEnd::release() noexcept {
  left_early_ = !read_over_ || !write_over_ || !owns_descriptor();
  released_ = true;
  if (stream_->release()) {
    program_.check(stream_->state() == Stream::State::released, "release() == true: released");
    program_.check(!program_.backend().is_open(fd_), "release() == true: forgotten");
    stream_.reset();
  } else {
    program_.check(stream_->state() == Stream::State::releasing, "release() == false: releasing");
    awaits_released_ = true;
  }
}

void StreamEnd::wind_up() noexcept {
  if (stream_ == nullptr || released_) return;
  if (write_failed_ || !owns_descriptor()) return release();
  if (!read_over_) start_reading();
  wants_eof_ = true;
  if (!std::exchange(flushed_at_last_, true)) stream_->flush();  // once: the rest has to go by itself
  if (stream_ == nullptr || released_) return;
  shutdown_when_drained();
  if (read_over_ && write_over_) release();
}

// A peer that leaves resets the connection if it has not read everything.
bool StreamEnd::may_fail() const noexcept { return !program_.gentle() || peer_->left_early_ || !owns_descriptor(); }

void StreamEnd::check_reading(const char* promise) noexcept {
  program_.check(!released_, "no callback after release()");
  program_.check(reading_ || std::exchange(last_read_granted_, false), promise);
}

void StreamEnd::note_reading_ended() noexcept {
  reading_ = false;
  program_.check(!stream_->is_reading(), "is_reading() when reading has stopped by itself");
}

std::optional<std::span<std::byte>> StreamEnd::on_read_target() noexcept {
  program_.check(!released_, "no read target after release()");
  program_.check(reading_, "no read target after stop_reading()");
  last_read_granted_ = false;
  in_target_ = true;
  program_.disturb();
  in_target_ = false;
  sim::Choices& choices = program_.choices();
  const bool refuses = !program_.winds_up() && choices.chance(100);
  if (stream_ == nullptr || released_ || refuses) {
    last_read_granted_ = false;
    return std::nullopt;
  }
  if (!reading_) stream_->take_last_read();
  if (choices.chance(500)) return std::span<std::byte>();
  buffer_.assign(choices.between(1, 2000), std::byte{0});
  return std::span<std::byte>(buffer_);
}

void StreamEnd::on_data(std::span<const std::byte> data) noexcept {
  check_reading("no data after stop_reading()");
  program_.check(owns_descriptor(), "no data of the next owner of the number");
  program_.check(!read_over_, "no data after the end");
  program_.check(!data.empty(), "data is never empty");
  program_.check(received_.take(data, peer_->sent_), "the bytes received are a prefix of the bytes sent");
  program_.disturb();
}

void StreamEnd::on_eof() noexcept {
  check_reading("no end of file after stop_reading()");
  program_.check(peer_->write_over_ || peer_->released_ || may_fail(), "no end of file that nobody sent");
  note_reading_ended();
  read_over_ = true;
  program_.disturb();
}

void StreamEnd::on_read_error(Errno error) noexcept {
  check_reading("no read error after stop_reading()");
  program_.check(may_fail(), "no read error that nobody caused");
  program_.check(error == Errno::no_memory || error == (owns_descriptor() ? Errno::conn_reset : Errno::bad_fd),
                 "a read error tells what happened");
  note_reading_ended();
  if (error != Errno::no_memory) read_over_ = true;
  program_.disturb();
}

void StreamEnd::on_send_waiting(bool) noexcept {
  program_.check(!released_, "no callback after release()");
  program_.check(!std::exchange(told_waiting_, true), "told once that the kernel is full");
  program_.check(stream_->is_send_waiting(), "the stream waits for the kernel when it says so");
  program_.disturb();
}

void StreamEnd::on_sent() noexcept {
  program_.check(!released_, "no callback after release()");
  program_.check(told_waiting_, "a send that went through had to wait");
  program_.check(stream_->is_send_waiting() == (stream_->queued_bytes() > 0), "what is left waits for the kernel");
  if (stream_->queued_bytes() == 0) told_waiting_ = false;
  shutdown_when_drained();
  program_.disturb();
}

void StreamEnd::on_write_error(Errno error) noexcept {
  program_.check(!released_, "no callback after release()");
  program_.check(may_fail(), "no write error that nobody caused");
  const bool broken = owns_descriptor() ? error == Errno::conn_reset || error == Errno::pipe : error == Errno::bad_fd;
  program_.check(broken || error == Errno::no_memory, "a write error tells what happened");
  program_.check(stream_->queued_bytes() == 0 && !stream_->is_linked(), "a write error empties the queue");
  program_.check(!stream_->is_send_waiting(), "nothing waits after a write error");
  told_waiting_ = false;
  wants_eof_ = write_over_ = write_failed_ = true;
  program_.disturb();
}

void StreamEnd::on_busy() noexcept { program_.check(!std::exchange(busy_, true), "on_busy() when nothing was out"); }

void StreamEnd::on_idle() noexcept {
  program_.check(std::exchange(busy_, false), "on_idle() once, after on_busy()");
  program_.check(stream_ != nullptr, "no callback of a stream that is gone");
}

void StreamEnd::check_between_calls() noexcept {
  if (stream_ == nullptr) return;
  const bool busy = stream_->is_reading() || stream_->is_send_waiting();
  program_.check(busy_ == (released_ || busy), "busy exactly while the owner may be called");
  program_.check(stream_->is_busy() == busy_, "is_busy()");
}

void StreamEnd::on_released() noexcept {
  program_.check(busy_, "on_released() before on_idle()");
  program_.check(std::exchange(awaits_released_, false), "on_released() once, after release() == false");
  program_.check(stream_ != nullptr && stream_->state() == Stream::State::released, "on_released(): released");
  program_.check(!program_.backend().is_open(fd_), "on_released(): forgotten");
  stream_.reset();
  program_.disturb();
}

// StreamProgram

StreamProgram::StreamProgram(uint64_t world_seed, sim::Choices& choices, bool gentle)
    : backend_(std::make_unique<sim::SimBackend>(world_seed, gentle ? gentle_faults() : rough_faults())),
      choices_(choices), gentle_(gentle) {
  backend_->set_pipe_capacity(choices.between(1, 6000));
}

StreamProgram::~StreamProgram() {
  if (!broken_.empty()) static_cast<void>(backend_.release());  // It may hold ops of the streams that are not freed.
}

void StreamProgram::check(bool kept, const char* promise) noexcept {
  if (!kept && broken_.empty()) broken_ = promise;
}

void StreamProgram::disturb() noexcept {
  if (winds_up_ || depth_ >= 3 || !choices_.chance(400)) return;
  ++depth_;
  for (size_t deeds = choices_.between(1, 3); deeds > 0; --deeds) {
    ends_[choices_.below(ends_.size())]->act();
  }
  --depth_;
}

bool StreamProgram::append(Stream& stream, std::vector<std::byte> bytes) noexcept {
  Chunk& chunk = chunks_.emplace_back(Chunk{this, std::move(bytes)});
  return stream.append({chunk.bytes.data(), chunk.bytes.size(), &chunk});
}

// The bytes are freed at once, so that whoever still reads them is found out by AddressSanitizer.
void StreamProgram::release_chunk(void* owner) noexcept {
  Chunk& chunk = *static_cast<Chunk*>(owner);
  chunk.program->check(!std::exchange(chunk.released, true), "a chunk is released once");
  chunk.bytes = {};
}

void StreamProgram::connect() {
  const sim::SimBackend::Pair pair = backend_->make_pair();
  ends_.push_back(std::make_unique<StreamEnd>(*this, pair.near));
  ends_.push_back(std::make_unique<StreamEnd>(*this, pair.far));
  StreamEnd& near = **(ends_.end() - 2);
  StreamEnd& far = **(ends_.end() - 1);
  near.meet(far);
  far.meet(near);
}

void StreamProgram::turn(Deadline deadline) noexcept {
  if (backend_->collected() == 0) check(backend_->wait(deadline) == Errno::ok, "wait()");
  while (broken_.empty() && backend_->dispatch_one()) {
    cork_.pull();
    if (choices_.chance(800)) backend_->flush();
    for (const auto& end : ends_) end->check_between_calls();
    // A callback may leave the loop, by an exit: what else was collected is run when the loop goes on.
    if (!winds_up_ && choices_.chance(30)) return;
  }
}

void StreamProgram::play() {
  connect();
  while (broken_.empty() && !choices_.exhausted()) {
    const bool all_over = std::all_of(ends_.begin(), ends_.end(), [](const auto& end) { return end->is_over(); });
    if ((all_over || choices_.chance(20)) && ends_.size() < 2 * connections_max) connect();
    for (size_t deeds = choices_.below(4); deeds > 0; --deeds) ends_[choices_.below(ends_.size())]->act();
    if (choices_.chance(500)) cork_.pull();
    turn(Deadline{backend_->now_ns() + 1'000'000});
  }
}

void StreamProgram::wind_up() {
  winds_up_ = true;
  if (!gentle_) backend_->set_faults(gentle_faults());  // what is broken stays broken
  for (int turns = 0; broken_.empty(); ++turns) {
    bool over = true;
    for (const auto& end : ends_) {
      end->wind_up();
      over = over && end->is_over();
    }
    if (over) return;
    turn(Deadline::never());
    check(!backend_->stalled() || std::all_of(ends_.begin(), ends_.end(), [](const auto& end) { return end->is_over(); }),
          "nobody waits for ever");
    check(turns < 200'000, "the program ends");
  }
}

void StreamProgram::check_the_end() {
  check(backend_->ops_count() == 0, "no op is left in the kernel");
  check(backend_->open_count() == 0, "no descriptor is left open");
  check(cork_.empty(), "no stream is left corked");
  for (const Chunk& chunk : chunks_) check(chunk.released, "every chunk is released");
  if (!gentle_) return;
  for (size_t i = 0; i < ends_.size(); i += 2) {
    if (ends_[i]->left_early() || ends_[i + 1]->left_early()) continue;
    check(ends_[i]->received_all() && ends_[i + 1]->received_all(), "everything sent arrives");
  }
}

std::string StreamProgram::run() {
  play();
  if (broken_.empty()) wind_up();
  if (broken_.empty()) check_the_end();
  return broken_;
}

}  // namespace cxxloop::net
