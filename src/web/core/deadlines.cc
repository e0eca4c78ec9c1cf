// SPDX-License-Identifier: MIT
#include "web/core/deadlines.h"

#include <algorithm>
#include <bit>

#include "base/assert.h"

namespace cxxloop::web {

Deadlines::Deadlines(net::Engine& engine, io::Backend& backend, ExpireFn on_expired) noexcept
    : engine_(engine), backend_(backend), on_expired_(on_expired) {
  timer_.run = on_timer;
  timer_.deadlines = this;
}

Deadlines::~Deadlines() {
  CXL_ASSERT(size_ == 0);
  if (timer_.node.queued()) engine_.cancel_timer(timer_);
}

void Deadlines::set_smallest_limit(int64_t limit_ns) noexcept {
  const int64_t tick_ns = std::clamp(limit_ns / 8, tick_ns_min, tick_ns_max);
  const int shift = static_cast<int>(std::bit_width(static_cast<uint64_t>(tick_ns))) - 1;
  if (shift == shift_) return;
  for (IntrusiveList<Node>& slot : slots_) {
    while (Node* const node = slot.pop_front()) due_.push_back(*node);
  }
  shift_ = shift;
  tick_ = backend_.now_ns() >> shift_;
  while (Node* const node = due_.pop_front()) place(*node);
  if (timer_.node.queued()) engine_.cancel_timer(timer_);
  arm();
}

void Deadlines::add(Node& node, int64_t deadline_ns) noexcept {
  CXL_ASSERT(node.tick_ == outside);
  if (size_++ == 0) tick_ = backend_.now_ns() >> shift_;
  node.deadline_ns_ = deadline_ns;
  place(node);
  arm();
}

void Deadlines::remove(Node& node) noexcept {
  if (node.tick_ == outside) return;
  node.tick_ = outside;
  node.unlink();
  if (--size_ == 0 && timer_.node.queued()) engine_.cancel_timer(timer_);
}

// In the first slot that comes up when the deadline has passed.
void Deadlines::place(Node& node) noexcept {
  node.unlink();
  node.tick_ = std::clamp((node.deadline_ns_ >> shift_) + 1, tick_ + 1, tick_last);
  slots_[static_cast<size_t>(node.tick_ & (slots_count - 1))].push_back(node);
}

void Deadlines::arm() noexcept {
  if (size_ == 0 || timer_.node.queued()) return;
  timer_.node.deadline_ns = (tick_ + 1) << shift_;
  (void)engine_.add_timer(timer_);  // No memory: the next add() tries again.
}

void Deadlines::on_timer(TimerTask& timer) noexcept {
  Deadlines& self = *static_cast<Timer&>(timer).deadlines;
  self.turn(self.backend_.now_ns());
  self.arm();
}

void Deadlines::turn(int64_t now_ns) noexcept {
  const int64_t now_tick = now_ns >> shift_;
  for (int64_t tick = std::max(tick_ + 1, now_tick - slots_count + 1); tick <= now_tick; ++tick) {
    IntrusiveList<Node>& slot = slots_[static_cast<size_t>(tick & (slots_count - 1))];
    while (Node* const node = slot.pop_front()) due_.push_back(*node);
  }
  tick_ = std::max(tick_, now_tick);
  while (Node* const node = due_.pop_front()) {
    if (node->deadline_ns_ > now_ns) {
      place(*node);  // it was moved, or comes up in a later round
      continue;
    }
    node->tick_ = no_slot;
    on_expired_(*node, now_ns);
  }
}

}  // namespace cxxloop::web
