// SPDX-License-Identifier: MIT

#include "websocket_connection.h"

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>

namespace cxxloop::benchmarks {
namespace {

// RFC 6455 1.3: this key has this answer.
constexpr const char* key = "dGhlIHNhbXBsZSBub25jZQ==";
constexpr const char* accepted_key = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
constexpr size_t head_bytes_max = 16 * 1024;

constexpr unsigned char fin_bit = 0x80;
constexpr unsigned char reserved_bits = 0x70;
constexpr unsigned char mask_bit = 0x80;
constexpr unsigned char length_16_bits = 126;
constexpr unsigned char length_64_bits = 127;

uint64_t big_endian(const unsigned char* bytes, size_t size) {
  uint64_t value = 0;
  for (size_t i = 0; i < size; ++i) value = value << 8 | bytes[i];
  return value;
}

// `mask` repeated over `size` bytes, eight at a time.
void apply_mask(char* data, size_t size, uint32_t mask) {
  const uint64_t wide_mask = uint64_t{mask} << 32 | mask;
  size_t at = 0;
  for (uint64_t word; at + sizeof word <= size; at += sizeof word) {
    std::memcpy(&word, data + at, sizeof word);
    word ^= wide_mask;
    std::memcpy(data + at, &word, sizeof word);
  }
  for (; at < size; ++at) data[at] = static_cast<char>(data[at] ^ reinterpret_cast<const char*>(&mask)[at % sizeof mask]);
}

// Up to the empty line, a byte at a time: the first frame may follow at once.
std::string read_head(int fd) {
  std::string head;
  for (char byte; head.size() < head_bytes_max && !head.ends_with("\r\n\r\n");) {
    if (recv(fd, &byte, 1, 0) != 1) break;
    head += byte;
  }
  return head;
}

}  // namespace

WebSocketConnection::WebSocketConnection(int fd, size_t number, const LoadOptions& options, const BytePattern& pattern)
    : fd_(fd), number_(number), message_bytes_(options.message_bytes), pattern_(&pattern),
      mask_state_(0x9e3779b9U + static_cast<uint32_t>(number)), started_at_ns_(options.depth), path_(options.path) {}

WebSocketConnection::WebSocketConnection(WebSocketConnection&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)),
      number_(other.number_),
      message_bytes_(other.message_bytes_),
      pattern_(other.pattern_),
      started_(other.started_),
      arrived_(other.arrived_),
      completed_(other.completed_),
      unsent_(std::move(other.unsent_)),
      mask_state_(other.mask_state_),
      header_(other.header_),
      header_bytes_(other.header_bytes_),
      frame_bytes_left_(other.frame_bytes_left_),
      message_offset_(other.message_offset_),
      message_open_(other.message_open_),
      opcode_(other.opcode_),
      control_(std::move(other.control_)),
      started_at_ns_(std::move(other.started_at_ns_)),
      path_(std::move(other.path_)) {}

WebSocketConnection::~WebSocketConnection() {
  if (fd_ >= 0) close(fd_);
}

bool WebSocketConnection::refuse(const std::string& what) const {
  report_failure("connection " + std::to_string(number_) + ": " + what);
  return false;
}

bool WebSocketConnection::greet() const {
  if (message_bytes_ > BytePattern::run_max) return refuse("--size is at most " + std::to_string(BytePattern::run_max));
  const std::string request = "GET " + path_ + " HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
                              "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + key + "\r\n\r\n";
  if (send(fd_, request.data(), request.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(request.size())) {
    return refuse("the upgrade cannot be sent");
  }
  const std::string head = read_head(fd_);
  if (!head.starts_with("HTTP/1.1 101")) return refuse("no upgrade: " + head.substr(0, head.find('\r')));
  return head.find(accepted_key) != std::string::npos || refuse("the upgrade answers another key");
}

void WebSocketConnection::append_frame(Opcode opcode, const char* payload, size_t size) {
  unsent_.push_back(static_cast<char>(fin_bit | static_cast<unsigned char>(opcode)));
  const size_t length_bytes = size <= control_bytes_max ? 0 : size <= UINT16_MAX ? 2 : 8;
  const size_t length = length_bytes == 0 ? size : length_bytes == 2 ? length_16_bits : length_64_bits;
  unsent_.push_back(static_cast<char>(mask_bit | length));
  for (size_t left = length_bytes; left-- > 0;) unsent_.push_back(static_cast<char>(size >> (8 * left)));
  mask_state_ ^= mask_state_ << 13;
  mask_state_ ^= mask_state_ >> 17;
  mask_state_ ^= mask_state_ << 5;
  const auto* mask = reinterpret_cast<const char*>(&mask_state_);
  unsent_.insert(unsent_.end(), mask, mask + sizeof mask_state_);
  unsent_.insert(unsent_.end(), payload, payload + size);
  apply_mask(unsent_.data() + unsent_.size() - size, size, mask_state_);
}

void WebSocketConnection::start_message() {
  started_at_ns_[started_ % started_at_ns_.size()] = monotonic_ns();
  append_frame(Opcode::binary, pattern_->bytes_at(number_, started_ * message_bytes_), message_bytes_);
  ++started_;
}

IoResult WebSocketConnection::flush() {
  size_t sent = 0;
  IoResult result = IoResult::ok;
  while (sent < unsent_.size()) {
    const ssize_t size = send(fd_, unsent_.data() + sent, unsent_.size() - sent, MSG_NOSIGNAL);
    if (size < 0) {
      if (errno != EAGAIN && errno != EINTR) result = IoResult::system_error;
      break;
    }
    sent += static_cast<size_t>(size);
  }
  unsent_.erase(unsent_.begin(), unsent_.begin() + static_cast<ptrdiff_t>(sent));
  return result;
}

IoResult WebSocketConnection::receive_some(std::vector<char>& buffer) {
  const ssize_t received = recv(fd_, buffer.data(), std::min(buffer.size(), BytePattern::run_max), 0);
  if (received == 0) return IoResult::peer_closed;
  if (received < 0) return errno == EAGAIN || errno == EINTR ? IoResult::ok : IoResult::system_error;
  const char* data = buffer.data();
  for (auto size = static_cast<size_t>(received); size > 0;) {
    const size_t taken = frame_bytes_left_ == 0 ? take_header(data, size) : take_payload(data, size);
    if (taken == 0) return IoResult::wrong_byte;
    data += taken;
    size -= taken;
  }
  return IoResult::ok;
}

size_t WebSocketConnection::take_header(const char* data, size_t size) {
  for (size_t taken = 0; taken < size;) {
    header_[header_bytes_++] = static_cast<unsigned char>(data[taken++]);
    if (header_bytes_ < 2) continue;
    const unsigned char length = header_[1] & 0x7f;
    const size_t length_bytes = length == length_64_bits ? 8 : length == length_16_bits ? 2 : 0;
    if (header_bytes_ < 2 + length_bytes) continue;
    frame_bytes_left_ = length_bytes == 0 ? length : big_endian(header_.data() + 2, length_bytes);
    header_bytes_ = 0;
    return begin_frame() ? taken : 0;
  }
  return size;
}

bool WebSocketConnection::begin_frame() {
  opcode_ = static_cast<Opcode>(header_[0] & 0x0f);
  if ((header_[0] & reserved_bits) != 0 || (header_[1] & mask_bit) != 0) return refuse("a frame with reserved bits or a mask");
  switch (opcode_) {
    case Opcode::continuation:
    case Opcode::binary:
      // More bytes than were sent are wrong too, whatever they hold.
      if ((opcode_ == Opcode::continuation) != message_open_) return refuse("a frame out of its order");
      message_open_ = true;
      if (arrived_ == started_ || frame_bytes_left_ > message_bytes_ - message_offset_) return refuse("more bytes than were sent");
      break;
    case Opcode::ping:
    case Opcode::pong:
      if (frame_bytes_left_ > control_bytes_max) return refuse("a control frame of more than 125 bytes");
      control_.clear();
      break;
    case Opcode::close: return refuse("the server closed it");
    default: return refuse("a frame of another type");
  }
  return frame_bytes_left_ > 0 || end_frame();
}

size_t WebSocketConnection::take_payload(const char* data, size_t size) {
  const auto taken = static_cast<size_t>(std::min<uint64_t>(size, frame_bytes_left_));
  if (opcode_ == Opcode::ping || opcode_ == Opcode::pong) {
    control_.insert(control_.end(), data, data + taken);
  } else {
    const uint64_t position = arrived_ * message_bytes_ + message_offset_;
    if (!pattern_->matches(number_, position, data, taken)) {
      refuse("wrong byte in message " + std::to_string(arrived_));
      return 0;
    }
    message_offset_ += taken;
  }
  frame_bytes_left_ -= taken;
  return frame_bytes_left_ > 0 || end_frame() ? taken : 0;
}

bool WebSocketConnection::end_frame() {
  if (opcode_ == Opcode::ping) append_frame(Opcode::pong, control_.data(), control_.size());
  if (opcode_ == Opcode::ping || opcode_ == Opcode::pong || (header_[0] & fin_bit) == 0) return true;
  if (message_offset_ != message_bytes_) return refuse("a message that is too short");
  message_offset_ = 0;
  message_open_ = false;
  ++arrived_;
  return true;
}

}  // namespace cxxloop::benchmarks
