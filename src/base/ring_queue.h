// SPDX-License-Identifier: MIT
//
// base/ring_queue.h: a growing first-in first-out queue without a cost per element: the loop's ready queue.
//
// Decision: not std::deque, which allocates and frees a block every few dozen elements and throws when it cannot.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdlib>
#include <type_traits>
#include <utility>

#include "base/assert.h"

namespace cxxloop {

template <class T>
class RingQueue {
  static_assert(std::is_trivially_copyable_v<T> && std::is_trivially_destructible_v<T>);

 public:
  // Memory for this many elements is kept until the end.
  static constexpr size_t kept_capacity = 1024;

  RingQueue() noexcept = default;
  RingQueue(RingQueue&& other) noexcept
      : slots_(std::exchange(other.slots_, nullptr)),
        capacity_(std::exchange(other.capacity_, 0)),
        head_(std::exchange(other.head_, 0)),
        tail_(std::exchange(other.tail_, 0)),
        drained_at_(std::exchange(other.drained_at_, 0)) {}
  RingQueue& operator=(RingQueue&&) = delete;
  ~RingQueue() { std::free(slots_); }

  [[nodiscard]] bool empty() const noexcept { return head_ == tail_; }
  [[nodiscard]] size_t size() const noexcept { return tail_ - head_; }
  [[nodiscard]] size_t capacity() const noexcept { return capacity_; }

  // The element `index` places behind the front.
  [[nodiscard]] T& operator[](size_t index) noexcept {
    CXL_ASSERT(index < size());
    return slots_[(head_ + index) & (capacity_ - 1)];
  }
  [[nodiscard]] const T& operator[](size_t index) const noexcept {
    CXL_ASSERT(index < size());
    return slots_[(head_ + index) & (capacity_ - 1)];
  }
  [[nodiscard]] T& front() noexcept { return (*this)[0]; }

  // Makes room for one more element. False: out of memory, nothing has changed.
  [[nodiscard]] bool make_room() noexcept {
    if (size() != capacity_) [[likely]] return true;
    return reallocate(capacity_ == 0 ? 16 : capacity_ * 2);
  }

  // False: out of memory, nothing has changed.
  [[nodiscard]] bool push_back(T value) noexcept {
    if (!make_room()) return false;
    slots_[tail_++ & (capacity_ - 1)] = value;
    return true;
  }

  // Before the front. False: out of memory, nothing has changed.
  [[nodiscard]] bool push_front(T value) noexcept {
    if (!make_room()) return false;
    slots_[--head_ & (capacity_ - 1)] = value;
    return true;
  }

  // REQUIRES: !empty().
  T pop_front() noexcept {
    CXL_ASSERT(!empty());
    const T value = slots_[head_++ & (capacity_ - 1)];
    if (head_ == tail_ && capacity_ > kept_capacity) [[unlikely]] on_drained();
    return value;
  }

  // Makes room for `count` elements in all. False: out of memory, nothing has changed.
  [[nodiscard]] bool reserve(size_t count) noexcept {
    return count <= capacity_ || reallocate(std::bit_ceil(count));
  }

  // Gives back what a burst has left. REQUIRES: empty().
  void shrink() noexcept {
    CXL_ASSERT(empty());
    if (capacity_ > kept_capacity) static_cast<void>(reallocate(kept_capacity));
  }

  // Gives all memory back. REQUIRES: empty().
  void release() noexcept {
    CXL_ASSERT(empty());
    std::free(std::exchange(slots_, nullptr));
    capacity_ = head_ = tail_ = drained_at_ = 0;
  }

 private:
  // Shrinks only when the round that ends here would have fitted into a quarter of the memory: a loop that is busy
  // with thousands of callbacks every turn keeps its memory, one burst does not hold it for ever.
  void on_drained() noexcept {
    const size_t pushed = tail_ - std::exchange(drained_at_, tail_);
    if (pushed < capacity_ / 4) static_cast<void>(reallocate(kept_capacity));
  }

  bool reallocate(size_t capacity) noexcept {
    auto* slots = static_cast<T*>(std::malloc(capacity * sizeof(T)));
    if (slots == nullptr) return false;
    const size_t count = size();
    for (size_t i = 0; i < count; ++i) slots[i] = slots_[(head_ + i) & (capacity_ - 1)];
    std::free(slots_);
    slots_ = slots;
    capacity_ = capacity;
    head_ = 0;
    tail_ = count;
    drained_at_ = 0;
    return true;
  }

  T* slots_ = nullptr;
  size_t capacity_ = 0;    // zero or a power of two
  size_t head_ = 0;        // Both indexes wrap around, only push_front() counts down; a slot is index % capacity_.
  size_t tail_ = 0;
  size_t drained_at_ = 0;  // tail_ when the queue was last found empty
};

}  // namespace cxxloop
