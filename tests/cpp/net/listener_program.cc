// SPDX-License-Identifier: MIT
#include "cpp/net/listener_program.h"

#include <algorithm>

namespace cxxloop::net {
namespace {

sim::Faults faults() {
  sim::Faults faults = sim::Faults::harsh();
  faults.accept_errors = 200;
  return faults;
}

}  // namespace

ListenerProgram::ListenerProgram(uint64_t world_seed, sim::Choices& choices)
    : backend_(world_seed, faults()), choices_(choices), fd_(backend_.make_listener()), listener_(backend_, fd_, *this) {}

void ListenerProgram::check(bool kept, const char* promise) noexcept {
  if (!kept && broken_.empty()) broken_ = promise;
}

void ListenerProgram::start() noexcept {
  const Errno error = listener_.start(static_cast<uint32_t>(choices_.between(1, 4)));
  if (error == Errno::ok) expected_ = Expected::callbacks;
}

void ListenerProgram::stop() noexcept { expected_ = listener_.stop() ? Expected::nothing : Expected::on_stopped; }

void ListenerProgram::react() noexcept {
  check(expected_ == Expected::callbacks, "nothing is handed up after stop()");
  if (choices_.chance(200)) stop();
}

void ListenerProgram::on_accept(UniqueFd fd, const io::Address& peer) noexcept {
  check(peer.size > 0 && peer.storage.ss_family != AF_UNSPEC, "a connection names its peer");
  accepted_.push_back(fd.take());
  react();
}

void ListenerProgram::on_accept_error(Errno) noexcept { react(); }

void ListenerProgram::on_stopped() noexcept {
  check(expected_ == Expected::on_stopped, "on_stopped() once for each late stop");
  expected_ = Expected::nothing;
}

void ListenerProgram::turn(Deadline deadline) noexcept {
  check(backend_.wait(deadline) == Errno::ok, "wait()");
  while (backend_.dispatch_one()) {
  }
}

void ListenerProgram::play() {
  while (broken_.empty() && !choices_.exhausted()) {
    if (choices_.chance(400)) {
      static_cast<void>(backend_.connect(fd_));
      ++clients_;
    }
    if (expected_ == Expected::nothing && choices_.chance(300)) {
      start();
    } else if (choices_.chance(100)) {
      stop();
    }
    turn(Deadline{backend_.now_ns() + 1'000'000});
  }
}

void ListenerProgram::check_the_end() {
  check(expected_ == Expected::nothing && backend_.ops_count() == 0, "a listener stops");
  std::sort(accepted_.begin(), accepted_.end());
  check(std::adjacent_find(accepted_.begin(), accepted_.end()) == accepted_.end(), "handed up once");
  backend_.forget(fd_);  // refuses who still waits
  for (const int accepted : accepted_) check(backend_.is_open(accepted), "a connection is handed up open");
  check(backend_.open_count() == clients_ + accepted_.size(), "a connection is handed up or closed");
}

std::string ListenerProgram::run() {
  play();
  stop();
  for (int turns = 0; turns < 100 && expected_ == Expected::on_stopped; ++turns) turn(Deadline::immediate());
  check_the_end();
  return broken_;
}

}  // namespace cxxloop::net
