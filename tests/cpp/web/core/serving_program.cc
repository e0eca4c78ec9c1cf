// SPDX-License-Identifier: MIT
#include "cpp/web/core/serving_program.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <utility>

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

// Reads a number behind `name` in a head; npos: it is not there.
size_t number_of(std::string_view head, std::string_view name, int base = 10) {
  const size_t at = head.find(name);
  if (at == head.npos) return head.npos;
  size_t number = head.npos;
  std::from_chars(head.data() + at + name.size(), head.data() + head.size(), number, base);
  return number;
}

}  // namespace

// ProgramClient

ProgramClient::ProgramClient(ServingProgram& program, size_t number, int fd) : program_(program), number_(number), fd_(fd) {
  make_asks();
  for (const Ask& ask : asks_) unsent_ += ask.text;
}

void ProgramClient::make_asks() {
  sim::Choices& choices = program_.choices();
  for (size_t i = 0, count = choices.between(1, 6); i < count; ++i) {
    Ask& ask = asks_.emplace_back();
    ask.is_nonsense = !program_.gentle() && choices.chance(50);
    if (ask.is_nonsense) {
      ask.text = "GET nonsense HTTP/1.1\r\n\r\n";
      if (choices.chance(500)) return;
      ask.text = "POST /" + std::to_string(number_) + "/" + std::to_string(i) + " HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n";
      ask.text += ServingProgram::byte(number_, i, 0);
      ask.text += "nonsense";
      return;
    }
    const bool is_old = choices.chance(80);
    ask.is_head = choices.chance(80);
    ask.is_last = is_old || choices.chance(60);
    ask.text = ask.is_head ? "HEAD " : choices.chance(500) ? "GET " : "POST ";
    ask.text += "/" + std::to_string(number_) + "/" + std::to_string(i) + (is_old ? " HTTP/1.0\r\n" : " HTTP/1.1\r\nHost: h\r\n");
    if (ask.is_last && !is_old) ask.text += "Connection: close\r\n";
    const bool has_body = choices.chance(500);
    const bool is_chunked = has_body && !is_old && choices.chance(500);
    if (has_body) ask.body_bytes = choices.chance(50) ? choices.between(1, 150'000) : choices.between(1, 3'000);
    std::string body;
    for (size_t k = 0; k < ask.body_bytes; ++k) body += ServingProgram::byte(number_, i, k);
    if (has_body && choices.chance(100) && !is_old) ask.text += "Expect: 100-continue\r\n";
    if (is_chunked) {
      ask.text += "Transfer-Encoding: chunked\r\n\r\n";
      for (size_t at = 0; at < body.size();) {
        const size_t size = std::min(choices.between(1, 2000), body.size() - at);
        std::array<char, 16> digits;
        ask.text.append(digits.data(), std::to_chars(digits.data(), digits.data() + 16, size, 16).ptr);
        ask.text += "\r\n" + body.substr(at, size) + "\r\n";
        at += size;
      }
      ask.text += "0\r\n\r\n";
    } else {
      if (has_body) ask.text += "Content-Length: " + std::to_string(body.size()) + "\r\n";
      ask.text += "\r\n" + body;
    }
    if (ask.is_last) return;
  }
}

void ProgramClient::act() noexcept {
  if (is_over()) return;
  sim::Choices& choices = program_.choices();
  switch (choices.below(10)) {
    case 0: case 1: case 2: return send(choices.between(1, 20));
    case 3: case 4: return send(choices.between(1, 5'000));
    case 5: case 6: return receive(choices.between(1, 50));
    case 7: case 8: return receive(10'000);
    default: break;
  }
  if (program_.gentle() || !choices.chance(60)) return receive(10'000);
  left_early_ = true;
  if (choices.chance(300)) return program_.backend().reset(fd_);
  if (choices.chance(500)) return hang_up();
  if (!std::exchange(has_shut_, true)) (void)program_.backend().shutdown_write(fd_);
}

void ProgramClient::send(size_t bytes_max) noexcept {
  if (unsent_.empty() || has_shut_) return;
  Result<size_t> sent = program_.backend().write(fd_, std::string_view(unsent_).substr(0, bytes_max));
  if (sent.ok()) {
    unsent_.erase(0, sent.value());
  } else if (sent.error() != Errno::again) {
    program_.check(!program_.gentle() || was_last_, "the server takes what is sent until its last response");
    unsent_.clear();
  }
}

void ProgramClient::receive(size_t bytes_max) noexcept {
  std::array<std::byte, 10'000> bytes;
  Result<size_t> size = program_.backend().read(fd_, std::span(bytes).first(bytes_max));
  if (!size.ok()) {
    if (size.error() == Errno::again) return;
    program_.check(!program_.gentle(), "no response is lost by a reset");
    left_early_ = true;
    return hang_up();
  }
  if (size.value() == 0) {
    check_the_end();
    return hang_up();
  }
  received_.append(reinterpret_cast<const char*>(bytes.data()), size.value());
  parse();
}

void ProgramClient::hang_up() noexcept { program_.backend().close(std::exchange(fd_, -1)); }

void ProgramClient::parse() noexcept {
  while (!received_.empty() && (in_body_ ? parse_body() : parse_head())) {
  }
}

// True: there may be more to parse.
bool ProgramClient::parse_head() noexcept {
  const size_t end = received_.find("\r\n\r\n");
  if (end == received_.npos) return false;
  const std::string head = received_.substr(0, end + 4);
  received_.erase(0, end + 4);
  program_.check(head.starts_with("HTTP/1.1 "), "a response begins where the last one ended");
  const size_t status = number_of(head, "HTTP/1.1 ");
  if (status < 200) return true;
  program_.check(!was_last_, "no response follows the last one");
  program_.check(answered_ < asks_.size(), "no more responses than requests");
  if (answered_ >= asks_.size()) return false;
  is_error_ = head.find("x-id: ") == head.npos;
  if (is_error_) {
    program_.check(!program_.gentle(), "the server does not answer for the application");
  } else {
    program_.check(number_of(head, "x-id: ") == number_ && number_of(head, "x-ask: ") == answered_, "responses come in order");
  }
  was_last_ = head.find("connection: close\r\n") != head.npos;
  program_.check(!is_error_ || was_last_, "an error ends the connection");
  const size_t length = number_of(head, "content-length: ");
  const bool is_chunked = head.find("transfer-encoding: chunked") != head.npos;
  framing_ = is_chunked ? Framing::chunk_line : length != head.npos ? Framing::length : Framing::close;
  left_ = length != head.npos ? length : 0;
  position_ = 0;
  in_body_ = true;
  if ((asks_[answered_].is_head && (!is_error_ || status != 503 || left_ == 0 || received_.empty())) || status == 204) {
    end_response();
  } else if (framing_ == Framing::length && left_ == 0) {
    end_response();
  }
  return true;
}

bool ProgramClient::parse_body() noexcept {
  if (framing_ == Framing::chunk_line) return parse_chunk_line();
  const size_t bytes = framing_ == Framing::close ? received_.size() : std::min(left_, received_.size());
  take_body(bytes);
  if (framing_ == Framing::close) return false;
  left_ -= bytes;
  if (left_ > 0) return false;
  if (framing_ == Framing::length) {
    end_response();
  } else {
    framing_ = Framing::chunk_line;
  }
  return true;
}

void ProgramClient::take_body(size_t bytes) noexcept {
  for (size_t i = 0; i < bytes && !is_error_; ++i) {
    program_.check(received_[i] == ServingProgram::byte(number_, answered_, position_++), "the bytes of a response are its own");
  }
  received_.erase(0, bytes);
}

// The line of a size, with the end of the chunk before it.
bool ProgramClient::parse_chunk_line() noexcept {
  const size_t begin = position_ > 0 ? 2 : 0;
  const size_t end = received_.find("\r\n", begin);
  if (received_.size() < begin || end == received_.npos) return false;
  program_.check(begin == 0 || received_.starts_with("\r\n"), "a chunk ends with an empty line");
  left_ = number_of(std::string_view(received_).substr(begin, end - begin), "", 16);
  program_.check(left_ < 1'000'000, "the size of a chunk");
  if (left_ > 0) {
    received_.erase(0, end + 2);
    framing_ = Framing::chunk;
    return true;
  }
  if (received_.size() < end + 4) return false;
  program_.check(received_.substr(end, 4) == "\r\n\r\n", "the last chunk has no trailers");
  received_.erase(0, end + 4);
  end_response();
  return true;
}

void ProgramClient::end_response() noexcept {
  in_body_ = false;
  ++answered_;
}

void ProgramClient::check_the_end() noexcept {
  if (in_body_ && framing_ == Framing::close) end_response();
  if (!program_.gentle()) return;
  program_.check(!in_body_ && received_.empty(), "no response is cut off");
  program_.check(answered_ == asks_.size() || was_last_, "every request is answered");
}

void ProgramClient::wind_up() noexcept {
  if (is_over()) return;
  send(100'000);
  receive(10'000);
  if (is_over() || !unsent_.empty() || in_body_) return;
  const bool has_all = answered_ == asks_.size() || was_last_;
  if ((has_all && received_.empty()) || left_early_) hang_up();
}

// ProgramExchange

ProgramExchange::ProgramExchange(ServingProgram& program, Exchange& exchange, const Request& request)
    : program_(program), exchange_(&exchange) {
  exchange.set_user(*this);
  sim::Choices& choices = program.choices();
  const std::string_view path = request.head.path;
  client_ = number_of(path, "/");
  ask_ = number_of(path.substr(std::min(path.find('/', 1), path.size())), "/");
  wants_body_ = choices.chance(700);
  knows_size_ = choices.chance(500);
  size_ = choices.chance(100) ? choices.between(1, 200'000) : choices.below(6'000);
}

void ProgramExchange::expect(const char* fault, const char* promise) noexcept {
  program_.check(fault == nullptr || !program_.gentle(), promise);
}

void ProgramExchange::act() noexcept {
  if (is_over()) return;
  program_.check(exchange_->is_started() == started_ || !program_.gentle(), "is_started()");
  sim::Choices& choices = program_.choices();
  if (!program_.gentle() && choices.chance(10)) return exchange_->abort();
  if (wants_body_ && !has_body_ && (started_ || choices.chance(700) || program_.winds_up())) {
    if (!waits_body_) return take_body();
    if (!started_ || choices.chance(500)) return;
  }
  if (!wants_body_ || has_body_ || choices.chance(100)) respond();
}

void ProgramExchange::take_body() noexcept {
  while (!is_over()) {
    const BodyPart part = exchange_->take_body();
    switch (part.kind) {
      case BodyPart::Kind::data:
        program_.check(!part.bytes.empty(), "a part of a body is never empty");
        for (const char c : part.bytes) {
          if (program_.is_client(client_)) program_.check(c == ServingProgram::byte(client_, ask_, body_position_++), "the bytes of a body are its own");
        }
        if (program_.choices().chance(200)) return;
        continue;
      case BodyPart::Kind::wait: waits_body_ = true; return;
      case BodyPart::Kind::lost:
        program_.check(!program_.gentle(), "no body is lost");
        has_body_ = true;
        return;
      case BodyPart::Kind::end:
        has_body_ = true;
        if (program_.is_client(client_) && !program_.client(client_).ask(ask_).is_nonsense) {
          program_.check(body_position_ == program_.client(client_).ask(ask_).body_bytes, "a body ends where it ends");
        }
        return;
    }
  }
}

void ProgramExchange::respond() noexcept {
  if (!started_) return start();
  if (waits_drain_) return program_.check(exchange_->is_full() || !program_.gentle(), "full until told otherwise");
  if (written_ < size_) return write();
  const char* const fault = exchange_->end();
  expect(fault, "end()");
  program_.check(fault != nullptr || is_over(), "end() ends");
}

void ProgramExchange::start() noexcept {
  sim::Choices& choices = program_.choices();
  if (choices.chance(50)) expect(exchange_->inform(103, {}), "inform()");
  const std::string client = std::to_string(client_);
  const std::string ask = std::to_string(ask_);
  const Header headers[] = {{"x-id", client}, {"x-ask", ask}};
  ResponseStart response{.headers = headers};
  if (knows_size_) response.body_bytes = size_;
  const char* const fault = exchange_->start(response);
  expect(fault, "start()");
  started_ = fault == nullptr;
}

void ProgramExchange::write() noexcept {
  sim::Choices& choices = program_.choices();
  const size_t bytes = std::min(size_ - written_, choices.chance(300) ? choices.between(1, 40'000) : choices.between(1, 800));
  std::string copy;
  void* owner = nullptr;
  if (choices.chance(500)) {
    owner = program_.lend(bytes, ServingProgram::byte(client_, ask_, written_));
  } else {
    for (size_t i = 0; i < bytes; ++i) copy += ServingProgram::byte(client_, ask_, written_ + i);
  }
  const char* const fault = exchange_->write(owner != nullptr ? program_.lent(owner) : copy, owner);
  expect(fault, "write()");
  if (fault != nullptr) return exchange_->abort();
  written_ += bytes;
  waits_drain_ = !is_over() && exchange_->is_full();
}

void ProgramExchange::on_body() noexcept {
  program_.check(!is_over(), "nothing after on_end()");
  program_.check(std::exchange(waits_body_, false), "on_body() only after wait");
  program_.disturb();
  if (program_.choices().chance(700)) act();
}

void ProgramExchange::on_disconnect() noexcept {
  program_.check(!is_over(), "nothing after on_end()");
  program_.check(!std::exchange(told_disconnect_, true), "on_disconnect() once");
  program_.check(exchange_->is_disconnected(), "is_disconnected()");
  program_.disturb();
}

void ProgramExchange::on_drained() noexcept {
  program_.check(!is_over(), "nothing after on_end()");
  program_.check(!exchange_->is_full(), "not full any more");
  waits_drain_ = false;
  program_.disturb();
  if (program_.choices().chance(700)) act();
}

void ProgramExchange::on_end(const Ending& ending) noexcept {
  program_.check(!is_over(), "on_end() once");
  program_.check(!program_.gentle() || ending.why == Ending::Why::answered, "nothing ends but by an answer");
  program_.check(ending.why != Ending::Why::answered || ending.status == 200, "the status of an answer");
  exchange_ = nullptr;
  program_.count_end();
  program_.disturb();
}

// ServingProgram

ServingProgram::ServingProgram(uint64_t world_seed, sim::Choices& choices, bool gentle)
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

ServingProgram::~ServingProgram() {
  if (!broken_.empty()) {  // a promise was broken: its ops may be anywhere
    (void)server_.release();
    (void)backend_.release();
  }
}

ServerOptions ServingProgram::make_options() noexcept {
  ServerOptions options;
  options.date_header = false;
  options.release = release;
  Limits& limits = options.limits;
  limits.write_buffer_bytes = choices_.between(1, 20'000);
  limits.body_buffer_bytes = choices_.between(1, 20'000);
  if (gentle_) {
    for (int64_t* const limit_ns : {&limits.head_ns, &limits.body_ns, &limits.handler_ns, &limits.idle_ns, &limits.write_ns}) *limit_ns = 0;
    limits.body_rate_min = 0;
    return options;
  }
  for (int64_t* const limit_ns : {&limits.head_ns, &limits.body_ns, &limits.handler_ns, &limits.idle_ns, &limits.write_ns}) {
    *limit_ns = static_cast<int64_t>(choices_.between(1, 400)) * 1'000'000;
  }
  limits.body_bytes_max = choices_.between(1, 100'000);
  limits.connections_max = choices_.between(1, clients_max);
  limits.connections_per_address_max = choices_.between(1, clients_max);
  limits.requests_per_connection_max = choices_.between(1, 8);
  return options;
}

void ServingProgram::check(bool kept, const char* promise) noexcept {
  if (!kept && broken_.empty()) broken_ = promise;
}

void ServingProgram::disturb() noexcept {
  if (depth_ >= 3 || exchanges_.empty() || !choices_.chance(300)) return;
  ++depth_;
  exchanges_[choices_.below(exchanges_.size())]->act();
  --depth_;
}

// The bytes are freed at once, so that whoever still reads them is found out by AddressSanitizer.
void ServingProgram::release(void* owner) noexcept {
  Loan& loan = *static_cast<Loan*>(owner);
  loan.program->check(!std::exchange(loan.released, true), "what is lent is released once");
  loan.bytes = {};
}

void* ServingProgram::lend(size_t bytes, char first) noexcept {
  Loan& loan = loans_.emplace_back(Loan{this, {}});
  for (size_t i = 0; i < bytes; ++i) loan.bytes += static_cast<char>('a' + (static_cast<size_t>(first - 'a') + i) % 26);
  return &loan;
}

void* ServingProgram::on_connect(int, const io::Address&) noexcept { return &guests_.emplace_back(); }

void ServingProgram::on_connection_end(void* connection) noexcept {
  check(!std::exchange(static_cast<Guest*>(connection)->ended, true), "on_connection_end() once");
}

void ServingProgram::on_request(Exchange& exchange, const Request& request) noexcept {
  check(!static_cast<Guest*>(request.connection)->ended, "no request after on_connection_end()");
  ProgramExchange& made = *exchanges_.emplace_back(std::make_unique<ProgramExchange>(*this, exchange, request));
  disturb();
  for (size_t deeds = choices_.chance(500) ? 0 : choices_.below(20); deeds > 0; --deeds) made.act();
}

void ServingProgram::connect() {
  clients_.push_back(std::make_unique<ProgramClient>(*this, clients_.size(), backend_->connect(listener_)));
}

void ServingProgram::turn(int64_t wait_ns) noexcept {
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

void ServingProgram::act() noexcept {
  if (choices_.chance(500)) return clients_[choices_.below(clients_.size())]->act();
  if (exchanges_.empty()) return;
  exchanges_[choices_.below(exchanges_.size())]->act();
  engine_.pull_cork();
}

void ServingProgram::play() {
  connect();
  while (broken_.empty() && !choices_.exhausted()) {
    if (choices_.chance(30) && clients_.size() < clients_max && !drained_) connect();
    for (size_t deeds = choices_.below(8); deeds > 0; --deeds) act();
    turn(choices_.chance(100) ? 50'000'000 : 1'000'000);
    if (!gentle_ && !drained_ && choices_.chance(2)) {
      drained_ = true;
      server_->drain();
    }
  }
}

// Every request that was begun is sent and answered, and what was answered is read.
void ServingProgram::wind_up() {
  winds_up_ = true;
  if (!gentle_) backend_->set_faults(gentle_faults());
  for (int turns = 0; broken_.empty(); ++turns) {
    bool over = true;
    for (const auto& client : clients_) {
      client->wind_up();
      over = over && client->is_over();
    }
    for (size_t i = 0; i < exchanges_.size(); ++i) {
      exchanges_[i]->act();
      engine_.pull_cork();
      over = over && exchanges_[i]->is_over();
    }
    if (over && server_->counters().connections == 0) return;
    turn(1'000'000);
    check(turns < 30'000, "nobody waits for ever");
  }
}

void ServingProgram::end() {
  if (!drained_ && choices_.chance(500)) {
    drained_ = true;
    server_->drain();
    check(idle_ || server_->counters().connections > 0, "on_idle() when there is no connection");
  }
  if (!server_->close()) {
    backend_->drain();
    server_->finish_close();
  }
  check(server_->counters().connections == 0 && server_->counters().exchanges == 0, "close() leaves nothing");
  if (broken_.empty()) server_.reset();
}

void ServingProgram::check_the_end() {
  check(exchange_ends_ == exchanges_.size(), "every exchange ends once");
  for (const Loan& loan : loans_) check(loan.released, "what is lent is released");
  for (const Guest& guest : guests_) check(guest.ended, "every connection ends");
  for (const auto& client : clients_) {
    if (!client->is_over()) backend_->close(client->fd());
  }
  check(backend_->ops_count() == 0, "no op is left in the kernel");
  check(!engine_.has_timers(), "no timer is left");
  if (backend_->is_open(listener_)) backend_->close(listener_);
  check(backend_->open_count() == 0, "no descriptor is left open");
}

std::string ServingProgram::run() {
  play();
  // Half of the rough programs end in the middle of everything.
  if (broken_.empty() && (gentle_ || choices_.chance(500))) wind_up();
  if (broken_.empty()) end();
  if (broken_.empty()) check_the_end();
  return broken_;
}

}  // namespace cxxloop::web
