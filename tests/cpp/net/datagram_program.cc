// SPDX-License-Identifier: MIT
#include "cpp/net/datagram_program.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace cxxloop::net {
namespace {

constexpr Errno refused = static_cast<Errno>(ECONNREFUSED);
constexpr Errno too_long = static_cast<Errno>(EMSGSIZE);

sim::Faults gentle_faults() {
  sim::Faults faults = sim::Faults::benign();
  faults.late_cancels = 300;
  return faults;
}

sim::Faults rough_faults(sim::Choices& choices) {
  sim::Faults faults = sim::Faults::harsh();
  faults.submit_errors = 30;
  if (choices.chance(300)) faults.false_full = 800;
  return faults;
}

// Tells messages and places apart, so that what is truncated, merged or swapped shows.
std::byte byte_of(uint32_t id, size_t place) noexcept { return static_cast<std::byte>(id * 37 + place); }

}  // namespace

Message::Message(DatagramEnd& sender_end, uint32_t message_id, size_t message_size)
    : sender(sender_end), id(message_id), size(message_size), bytes(message_size) {
  for (size_t place = 0; place < size; ++place) bytes[place] = byte_of(id, place);
}

bool Message::equals(std::span<const std::byte> data) const noexcept {
  if (data.size() != size) return false;
  for (size_t place = 0; place < size; ++place) {
    if (data[place] != byte_of(id, place)) return false;
  }
  return true;
}

// DatagramEnd

DatagramEnd::DatagramEnd(DatagramProgram& program, int fd)
    : program_(program),
      fd_(fd),
      owner_fd_(fd),
      datagram_(std::make_unique<DatagramSocket>(program.backend(), fd, *this, DatagramProgram::release_message,
                                           DatagramProgram::header_bytes, &owner_fd_)) {}

DatagramEnd::~DatagramEnd() {
  if (datagram_ != nullptr) static_cast<void>(datagram_.release());  // A promise was broken: its ops may be anywhere.
}

void DatagramEnd::act() noexcept {
  if (released_) return;
  switch (program_.choices().below(16)) {
    case 0: case 1: case 2: return start_reading();
    case 3: return stop_reading();
    case 4: return program_.choices().chance(30) ? lose_descriptor() : (stop_reading(), start_reading());
    case 5: return program_.choices().chance(300) ? drop() : start_reading();
    case 6: return program_.choices().chance(200) ? release() : start_reading();
    case 7: return append(make_message());
    default: return send();
  }
}

void DatagramEnd::start_reading() noexcept {
  if (reading_) return;
  const Errno error = datagram_->start_reading();
  reading_ = error == Errno::ok;
  const bool may_fail = owns_descriptor() ? !program_.gentle() && error == Errno::no_memory : error == Errno::bad_fd;
  program_.check(reading_ || may_fail, "start_reading() fails as submit()");
  program_.check(datagram_->is_reading() == reading_, "is_reading() after start_reading()");
}

void DatagramEnd::stop_reading() noexcept {
  datagram_->stop_reading();
  reading_ = false;
  program_.check(!datagram_->is_reading(), "is_reading() after stop_reading()");
}

void DatagramEnd::read_on() noexcept {
  if (released_) return;
  return owns_descriptor() ? start_reading() : release();
}

Message& DatagramEnd::make_message() noexcept {
  sim::Choices& choices = program_.choices();
  const size_t size = choices.chance(50) ? program_.capacity() + choices.below(2) : choices.below(program_.capacity());
  Message& message = program_.make_message(*this, next_id_++, choices.chance(100) ? 0 : size);
  if (choices.chance(300)) message.target = Datagram::Target::address;
  if (choices.chance(200)) message.target = Datagram::Target::foreign;
  message.target_fd = message.target == Datagram::Target::address ? program_.any_fd() : peer_->fd_;
  return message;
}

void DatagramEnd::send() noexcept {
  for (size_t pieces = program_.choices().between(1, 4); pieces > 0; --pieces) send_or_append(make_message());
}

void DatagramEnd::send_or_append(Message& message) noexcept {
  if (!datagram_->is_drained()) return append(message);
  const Errno error = try_send(message);
  program_.check(message.sent == (error == Errno::ok), "a datagram is sent when send() says so");
  if (error == Errno::again) return append(message);
  program_.check(error == Errno::ok || plausible(error, message), "an error of send() tells what happened");
}

Errno DatagramEnd::try_send(Message& message) noexcept {
  const io::Address address = sim::SimBackend::address_of(message.target_fd);
  const bool to_peer = message.target != Datagram::Target::address;
  trying_ = &message;
  const Errno error = datagram_->send(message.bytes, to_peer ? nullptr : &address);
  trying_ = nullptr;
  return error;
}

void DatagramEnd::append(Message& message) noexcept {
  const io::Address address = sim::SimBackend::address_of(message.target_fd);
  const Errno error = datagram_->append({message.bytes, &message, message.target, address});
  message.accepted = error == Errno::ok;
  if (message.accepted) queued_.push_back(&message);
  program_.check(message.accepted || plausible(error, message), "append() fails as submit()");
  program_.check(!message.accepted || datagram_->is_send_waiting(), "what is queued waits for the kernel");
}

// What is appended meanwhile, by who is given his datagram back, is not meant.
void DatagramEnd::drop() noexcept {
  const Pin pin(*this);
  note_dropped();
  datagram_->drop_writes();
}

void DatagramEnd::note_dropped() noexcept {
  for (Message* const message : queued_) message->dropped = true;
  drops_pending_ += queued_.size();
  queued_.clear();
}

void DatagramEnd::release() noexcept {
  if (released_) return;
  const Pin pin(*this);
  note_dropped();
  released_ = true;
  may_free_ = datagram_->release();
  awaits_released_ = !may_free_;
  program_.check(datagram_->state() == (may_free_ ? DatagramSocket::State::released : DatagramSocket::State::releasing),
                 "release() tells the state");
  program_.check(datagram_->is_drained() && datagram_->queued_bytes() == 0, "nothing is queued after release()");
  program_.check(!may_free_ || program_.end_of(fd_) == nullptr, "release() == true: forgotten");
}

bool DatagramEnd::plausible(Errno error, const Message& message) const noexcept {
  if (error == Errno::bad_fd) return !owns_descriptor();
  if (error == Errno::no_memory) return !program_.gentle();
  if (error == Errno::invalid) return message.target == Datagram::Target::foreign;
  if (error == too_long) return message.size >= program_.capacity();
  if (error != refused) return false;
  const bool to_address = message.target == Datagram::Target::address;
  return !program_.gentle() || (to_address ? !program_.backend().is_open(message.target_fd) : peer_->may_free_);
}

void DatagramEnd::note_sent(const sim::SimBackend::SentDatagram& sent) noexcept {
  if (trying_ == nullptr && queued_.empty()) return program_.check(false, "no datagram is invented");
  Message& message = trying_ != nullptr ? *trying_ : *queued_.front();
  program_.check(!released_ && owns_descriptor(), "nothing is sent after release() or through a foreign descriptor");
  program_.check(!std::exchange(message.sent, true), "a datagram is sent once");
  program_.check(message.equals(sent.bytes) && message.target_fd == sent.target, "a datagram is sent as it was given");
  program_.check(sent_id_ < message.id, "datagrams are sent in the order they were given");
  program_.check(trying_ != nullptr || (flushing_ && losses_untold_ == 0), "a loss is told before the next one is tried");
  sent_id_ = message.id;
  if (DatagramEnd* const target = program_.end_of(sent.target); sent.arrives && target != nullptr) {
    target->expected_.push_back(&message);
  }
}

// The bytes are freed at once, so that whoever still reads them is found out by AddressSanitizer.
void DatagramEnd::note_released(Message& message) noexcept {
  program_.check(message.accepted && !std::exchange(message.released, true), "an owner is released once");
  message.bytes = std::vector<std::byte>();
  if (message.dropped) {
    --drops_pending_;
  } else {
    program_.check(!queued_.empty() && queued_.front() == &message, "datagrams leave the queue in order");
    if (!queued_.empty()) queued_.pop_front();
    if (!message.sent) {
      ++losses_untold_;
      last_lost_ = &message;
    }
  }
  program_.disturb();
}

void DatagramEnd::check_between_calls() noexcept {
  look_pin_.reset();
  if (released_) return;
  size_t bytes = 0;
  for (const Message* const message : queued_) bytes += message->size + DatagramProgram::header_bytes;
  program_.check(datagram_->queued_bytes() == bytes, "queued_bytes() is what is queued");
  program_.check(datagram_->is_drained() == queued_.empty(), "is_drained()");
  program_.check(queued_.empty() || datagram_->is_send_waiting(), "what is queued waits for the kernel");
  program_.check(losses_untold_ == 0, "every loss is told");
  program_.check(drops_pending_ == 0, "what is dropped is given back at once");
  program_.check(datagram_->is_reading() == reading_, "is_reading()");
  program_.check(busy_ == (datagram_->is_reading() || datagram_->is_send_waiting()), "busy while the owner may be called");
  program_.check(datagram_->is_busy() == busy_, "is_busy()");
}

void DatagramEnd::check_at_rest() noexcept {
  if (released_) return;
  program_.check(datagram_->is_drained() && datagram_->queued_bytes() == 0, "everything queued is sent");
  program_.check(!datagram_->is_send_waiting(), "who has nothing to send does not wait");
  program_.check(expected_.empty(), "everything that arrives is received");
}

// A third datagram of one readiness depends on the time it takes, and a seed would not be replayed exactly.
bool DatagramEnd::on_may_receive_more() noexcept {
  program_.check(!released_ && reading_, "nothing is received after stop_reading() or release()");
  look_pin_.emplace(*this);
  program_.disturb();
  return std::exchange(looked_at_, program_.dispatches()) != program_.dispatches() && program_.choices().chance(800);
}

void DatagramEnd::on_datagram(std::span<const std::byte> data, const io::Address& sender) noexcept {
  program_.check(!released_ && reading_, "nothing is received after stop_reading() or release()");
  look_pin_.reset();
  program_.check(owns_descriptor(), "nothing is received from the next owner of the number");
  if (expected_.empty()) return program_.check(false, "no datagram is received that nobody sent");
  const Message& message = *expected_.front();
  expected_.pop_front();
  const io::Address address = sim::SimBackend::address_of(message.sender.fd());
  program_.check(message.equals(data), "datagrams arrive whole, once and in order");
  program_.check(sender.size == address.size && std::memcmp(&sender.storage, &address.storage, address.size) == 0,
                 "a datagram names its sender");
  program_.disturb();
}

void DatagramEnd::on_receive_error(Errno error) noexcept {
  program_.check(!released_ && reading_, "no receive error after stop_reading() or release()");
  const bool caused = owns_descriptor() ? !program_.gentle() && (error == refused || error == Errno::no_memory)
                                        : error == Errno::bad_fd;
  program_.check(caused, "a receive error tells what happened");
  if (error != refused) reading_ = false;
  program_.check(datagram_->is_reading() == reading_, "an error of one datagram does not end the reading");
  program_.disturb();
}

void DatagramEnd::on_writable() noexcept {
  program_.check(!released_ && datagram_->is_send_waiting(), "nobody is told of room who does not wait for it");
  const Pin pin(*this);
  program_.disturb();
  if (released_ || !datagram_->is_send_waiting()) return;
  flushing_ = true;
  datagram_->flush();
  flushing_ = false;
  program_.check(released_ || losses_untold_ == 0, "every loss is told");
}

Errno DatagramEnd::on_send_foreign(void* owner) noexcept {
  Message& message = *static_cast<Message*>(owner);
  program_.check(!released_ && flushing_ && losses_untold_ == 0, "a loss is told before the next one is tried");
  program_.check(!queued_.empty() && queued_.front() == &message, "foreign datagrams keep their place");
  program_.disturb();
  const Errno error = send_foreign(message);
  program_.disturb();
  const bool is_lost = error != Errno::ok && error != Errno::again;
  if (is_lost && message.released) {  // It was dropped meanwhile; that it failed is told all the same.
    ++losses_untold_;
    last_lost_ = &message;
  }
  return error;
}

Errno DatagramEnd::send_foreign(Message& message) noexcept {
  sim::Choices& choices = program_.choices();
  if (!program_.winds_up() && choices.chance(200)) return Errno::again;
  if (!program_.winds_up() && choices.chance(100)) return Errno::invalid;
  if (message.released) return Errno::ok;
  if (!owns_descriptor()) return Errno::bad_fd;
  const Result<size_t> sent = program_.backend().send_now_to(fd_, message.bytes, nullptr);
  return sent.ok() ? Errno::ok : sent.error();
}

void DatagramEnd::on_send_error(Errno error) noexcept {
  program_.check(!released_, "no callback after release()");
  program_.check(flushing_ && losses_untold_ > 0, "no loss is told that there was not");
  if (losses_untold_ == 0) return;
  const bool all = error == Errno::bad_fd || error == Errno::no_memory;
  program_.check(all || std::exchange(losses_untold_, 0) == 1, "each loss is told");
  losses_untold_ = 0;
  program_.check(plausible(error, *last_lost_), "a send error tells what happened");
  program_.disturb();
}

void DatagramEnd::on_sent() noexcept {
  program_.check(!released_, "no callback after release()");
  program_.check(flushing_ && losses_untold_ == 0, "every loss is told");
  program_.check(datagram_->is_send_waiting() == !datagram_->is_drained(), "what is left waits for the kernel");
  program_.disturb();
}

void DatagramEnd::on_busy() noexcept { program_.check(!std::exchange(busy_, true), "on_busy() when nothing was out"); }

void DatagramEnd::on_idle() noexcept {
  program_.check(std::exchange(busy_, false), "on_idle() once, after on_busy()");
  program_.check(datagram_ != nullptr, "no callback of a socket that is gone");
}

void DatagramEnd::on_released() noexcept {
  program_.check(busy_, "on_released() before on_idle()");
  program_.check(std::exchange(awaits_released_, false), "on_released() once, after release() == false");
  program_.check(datagram_->state() == DatagramSocket::State::released, "on_released(): released");
  program_.check(program_.end_of(fd_) == nullptr, "on_released(): forgotten");
  may_free_ = true;
  if (pins_ == 0) datagram_.reset();
  program_.disturb();
}

// DatagramProgram

DatagramProgram::DatagramProgram(uint64_t world_seed, sim::Choices& choices, bool gentle)
    : backend_(std::make_unique<sim::SimBackend>(world_seed, gentle ? gentle_faults() : rough_faults(choices))),
      choices_(choices), gentle_(gentle), capacity_(choices.between(1, 200)) {
  backend_->set_pipe_capacity(capacity_);
  backend_->watch_datagrams([this](const sim::SimBackend::SentDatagram& sent) { end_of(sent.sender)->note_sent(sent); });
}

DatagramProgram::~DatagramProgram() {
  if (!broken_.empty()) static_cast<void>(backend_.release());  // It may hold ops of the sockets that are not freed.
}

void DatagramProgram::check(bool kept, const char* promise) noexcept {
  if (!kept && broken_.empty()) broken_ = promise;
}

void DatagramProgram::disturb() noexcept {
  if (winds_up_ || depth_ >= 3 || !choices_.chance(300)) return;
  ++depth_;
  for (size_t deeds = choices_.between(1, 3); deeds > 0; --deeds) ends_[choices_.below(ends_.size())]->act();
  --depth_;
}

Message& DatagramProgram::make_message(DatagramEnd& sender, uint32_t id, size_t size) noexcept {
  return messages_.emplace_back(sender, id, size);
}

DatagramEnd* DatagramProgram::end_of(int fd) noexcept {
  if (!backend_->is_open(fd)) return nullptr;
  // The newest: an older one of the same number is gone.
  const auto found = std::find_if(ends_.rbegin(), ends_.rend(), [fd](const auto& end) { return end->fd() == fd; });
  return found == ends_.rend() ? nullptr : found->get();
}

int DatagramProgram::any_fd() noexcept {
  return sim::SimBackend::first_fd + static_cast<int>(choices_.below(backend_->open_count() + 2));
}

void DatagramProgram::release_message(void* owner) noexcept {
  Message& message = *static_cast<Message*>(owner);
  message.sender.note_released(message);
}

void DatagramProgram::connect() {
  const sim::SimBackend::Pair pair = backend_->make_datagram_pair();
  DatagramEnd& near = *ends_.emplace_back(std::make_unique<DatagramEnd>(*this, pair.near));
  DatagramEnd& far = *ends_.emplace_back(std::make_unique<DatagramEnd>(*this, pair.far));
  near.meet(far);
  far.meet(near);
}

void DatagramProgram::turn(Deadline deadline) noexcept {
  if (backend_->collected() == 0) check(backend_->wait(deadline) == Errno::ok, "wait()");
  while (broken_.empty() && backend_->dispatch_one()) {
    ++dispatches_;
    for (const auto& end : ends_) end->check_between_calls();
    // A callback may leave the loop, by an exit: what else was collected is run when the loop goes on.
    if (!winds_up_ && choices_.chance(30)) return;
  }
}

void DatagramProgram::play() {
  connect();
  while (broken_.empty() && !choices_.exhausted()) {
    const bool all_over = std::all_of(ends_.begin(), ends_.end(), [](const auto& end) { return end->is_over(); });
    if ((all_over || choices_.chance(50)) && ends_.size() < 2 * pairs_max) connect();
    for (size_t deeds = choices_.below(4); deeds > 0; --deeds) ends_[choices_.below(ends_.size())]->act();
    for (const auto& end : ends_) end->check_between_calls();
    turn(Deadline{backend_->now_ns() + 1'000'000});
  }
}

// Turns until nothing could end a sleep. Whoever asks for what he does not need comes back for ever.
void DatagramProgram::rest() noexcept {
  int turns = 0;
  do {
    turn(Deadline::never());
    check(++turns < 5'000, "a loop with nothing to do sleeps");
  } while (broken_.empty() && !backend_->stalled());
}

void DatagramProgram::wind_up() {
  winds_up_ = true;
  backend_->set_faults(gentle_faults());  // what is broken stays broken
  rest();  // with sockets that do not read, and some that wait for those
  for (const auto& end : ends_) end->read_on();
  rest();
  for (const auto& end : ends_) end->check_at_rest();
  for (const auto& end : ends_) end->release();
  rest();
}

void DatagramProgram::check_the_end() {
  for (const auto& end : ends_) check(end->is_over(), "nobody waits for ever");
  check(backend_->ops_count() == 0, "no op is left in the kernel");
  check(backend_->open_count() == 0, "no descriptor is left open");
  for (const Message& message : messages_) check(message.accepted == message.released, "every owner is released");
}

std::string DatagramProgram::run() {
  play();
  if (broken_.empty()) wind_up();
  if (broken_.empty()) check_the_end();
  return broken_;
}

}  // namespace cxxloop::net
