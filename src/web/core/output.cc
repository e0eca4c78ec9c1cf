// SPDX-License-Identifier: MIT
#include "web/core/output.h"

#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>

#include "base/assert.h"

namespace cxxloop::web {

OutputPool::~OutputPool() {
  if (current_ != nullptr) {
    CXL_ASSERT(current_->users == 1);
    std::free(current_);
  }
  while (spare_blocks_ != nullptr) std::free(std::exchange(spare_blocks_, spare_blocks_->next));
  while (spare_loans_ != nullptr) std::free(std::exchange(spare_loans_, spare_loans_->next));
}

char* OutputPool::reserve(size_t bytes) noexcept {
  if (current_ != nullptr) {
    if (current_->users == 1) current_->used = 0;
    // An outsize block is not kept: it would hold its memory for as long as the server lives.
    const bool is_kept = current_->capacity == block_capacity || current_->used > 0;
    if (is_kept && current_->capacity - current_->used >= bytes) return current_->bytes() + current_->used;
  }
  Block* const block = make_block(bytes > block_capacity ? bytes : block_capacity);
  if (block == nullptr) return nullptr;
  if (current_ != nullptr) drop_user(*current_);
  current_ = block;
  return block->bytes();
}

OutputPool::Block* OutputPool::make_block(size_t capacity) noexcept {
  Block* block = spare_blocks_;
  if (capacity == block_capacity && block != nullptr) {
    spare_blocks_ = block->next;
    --spare_blocks_count_;
  } else {
    if (capacity > SIZE_MAX - sizeof(Block)) return nullptr;
    void* const memory = std::malloc(sizeof(Block) + capacity);
    if (memory == nullptr) return nullptr;
    block = new (memory) Block{{let_go_block}, this, nullptr, capacity, 0, 1};
  }
  block->used = 0;
  block->users = 1;
  return block;
}

void OutputPool::let_go_block(ChunkOwner& owner) noexcept {
  Block& block = static_cast<Block&>(owner);
  block.pool->drop_user(block);
}

void OutputPool::drop_user(Block& block) noexcept {
  if (--block.users > 0) return;
  if (block.capacity != block_capacity || spare_blocks_count_ == spare_blocks_max) return std::free(&block);
  block.next = std::exchange(spare_blocks_, &block);
  ++spare_blocks_count_;
}

bool OutputPool::reserve_loan() noexcept {
  if (spare_loans_ != nullptr) return true;
  void* const memory = std::malloc(sizeof(Loan));
  if (memory == nullptr) return false;
  spare_loans_ = new (memory) Loan{{let_go_loan}, this, nullptr, nullptr};
  ++spare_loans_count_;
  return true;
}

OutputPool::Loan* OutputPool::take_loan(void* owner) noexcept {
  Loan* const loan = std::exchange(spare_loans_, spare_loans_->next);
  --spare_loans_count_;
  loan->owner = owner;
  return loan;
}

void OutputPool::let_go_loan(ChunkOwner& owner) noexcept {
  Loan& loan = static_cast<Loan&>(owner);
  OutputPool& pool = *loan.pool;
  void* const lent = loan.owner;
  if (pool.spare_loans_count_ < spare_loans_max) {
    loan.next = std::exchange(pool.spare_loans_, &loan);
    ++pool.spare_loans_count_;
  } else {
    std::free(&loan);
  }
  pool.release(lent);
}

char* Output::reserve(size_t bytes) noexcept {
  // What was reserved and not committed may stand before and behind what is lent: three chunks at most.
  if (!queue_.reserve(3) || !pool_.reserve_loan()) return nullptr;
  return pool_.reserve(bytes);
}

void Output::commit(size_t bytes) noexcept {
  if (bytes == 0) return;
  OutputPool::Block& block = *pool_.current_;
  CXL_ASSERT(bytes <= block.capacity - block.used);
  const std::byte* const at = reinterpret_cast<const std::byte*>(block.bytes() + block.used);
  block.used += bytes;
  pool_.queued_bytes_ += bytes;
  // Bytes that end where ours begin are the block's own: its header lies before its first byte.
  if (queue_.grow_last(at, bytes)) return;
  ++block.users;
  CXL_CHECK(queue_.append({at, bytes, static_cast<ChunkOwner*>(&block)}));
}

void Output::put(std::string_view bytes) noexcept {
  if (bytes.empty()) return;
  OutputPool::Block& block = *pool_.current_;
  std::memcpy(block.bytes() + block.used, bytes.data(), bytes.size());
  commit(bytes.size());
}

void Output::lend(std::string_view bytes, void* owner) noexcept {
  CXL_ASSERT(!bytes.empty());
  pool_.queued_bytes_ += bytes.size();
  ChunkOwner* const loan = pool_.take_loan(owner);
  CXL_CHECK(queue_.append({reinterpret_cast<const std::byte*>(bytes.data()), bytes.size(), loan}));
}

}  // namespace cxxloop::web
