// SPDX-License-Identifier: MIT
#include "cpp/net/watch_program.h"

#include <array>

namespace cxxloop::net {
namespace {

sim::Faults faults() {
  sim::Faults faults = sim::Faults::benign();
  faults.late_cancels = 400;
  return faults;
}

}  // namespace

WatchProgram::WatchProgram(uint64_t world_seed, sim::Choices& choices)
    : backend_(world_seed, faults()), choices_(choices), watches_(backend_) {
  backend_.set_pipe_capacity(1);
  for (int i = 0; i < 2; ++i) {
    const sim::SimBackend::Pair pair = backend_.make_pair();
    fds_.insert(fds_.end(), {pair.near, pair.far});
  }
  watches_.then = [this](size_t by, int fd, Direction direction) { on_ready(by, fd, direction); };
}

void WatchProgram::check(bool kept, const char* promise) noexcept {
  if (!kept && broken_.empty()) broken_ = promise;
}

void WatchProgram::turn(Deadline deadline) noexcept {
  check(backend_.wait(deadline) == Errno::ok, "wait()");
  while (broken_.empty() && backend_.dispatch_one()) {
  }
}

Direction WatchProgram::any_direction() noexcept { return choices_.chance(500) ? Direction::read : Direction::write; }

int WatchProgram::any_fd() noexcept { return fds_[choices_.below(fds_.size())]; }

void WatchProgram::change_a_watch() noexcept {
  const int fd = any_fd();
  const Direction direction = any_direction();
  const size_t former = watches_.who(fd, direction);
  if (choices_.chance(300)) {
    check(watches_.unwatch(fd, direction) == former, "unwatch() gives the watcher back");
    check(watches_.who(fd, direction) == 0, "nobody watches after unwatch()");
    return;
  }
  size_t replaced = 0;
  const size_t by = ++last_watcher_;
  check(watches_.watch(fd, direction, by, &replaced) == Errno::ok, "watch()");
  check(replaced == former, "watch() gives the former watcher back");
  check(watches_.who(fd, direction) == by, "watch() hands the watch over");
}

// Each direction of a connection holds one byte: a sender is writable exactly when its peer is not readable.
void WatchProgram::move_a_byte() noexcept {
  const int fd = any_fd();
  std::array<std::byte, 1> byte;
  if (choices_.chance(500)) {
    static_cast<void>(backend_.write(fd, "x").ok());
  } else {
    static_cast<void>(backend_.read(fd, byte).ok());
  }
}

void WatchProgram::on_ready(size_t by, int fd, Direction direction) noexcept {
  check(by != 0 && watches_.who(fd, direction) == by, "only who watches is called");
  if (!choices_.exhausted() && choices_.chance(300)) change_a_watch();
}

void WatchProgram::check_everybody_is_served() {
  while (backend_.write(fds_[0], "x").ok()) {
  }  // fds_[1] is readable, and fds_[1], [2] and [3] are writable
  std::array<std::byte, 1> byte;
  for (const int fd : {fds_[0], fds_[2], fds_[3]}) static_cast<void>(backend_.read(fd, byte).ok());
  watches_.calls.clear();
  for (int turns = 0; turns < 60; ++turns) turn(Deadline::immediate());
  watches_.calls.resize(last_watcher_ + 1);
  watches_.table.each([this](int fd, Direction direction, void* token) {
    const bool ready = direction == Direction::read ? fd == fds_[1] : fd != fds_[0];
    const int calls = watches_.calls[Watches::watcher(token)];
    check(ready == (calls > 0), ready ? "a watcher is called while its descriptor is ready" : "called for nothing");
    check(!ready || calls > 5, "watches are level-triggered");
  });
}

std::string WatchProgram::run() {
  while (broken_.empty() && !choices_.exhausted()) {
    if (choices_.chance(500)) change_a_watch();
    if (choices_.chance(500)) move_a_byte();
    turn(Deadline{backend_.now_ns() + 1'000'000});
  }
  check_everybody_is_served();
  for (const int fd : fds_) {
    watches_.unwatch(fd, Direction::read);
    watches_.unwatch(fd, Direction::write);
  }
  for (int turns = 0; turns < 100 && backend_.ops_count() > 0; ++turns) turn(Deadline::immediate());
  check(backend_.ops_count() == 0, "no op is left in the kernel");
  return broken_;
}

}  // namespace cxxloop::net
