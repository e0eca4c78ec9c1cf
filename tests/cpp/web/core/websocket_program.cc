// SPDX-License-Identifier: MIT
#include "cpp/web/core/websocket_program.h"

#include <algorithm>
#include <array>
#include <utility>

#include "cpp/web/core/websocket_client.h"

namespace cxxloop::web {
namespace {

sim::Faults gentle_faults() {
  sim::Faults faults = sim::Faults::benign();
  faults.late_cancels = 300;
  return faults;
}

sim::Faults rough_faults() {
  sim::Faults faults = sim::Faults::harsh();
  faults.resets = 5;
  faults.submit_errors = 10;
  return faults;
}

}  // namespace

// WebSocketClient

WebSocketClient::WebSocketClient(WebSocketProgram& program, int fd)
    : program_(program), fd_(fd), has_deflate_(program.choices().chance(500)) {
  unsent_ =
      "GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
      "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";
  if (has_deflate_) {
    const bool forgets = program.choices().chance(500);
    unsent_ += "Sec-WebSocket-Extensions: permessage-deflate";
    unsent_ += forgets ? "; server_no_context_takeover; client_no_context_takeover\r\n" : "\r\n";
    // Each side's names: what the client writes with is what a server would read with.
    deflater_.emplace(DeflateParameters{.server_no_context_takeover = forgets});
    inflater_.emplace(DeflateParameters{.client_window_bits = 12, .client_no_context_takeover = forgets});
  }
  unsent_ += "\r\n";
}

void WebSocketClient::act() noexcept {
  if (is_over()) return;
  sim::Choices& choices = program_.choices();
  switch (choices.below(10)) {
    case 0: case 1: return say_something();
    case 2: case 3: return send(choices.between(1, 20));
    case 4: case 5: return send(choices.between(1, 5'000));
    case 6: return receive(choices.between(1, 50));
    case 7: case 8: return receive(10'000);
    default: break;
  }
  if (program_.gentle() || !choices.chance(60)) return receive(10'000);
  if (choices.chance(300)) return say_close();
  left_early_ = true;
  if (choices.chance(300)) unsent_ += "nonsense that is no frame";
  choices.chance(500) ? hang_up() : program_.backend().reset(fd_);
}

void WebSocketClient::say_something() {
  if (has_closed_ || unsent_.size() > 100'000) return;
  sim::Choices& choices = program_.choices();
  if (choices.chance(800)) return say_message();
  pings_.push_back(std::to_string(pings_.size()));
  unsent_ += client_frame(choices.chance(800) ? Opcode::ping : Opcode::pong, pings_.back());
  if (static_cast<uint8_t>(unsent_[unsent_.size() - pings_.back().size() - 6]) == 0x8A) pings_.pop_back();
}

void WebSocketClient::say_message() {
  sim::Choices& choices = program_.choices();
  const size_t size = choices.chance(50) ? choices.between(0, 70'000) : choices.between(0, 300);
  ProgramMessage message{choices.chance(500) ? MessageKind::text : MessageKind::binary, {}};
  const size_t begin = said_.size();
  for (size_t i = 0; i < size; ++i) message.bytes += static_cast<char>('a' + (begin * 7 + i + i / 26) % 26);
  std::string payload = message.bytes;
  const bool is_compressed = has_deflate_ && choices.chance(500);
  if (is_compressed) {
    ByteBuffer out;
    program_.check(deflater_->deflate(message.bytes, out), "deflate()");
    payload = out.view();
  }
  auto first = static_cast<uint8_t>((message.kind == MessageKind::text ? 0x01 : 0x02) | (is_compressed ? 0x40 : 0));
  said_.push_back(std::move(message));
  while (choices.chance(300)) {  // a fragment
    const size_t bytes = choices.below(payload.size() + 1);
    unsent_ += client_frame({.first = std::exchange(first, uint8_t{0}), .payload = payload.substr(0, bytes)});
    payload.erase(0, bytes);
  }
  unsent_ += client_frame({.first = static_cast<uint8_t>(first | 0x80), .payload = payload});
}

void WebSocketClient::say_close() {
  if (!std::exchange(has_closed_, true)) unsent_ += client_close(1000);
}

void WebSocketClient::send(size_t bytes_max) noexcept {
  if (unsent_.empty()) return;
  Result<size_t> sent = program_.backend().write(fd_, std::string_view(unsent_).substr(0, bytes_max));
  if (sent.ok()) {
    unsent_.erase(0, sent.value());
  } else if (sent.error() != Errno::again) {
    program_.check(!program_.gentle() || is_closed_, "the server takes what is sent until it has closed");
    unsent_.clear();
  }
}

void WebSocketClient::receive(size_t bytes_max) noexcept {
  std::array<std::byte, 10'000> bytes;
  Result<size_t> size = program_.backend().read(fd_, std::span(bytes).first(bytes_max));
  if (!size.ok()) {
    if (size.error() == Errno::again) return;
    program_.check(!program_.gentle(), "nothing is lost by a reset");
    left_early_ = true;
    return hang_up();
  }
  if (size.value() == 0) {
    check_the_end();
    return hang_up();
  }
  received_.append(reinterpret_cast<const char*>(bytes.data()), size.value());
  while (parse()) {
  }
}

void WebSocketClient::hang_up() noexcept { program_.backend().close(std::exchange(fd_, -1)); }

// True: there may be more to parse.
bool WebSocketClient::parse() {
  if (!is_open_) {
    const size_t end = received_.find("\r\n\r\n");
    if (end == received_.npos) return false;
    is_open_ = received_.starts_with("HTTP/1.1 101 ");
    program_.check(is_open_ || !program_.gentle(), "the handshake is accepted");
    if (!is_open_) return left_early_ = true, received_.clear(), false;
    program_.check((received_.substr(0, end).find("permessage-deflate") != received_.npos) == has_deflate_, "what was offered is agreed upon");
    received_.erase(0, end + 4);
    return true;
  }
  if (received_.size() < 2) return false;
  const auto byte = [this](size_t at) { return static_cast<uint8_t>(received_[at]); };
  size_t size = byte(1);
  const size_t length_bytes = size == 127 ? 8 : size == 126 ? 2 : 0;
  if (received_.size() < 2 + length_bytes) return false;
  if (length_bytes > 0) size = 0;
  for (size_t i = 0; i < length_bytes; ++i) size = size << 8 | byte(2 + i);
  if (received_.size() < 2 + length_bytes + size) return false;
  const std::string payload = received_.substr(2 + length_bytes, size);
  const uint8_t first = byte(0);
  received_.erase(0, 2 + length_bytes + size);
  take_frame(first, payload);
  return true;
}

void WebSocketClient::take_frame(uint8_t first, std::string_view payload) {
  program_.check(!is_closed_, "nothing follows the close frame");
  const auto opcode = static_cast<Opcode>(first & 0x0F);
  if (opcode == Opcode::close) {
    is_closed_ = true;
    say_close();
    return;
  }
  if (opcode == Opcode::ping) return;
  if (opcode == Opcode::pong) {
    const auto found = std::find(pings_.begin() + static_cast<std::ptrdiff_t>(ponged_), pings_.end(), payload);
    program_.check(found != pings_.end(), "a pong answers a ping, in order");
    ponged_ = static_cast<size_t>(found - pings_.begin()) + 1;
    return;
  }
  ProgramMessage message{opcode == Opcode::text ? MessageKind::text : MessageKind::binary, std::string(payload)};
  if ((first & 0x40) != 0) {
    ByteBuffer out;
    const bool is_read = has_deflate_ && inflater_->inflate(payload, true, out, UINT64_MAX) == MessageInflater::Outcome::ok;
    program_.check(is_read, "what is compressed can be expanded");
    message.bytes = out.view();
  }
  program_.check(answered_ < said_.size() && message == said_[answered_], "messages come back whole and in order");
  ++answered_;
}

void WebSocketClient::check_the_end() noexcept {
  if (!program_.gentle()) return;
  program_.check(is_closed_ && received_.empty(), "a connection ends with a close frame");
  program_.check(answered_ == said_.size(), "every message comes back");
}

void WebSocketClient::wind_up() noexcept {
  if (is_over()) return;
  send(100'000);
  receive(10'000);
  if (is_over()) return;
  if (answered_ == said_.size() || !program_.gentle()) say_close();
  if (left_early_) hang_up();
}

// WebSocketEcho

WebSocketEcho::WebSocketEcho(WebSocketProgram& program, Exchange& exchange) : program_(program), exchange_(&exchange) {
  exchange.set_user(*this);
}

void WebSocketEcho::accept() noexcept {
  is_accepting_ = true;
  const Accepted accepted = exchange_->accept({}, {}, *this);
  is_accepting_ = false;
  program_.check(accepted.fault == nullptr || !program_.gentle(), "accept()");
  if (!is_over_) socket_ = accepted.socket;
}

void WebSocketEcho::act() noexcept {
  sim::Choices& choices = program_.choices();
  if (is_over_ || is_accepting_) return;
  if (socket_ == nullptr) {
    if (!program_.gentle() && choices.chance(50)) return exchange_->abort();
    return accept();
  }
  if (!program_.gentle() && choices.chance(10)) {
    program_.check(socket_->close({4000, "enough"}) == nullptr, "close()");
    return program_.check(is_over_, "close() ends");
  }
  if (choices.chance(200) || program_.winds_up()) {
    reads_ = program_.winds_up() || choices.chance(700);
    socket_->set_reading(reads_);
  }
  send_one();
}

void WebSocketEcho::send_one() noexcept {
  if (owed_.empty() || socket_->is_full()) return;
  const ProgramMessage message = std::move(owed_.front());
  owed_.pop_front();
  const bool is_lent = program_.choices().chance(500);
  void* const owner = is_lent ? program_.lend(message.bytes) : nullptr;
  const char* const fault = socket_->send(message.kind, is_lent ? WebSocketProgram::lent(owner) : message.bytes, owner);
  program_.check(fault == nullptr, "send()");
  if (fault != nullptr && is_lent) WebSocketProgram::take_back(owner);
}

void WebSocketEcho::on_disconnect() noexcept { program_.check(!is_over_ && socket_ == nullptr, "on_disconnect() before the WebSocket"); }

void WebSocketEcho::on_drained() noexcept {
  program_.check(!is_over_, "nothing after on_end()");
  program_.disturb();
  if (!is_over_ && socket_ != nullptr) send_one();
}

void WebSocketEcho::on_end(const Ending& ending) noexcept {
  program_.check(exchange_ != nullptr && !is_over_, "the exchange ends once");
  exchange_ = nullptr;
  is_over_ = !is_accepting_;
  program_.check(is_accepting_ == (ending.status == 101), "101 is the status of a WebSocket");
  program_.disturb();
}

void WebSocketEcho::on_message(MessageKind kind, std::string_view bytes) noexcept {
  program_.check(!is_over_, "nothing after on_end()");
  program_.check(reads_, "no message while the application does not read");
  owed_.push_back({kind, std::string(bytes)});
  program_.disturb();
  if (!is_over_ && program_.choices().chance(700)) act();
}

void WebSocketEcho::on_end(CloseReason close) noexcept {
  program_.check(!is_over_ && exchange_ == nullptr, "the WebSocket ends once");
  program_.check(!program_.gentle() || (close.code == 1000 && owed_.empty()), "a WebSocket ends when the client has closed it");
  is_over_ = true;
  socket_ = nullptr;
  program_.disturb();
}

// WebSocketProgram

WebSocketProgram::WebSocketProgram(uint64_t world_seed, sim::Choices& choices, bool gentle)
    : backend_(std::make_unique<sim::SimBackend>(world_seed, gentle ? gentle_faults() : rough_faults())),
      choices_(choices),
      gentle_(gentle),
      engine_(*backend_) {
  backend_->set_pipe_capacity(choices.between(100, 20'000));
  engine_.cork().open();
  server_ = std::make_unique<Server>(engine_, *backend_, *this, make_options());
  listener_ = backend_->make_listener();
  while (server_->listen(listener_) != Errno::ok) {
  }
}

WebSocketProgram::~WebSocketProgram() {
  if (!broken_.empty()) {  // a promise was broken: its ops may be anywhere
    (void)server_.release();
    (void)backend_.release();
  }
}

ServerOptions WebSocketProgram::make_options() noexcept {
  ServerOptions options;
  options.date_header = false;
  options.release = release;
  Limits& limits = options.limits;
  limits.write_buffer_bytes = choices_.between(1, 20'000);
  limits.body_buffer_bytes = choices_.between(1, 20'000);
  for (int64_t* const limit_ns : {&limits.head_ns, &limits.handler_ns, &limits.idle_ns, &limits.write_ns, &limits.websocket.close_ns, &limits.websocket.pong_ns}) {
    *limit_ns = gentle_ ? 0 : static_cast<int64_t>(choices_.between(1, 400)) * 1'000'000;
  }
  limits.websocket.ping_ns = static_cast<int64_t>(choices_.between(0, 100)) * 1'000'000;
  if (!gentle_) limits.websocket.message_bytes_max = choices_.between(1, 70'000);
  return options;
}

void WebSocketProgram::check(bool kept, const char* promise) noexcept {
  if (!kept && broken_.empty()) broken_ = promise;
}

void WebSocketProgram::disturb() noexcept {
  if (depth_ >= 3 || echoes_.empty() || !choices_.chance(300)) return;
  ++depth_;
  echoes_[choices_.below(echoes_.size())]->act();
  --depth_;
}

// The bytes are freed at once, so that whoever still reads them is found out by AddressSanitizer.
void WebSocketProgram::release(void* owner) noexcept {
  Loan& loan = *static_cast<Loan*>(owner);
  loan.program->check(!std::exchange(loan.released, true), "what is lent is released once");
  loan.bytes = {};
}

void WebSocketProgram::on_request(Exchange& exchange, const Request& request) noexcept {
  check(request.asks_websocket, "a WebSocket is asked for");
  WebSocketEcho& made = *echoes_.emplace_back(std::make_unique<WebSocketEcho>(*this, exchange));
  disturb();
  if (choices_.chance(500)) made.act();
}

void WebSocketProgram::connect() { clients_.push_back(std::make_unique<WebSocketClient>(*this, backend_->connect(listener_))); }

void WebSocketProgram::turn(int64_t wait_ns) noexcept {
  TimerTask* const next = engine_.next_timer();
  int64_t until_ns = backend_->now_ns() + wait_ns;
  if (next != nullptr) until_ns = std::min(until_ns, next->node.deadline_ns);
  check(backend_->wait(Deadline{until_ns}) == Errno::ok, "wait()");
  while (broken_.empty() && backend_->collected() > 0) engine_.dispatch_one();
  const int64_t now_ns = backend_->now_ns();
  while (broken_.empty()) {
    TimerTask* const timer = engine_.due_timer(now_ns);
    if (timer == nullptr) break;
    engine_.run_timer(*timer);
  }
}

void WebSocketProgram::act() noexcept {
  if (choices_.chance(600)) return clients_[choices_.below(clients_.size())]->act();
  if (echoes_.empty()) return;
  echoes_[choices_.below(echoes_.size())]->act();
  engine_.pull_cork();
}

void WebSocketProgram::play() {
  connect();
  while (broken_.empty() && !choices_.exhausted()) {
    if (choices_.chance(30) && clients_.size() < clients_max && !has_drained_) connect();
    for (size_t deeds = choices_.below(8); deeds > 0; --deeds) act();
    turn(choices_.chance(100) ? 50'000'000 : 1'000'000);
    if (!gentle_ && !has_drained_ && choices_.chance(2)) {
      has_drained_ = true;
      server_->drain();
    }
  }
}

// Every message comes back, and every client closes.
void WebSocketProgram::wind_up() {
  winds_up_ = true;
  if (!gentle_) backend_->set_faults(gentle_faults());
  for (int turns = 0; broken_.empty(); ++turns) {
    bool over = true;
    for (const auto& client : clients_) {
      client->wind_up();
      over = over && client->is_over();
    }
    for (size_t i = 0; i < echoes_.size(); ++i) {
      echoes_[i]->act();
      engine_.pull_cork();
      over = over && echoes_[i]->is_over();
    }
    if (over && server_->counters().connections == 0) return;
    turn(1'000'000);
    check(turns < 30'000, "nobody waits for ever");
  }
}

void WebSocketProgram::end() {
  if (!server_->close()) {
    backend_->drain();
    server_->finish_close();
  }
  check(server_->counters().connections == 0 && server_->counters().exchanges == 0, "close() leaves nothing");
  if (broken_.empty()) server_.reset();
}

void WebSocketProgram::check_the_end() {
  for (const auto& echo : echoes_) check(echo->is_over(), "every WebSocket ends");
  for (const Loan& loan : loans_) check(loan.released, "what is lent is released");
  for (const auto& client : clients_) {
    if (!client->is_over()) backend_->close(client->fd());
  }
  check(backend_->ops_count() == 0, "no op is left in the kernel");
  check(!engine_.has_timers(), "no timer is left");
  if (backend_->is_open(listener_)) backend_->close(listener_);
  check(backend_->open_count() == 0, "no descriptor is left open");
}

std::string WebSocketProgram::run() {
  play();
  // Half of the rough programs end in the middle of everything.
  if (broken_.empty() && (gentle_ || choices_.chance(500))) wind_up();
  if (broken_.empty()) end();
  if (broken_.empty()) check_the_end();
  return broken_;
}

}  // namespace cxxloop::web
