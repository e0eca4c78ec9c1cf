// SPDX-License-Identifier: MIT
//
// web/core/output.h: what a connection sends: small bytes copied side by side, large ones by reference.
//
// Decision: one block of the server takes the small bytes of all connections, one after the other. What a connection writes
// in a row is one chunk of its queue, so head, body and the next pipelined responses leave as one piece; a connection keeps
// no buffer; and the block is warm, because it begins anew when what stood in it has been sent.
// Thread: loop thread.  Python: none.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "net/write_queue.h"

namespace cxxloop::web {

// What keeps the bytes of a chunk in place.
struct ChunkOwner {
  void (*let_go)(ChunkOwner& owner) noexcept;
};

// The blocks and records of all connections of a server. Dies after their streams.
class OutputPool {
 public:
  static constexpr size_t block_bytes = 8 * 1024;   // with its header
  static constexpr size_t spare_blocks_max = 64;
  static constexpr size_t spare_loans_max = 256;

  // `release_lent`: of the owners given to Output::lend().
  // `queued_bytes` grows by what is put to any of the streams.
  OutputPool(net::WriteQueue::ReleaseFn release_lent, uint64_t& queued_bytes) noexcept
      : release_(release_lent), queued_bytes_(queued_bytes) {}
  OutputPool(const OutputPool&) = delete;
  OutputPool& operator=(const OutputPool&) = delete;
  ~OutputPool();

  // For the streams: WriteQueue::ReleaseFn of ChunkOwner.
  static void let_go(void* owner) noexcept {
    ChunkOwner& chunk_owner = *static_cast<ChunkOwner*>(owner);
    chunk_owner.let_go(chunk_owner);
  }
  void release(void* owner) noexcept {
    if (owner != nullptr) release_(owner);
  }

 private:
  friend class Output;

  struct Block : ChunkOwner {
    OutputPool* pool;
    Block* next;      // of the spare ones
    size_t capacity;  // of what follows
    size_t used;
    uint32_t users;   // chunks, and the pool for its current block

    [[nodiscard]] char* bytes() noexcept { return reinterpret_cast<char*>(this + 1); }
  };
  struct Loan : ChunkOwner {
    OutputPool* pool;
    Loan* next;  // of the spare ones
    void* owner;
  };
  static constexpr size_t block_capacity = block_bytes - sizeof(Block);

  // Room for so many bytes in the current block. Null: no memory.
  [[nodiscard]] char* reserve(size_t bytes) noexcept;
  [[nodiscard]] Block* make_block(size_t capacity) noexcept;
  [[nodiscard]] bool reserve_loan() noexcept;
  [[nodiscard]] Loan* take_loan(void* owner) noexcept;
  static void let_go_block(ChunkOwner& owner) noexcept;
  static void let_go_loan(ChunkOwner& owner) noexcept;
  void drop_user(Block& block) noexcept;

  const net::WriteQueue::ReleaseFn release_;
  uint64_t& queued_bytes_;
  Block* current_ = nullptr;
  Block* spare_blocks_ = nullptr;
  Loan* spare_loans_ = nullptr;
  size_t spare_blocks_count_ = 0;
  size_t spare_loans_count_ = 0;
};

// The writing side of one queue: of a stream, or of what TLS has to encrypt. Nothing here sends: whoever has written adds
// the stream to the cork.
class Output {
 public:
  // What is larger goes by reference, if somebody keeps it.
  static constexpr size_t copied_bytes_max = 4 * 1024;

  Output(OutputPool& pool, net::WriteQueue& queue) noexcept : pool_(pool), queue_(queue) {}

  // Makes room for a put of so many bytes in all and one lend(), which cannot fail then. Null: no memory, nothing is queued.
  // The bytes may be written there, and commit()ted.
  [[nodiscard]] char* reserve(size_t bytes) noexcept;
  // What was written to the room of the last reserve(), from its begin on, or behind the last commit().
  void commit(size_t bytes) noexcept;
  // Copies. REQUIRES: room.
  void put(std::string_view bytes) noexcept;
  // By reference; `owner` goes to the pool's release function when they are gone. REQUIRES: not empty, a reserve().
  void lend(std::string_view bytes, void* owner) noexcept;

 private:
  OutputPool& pool_;
  net::WriteQueue& queue_;
};

}  // namespace cxxloop::web
