// SPDX-License-Identifier: MIT
//
// io/op_batch.h: the ops that a wait() of a readiness backend found ready, in the order in which they are called back.
//
// Decision: filled from the back, because libev reports the kernel's events last first; so the batch has their order.
// Room is made at submit(), where a lack of memory can be told, never in wait().
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdlib>

#include "base/assert.h"
#include "io/op.h"

namespace cxxloop::io {

class OpBatch {
 public:
  OpBatch() noexcept = default;
  OpBatch(const OpBatch&) = delete;
  OpBatch& operator=(const OpBatch&) = delete;
  ~OpBatch() { std::free(slots_); }

  [[nodiscard]] size_t size() const noexcept { return capacity_ - begin_; }
  [[nodiscard]] bool empty() const noexcept { return begin_ == capacity_; }

  // Makes room for `count` ops in all. False: out of memory, nothing has changed.
  [[nodiscard]] bool reserve(size_t count) noexcept {
    return count <= capacity_ || reallocate(std::max(count * 2, capacity_min));
  }

  // REQUIRES: room for it; the op is not in the batch.
  void push_front(Op& op) noexcept {
    CXL_ASSERT(begin_ > 0 && op.batch_index < 0);
    slots_[--begin_] = &op;
    op.batch_index = static_cast<int32_t>(begin_);
  }

  // The first op that was not removed, or nullptr when the batch is used up.
  [[nodiscard]] Op* front() noexcept {
    while (begin_ < capacity_ && slots_[begin_] == nullptr) ++begin_;
    return begin_ < capacity_ ? slots_[begin_] : nullptr;
  }

  // Takes it out.
  [[nodiscard]] Op* pop_front() noexcept {
    while (begin_ < capacity_) {
      if (Op* const op = slots_[begin_++]; op != nullptr) {
        op->batch_index = -1;
        return op;
      }
    }
    return nullptr;
  }

  // No effect on an op that is not in the batch.
  void remove(Op& op) noexcept {
    if (op.batch_index < 0) return;
    const size_t index = static_cast<size_t>(op.batch_index);
    if (index < begin_ || index >= capacity_ || slots_[index] != &op) return;  // It is in another batch.
    slots_[index] = nullptr;
    op.batch_index = -1;
  }

  // Gives back memory beyond room for `count` ops in all. REQUIRES: empty().
  void shrink(size_t count) noexcept {
    CXL_ASSERT(empty());
    const size_t capacity = std::max(count, capacity_min);
    if (capacity < capacity_ / 4) static_cast<void>(reallocate(capacity));
  }

 private:
  static constexpr size_t capacity_min = 64;

  // REQUIRES: the ops in the batch have room.
  bool reallocate(size_t capacity) noexcept {
    auto* const slots = static_cast<Op**>(std::malloc(capacity * sizeof(Op*)));
    if (slots == nullptr) return false;
    const size_t begin = capacity - size();
    for (size_t i = 0; i < size(); ++i) {
      Op* const op = slots_[begin_ + i];
      slots[begin + i] = op;
      if (op != nullptr) op->batch_index = static_cast<int32_t>(begin + i);
    }
    std::free(slots_);
    slots_ = slots;
    begin_ = begin;
    capacity_ = capacity;
    return true;
  }

  Op** slots_ = nullptr;
  size_t capacity_ = 0;
  size_t begin_ = 0;  // The batch is [begin_, capacity_).
};

}  // namespace cxxloop::io
