// SPDX-License-Identifier: MIT
//
// base/intrusive_list.h: a doubly linked list through its elements; linking and unlinking cannot fail.
#pragma once

#include <concepts>

#include "base/assert.h"

namespace cxxloop {

// A base class of the element. It unlinks itself when it is destroyed.
class ListNode {
 public:
  ListNode() noexcept = default;
  ListNode(const ListNode&) = delete;
  ListNode& operator=(const ListNode&) = delete;
  ~ListNode() { unlink(); }

  [[nodiscard]] bool is_linked() const noexcept { return next_ != nullptr; }

  // No effect on a node that is in no list.
  void unlink() noexcept {
    if (!is_linked()) return;
    previous_->next_ = next_;
    next_->previous_ = previous_;
    previous_ = next_ = nullptr;
  }

 private:
  template <class T>
  friend class IntrusiveList;

  ListNode* previous_ = nullptr;
  ListNode* next_ = nullptr;
};

template <class T>
class IntrusiveList {
 public:
  IntrusiveList() noexcept { ends_.previous_ = ends_.next_ = &ends_; }
  IntrusiveList(const IntrusiveList&) = delete;
  IntrusiveList& operator=(const IntrusiveList&) = delete;
  ~IntrusiveList() {
    while (!empty()) ends_.next_->unlink();
  }

  [[nodiscard]] bool empty() const noexcept { return ends_.next_ == &ends_; }

  // REQUIRES: !element.is_linked().
  void push_back(T& element) noexcept {
    static_assert(std::derived_from<T, ListNode>);
    ListNode& node = element;
    CXL_ASSERT(!node.is_linked());
    node.previous_ = ends_.previous_;
    node.next_ = &ends_;
    ends_.previous_->next_ = &node;
    ends_.previous_ = &node;
  }

  // The oldest element, now unlinked, or nullptr.
  [[nodiscard]] T* pop_front() noexcept {
    if (empty()) return nullptr;
    ListNode* const node = ends_.next_;
    node->unlink();
    return static_cast<T*>(node);
  }

  // f(element) for each, the oldest first; f must not change the list.
  template <class F>
  void each(F&& f) const noexcept {
    for (ListNode* node = ends_.next_; node != &ends_; node = node->next_) f(static_cast<T&>(*node));
  }

  // No effect on an element that is in no list. REQUIRES: the element is in no other list.
  void remove(T& element) noexcept { static_cast<ListNode&>(element).unlink(); }

 private:
  ListNode ends_;  // before the first and behind the last
};

}  // namespace cxxloop
