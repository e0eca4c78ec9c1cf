// SPDX-License-Identifier: MIT
#include "web/core/tls_stream.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <utility>

#include "base/assert.h"
#include "io/socket.h"

namespace cxxloop::web {

TlsBuffers::Loan::Loan(TlsBuffers& buffers) noexcept : buffers_(buffers), is_outermost_(!std::exchange(buffers.is_lent, true)) {
  if (is_outermost_) return;
  nested_.reset(new (std::nothrow) Memory);
  if (nested_ == nullptr) return;
  memory_ = std::exchange(buffers_.memory, nested_.get());
  wire_ = std::exchange(buffers_.wire, TlsWire{});
  buffers_.wire.output = nested_->output;
  is_busy_ = std::exchange(buffers_.is_busy, false);
}

TlsBuffers::Loan::~Loan() {
  if (is_outermost_) buffers_.is_lent = false;
  if (nested_ == nullptr) return;
  buffers_.memory = memory_;
  buffers_.wire = wire_;
  buffers_.is_busy = is_busy_;
}

// Python that a session runs may write to any connection, whose seal() would mix its bytes with those of the session.
class TlsStream::Busy {
 public:
  explicit Busy(TlsBuffers& buffers) noexcept : buffers_(buffers) { buffers_.is_busy = true; }
  Busy(const Busy&) = delete;
  Busy& operator=(const Busy&) = delete;
  ~Busy() { buffers_.is_busy = false; }

 private:
  TlsBuffers& buffers_;
};

TlsStream::TlsStream(void* owner, DueFn on_due, net::Stream& stream, TlsBuffers& buffers, std::unique_ptr<TlsSession> session,
                     int64_t now_ns) noexcept
    : owner_(owner),
      on_due_(on_due),
      stream_(stream),
      buffers_(buffers),
      session_(std::move(session)),
      queue_(OutputPool::let_go),
      begin_ns_(now_ns) {}

// --- received bytes -------------------------------------------------------------------------------------------

// No record of TLS begins with a letter, and no method of HTTP with anything else.
bool TlsStream::is_plain_http() const noexcept {
  if (has_begun_ || buffers_.wire.input.empty()) return false;
  const char first = static_cast<char>(buffers_.wire.input.front());
  return first >= 'A' && first <= 'Z';
}

TlsOutcome TlsStream::handshake() noexcept {
  has_begun_ = true;
  TlsOutcome outcome = TlsOutcome::full;
  while (outcome == TlsOutcome::full) {
    {
      const Busy busy(buffers_);
      outcome = session_->handshake();
    }
    if (!queue_wire()) outcome = TlsOutcome::failed;
  }
  is_secured_ = outcome == TlsOutcome::done;
  has_failed_ = outcome == TlsOutcome::failed || outcome == TlsOutcome::closed;
  return outcome;
}

TlsRead TlsStream::read() noexcept {
  TlsRead result{TlsOutcome::failed};
  {
    const Busy busy(buffers_);
    result = session_->read(buffers_.memory->plain);
  }
  const bool has_room = queue_wire() && result.outcome != TlsOutcome::full;
  if (!has_room) result.outcome = TlsOutcome::failed;
  has_failed_ = result.outcome == TlsOutcome::failed;
  return result;
}

// --- bytes to be sent -----------------------------------------------------------------------------------------

void TlsStream::begin_file(int file, uint64_t offset, uint64_t size) noexcept {
  file_ = file;
  file_offset_ = offset;
  file_left_ = size;
}

void TlsStream::drop() noexcept {
  queue_.clear();
  file_left_ = 0;
}

TlsStream::Sealed TlsStream::seal() noexcept {
  if (!is_secured_ || has_failed_) return Sealed::all;
  if (buffers_.is_busy) return Sealed::paused;
  const uint64_t file_left_before = file_left_;
  while (!stream_.is_send_waiting()) {
    const Sealed sealed = fill();
    const bool has_sent = buffers_.wire.output_used > 0;
    if (!send_wire()) return Sealed::broken;
    if (sealed != Sealed::all || !has_sent) return sealed;
    if (has_file() && file_left_before - file_left_ >= file_bytes_per_seal) return Sealed::paused;
  }
  const bool is_over = queue_.empty() && !has_file() && (!is_finishing_ || has_closed_);
  return is_over ? Sealed::all : Sealed::waiting;
}

// Encrypts to the wire until that is full, or nothing is left.
TlsStream::Sealed TlsStream::fill() noexcept {
  while (buffers_.wire.has_room_for_record()) {
    if (!queue_.empty()) {
      const std::string_view bytes = gather();
      if (!encrypt(bytes)) return Sealed::broken;
      queue_.consume(bytes.size());
    } else if (has_file()) {
      const size_t size = static_cast<size_t>(std::min<uint64_t>(file_left_, tls_record_bytes_max));
      Result<size_t> read = io::read_file(file_, std::as_writable_bytes(std::span(buffers_.memory->record).first(size)), file_offset_);
      if (!read.ok() || read.value() == 0) return Sealed::short_file;
      if (!encrypt({buffers_.memory->record.data(), read.value()})) return Sealed::broken;
      file_offset_ += read.value();
      file_left_ -= read.value();
    } else {
      if (is_finishing_ && !std::exchange(has_closed_, true)) {
        const Busy busy(buffers_);
        session_->close();
      }
      break;
    }
  }
  return Sealed::all;
}

// The bytes of the next record: where they are if they are enough, else side by side. A record costs more than the copy.
std::string_view TlsStream::gather() noexcept {
  const std::span<const std::byte> first = queue_.chunk(0);
  if (first.size() >= tls_record_bytes_max || first.size() == queue_.bytes()) {
    return {reinterpret_cast<const char*>(first.data()), std::min(first.size(), tls_record_bytes_max)};
  }
  size_t used = 0;
  for (size_t i = 0; i < queue_.chunks() && used < tls_record_bytes_max; ++i) {
    const std::span<const std::byte> chunk = queue_.chunk(i);
    const size_t size = std::min(chunk.size(), tls_record_bytes_max - used);
    std::memcpy(buffers_.memory->record.data() + used, chunk.data(), size);
    used += size;
  }
  return {buffers_.memory->record.data(), used};
}

bool TlsStream::encrypt(std::string_view bytes) noexcept {
  const Busy busy(buffers_);
  has_failed_ = !session_->write(bytes);
  return !has_failed_;
}

// What the kernel does not take is copied: the wire belongs to the next connection.
bool TlsStream::send_wire() noexcept {
  TlsWire& wire = buffers_.wire;
  const std::span<const std::byte> bytes = wire.output.first(std::exchange(wire.output_used, 0));
  if (bytes.empty()) return true;
  const size_t left = stream_.flush_with(bytes);
  if (left == 0) return true;
  if (!keep(bytes.last(left))) return false;
  if (!stream_.is_send_waiting()) stream_.flush();
  return true;
}

bool TlsStream::queue_wire() noexcept {
  TlsWire& wire = buffers_.wire;
  const std::span<const std::byte> bytes = wire.output.first(std::exchange(wire.output_used, 0));
  return bytes.empty() || keep(bytes);
}

bool TlsStream::keep(std::span<const std::byte> bytes) noexcept {
  Output output(buffers_.kept, stream_.queue());
  if (output.reserve(bytes.size()) == nullptr) {
    has_failed_ = true;
    return false;
  }
  output.put({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  return true;
}

}  // namespace cxxloop::web
