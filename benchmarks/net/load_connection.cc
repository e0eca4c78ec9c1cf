// SPDX-License-Identifier: MIT

#include "load_connection.h"

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string>
#include <utility>

namespace cxxloop::benchmarks {

LoadConnection::LoadConnection(int fd, size_t number, const LoadOptions& options, const BytePattern& pattern)
    : fd_(fd), number_(number), message_bytes_(options.message_bytes), pattern_(&pattern),
      datagrams_(options.datagrams), started_at_ns_(options.depth) {}

LoadConnection::LoadConnection(LoadConnection&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)),
      number_(other.number_),
      message_bytes_(other.message_bytes_),
      pattern_(other.pattern_),
      datagrams_(other.datagrams_),
      started_(other.started_),
      completed_(other.completed_),
      lost_(other.lost_),
      given_up_(other.given_up_),
      sent_bytes_(other.sent_bytes_),
      received_bytes_(other.received_bytes_),
      started_at_ns_(std::move(other.started_at_ns_)) {}

LoadConnection::~LoadConnection() {
  if (fd_ >= 0) close(fd_);
}

void LoadConnection::start_message() {
  started_at_ns_[started_ % started_at_ns_.size()] = monotonic_ns();
  ++started_;
}

int64_t LoadConnection::finish_message(int64_t now_ns) noexcept {
  const int64_t started_at_ns = started_at_ns_[completed_ % started_at_ns_.size()];
  ++completed_;
  return now_ns - started_at_ns;
}

IoResult LoadConnection::flush() {
  while (wants_write()) {
    const uint64_t unsent_bytes = started_ * message_bytes_ - sent_bytes_;
    const size_t size = std::min(unsent_bytes, datagrams_ ? message_bytes_ : BytePattern::run_max);
    const ssize_t sent = send(fd_, pattern_->bytes_at(number_, sent_bytes_), size, MSG_NOSIGNAL);
    if (sent < 0) return errno == EAGAIN || errno == EINTR ? IoResult::ok : IoResult::system_error;
    sent_bytes_ += static_cast<uint64_t>(sent);
  }
  return IoResult::ok;
}

IoResult LoadConnection::receive_some(std::vector<char>& buffer) {
  const ssize_t received = recv(fd_, buffer.data(), std::min(buffer.size(), BytePattern::run_max), 0);
  if (received == 0 && !datagrams_) return IoResult::peer_closed;
  if (received < 0) return errno == EAGAIN || errno == EINTR ? IoResult::ok : IoResult::system_error;
  const auto size = static_cast<size_t>(received);
  return datagrams_ ? take_datagram(buffer.data(), size) : take_stream(buffer.data(), size);
}

IoResult LoadConnection::take_stream(const char* data, size_t size) {
  // More bytes than were sent are wrong too, whatever they hold.
  if (received_bytes_ + size > sent_bytes_ || !pattern_->matches(number_, received_bytes_, data, size)) {
    report_wrong_byte(data, size);
    return IoResult::wrong_byte;
  }
  received_bytes_ += size;
  return IoResult::ok;
}

bool LoadConnection::is_message(uint64_t number, const char* data, size_t size) const noexcept {
  return size == message_bytes_ && pattern_->matches(number_, number * message_bytes_, data, size);
}

// The oldest in flight, or a later one, when those before it are lost.
IoResult LoadConnection::take_datagram(const char* data, size_t size) {
  const uint64_t sent = sent_bytes_ / message_bytes_;
  for (uint64_t number = completed_; number < sent; ++number) {
    if (!is_message(number, data, size)) continue;
    lost_ += number - completed_;
    completed_ = number;
    received_bytes_ = (number + 1) * message_bytes_;
    return IoResult::ok;
  }
  for (uint64_t number = completed_ - given_up_; number < completed_; ++number) {
    if (is_message(number, data, size)) return IoResult::ok;  // it comes after all
  }
  report_wrong_byte(data, std::min<size_t>(size, message_bytes_));
  return IoResult::wrong_byte;
}

bool LoadConnection::give_up(int64_t now_ns) noexcept {
  if (!datagrams_ || idle() || now_ns - started_at_ns_[completed_ % started_at_ns_.size()] < loss_ns) return false;
  given_up_ = started_ - completed_;
  lost_ += given_up_;
  completed_ = started_;
  sent_bytes_ = received_bytes_ = started_ * message_bytes_;
  return true;
}

void LoadConnection::report_wrong_byte(const char* data, size_t size) const {
  const char* expected = pattern_->bytes_at(number_, received_bytes_);
  const auto offset = static_cast<size_t>(std::mismatch(data, data + size, expected).first - data);
  report_failure("connection " + std::to_string(number_) + ": wrong byte at position " + std::to_string(received_bytes_ + offset) +
                 " (" + std::to_string(sent_bytes_) + " bytes were sent)");
}

}  // namespace cxxloop::benchmarks
