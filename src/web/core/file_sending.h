// SPDX-License-Identifier: MIT
//
// web/core/file_sending.h: a part of a file on its way to a socket, moved by the kernel alone (sendfile(2)).
//
// Thread: loop thread.  Python: none.  Owns: one op; borrows both descriptors.
// Dies: when is_waiting() is false.
#pragma once

#include <cstddef>
#include <cstdint>

#include "io/backend.h"
#include "io/op.h"

namespace cxxloop::web {

class FileSending {
 public:
  // Sent at once, so that a large file does not keep other connections waiting.
  static constexpr size_t piece_bytes = 256 * 1024;

  // The socket has room, or the op has ended after stop(). May destroy the sending.
  using ReadyFn = void (*)(void* owner) noexcept;
  enum class Progress : uint8_t {
    some,    // there is more
    none,    // the kernel is full
    done,
    broken,  // the client has gone
    short_file,  // the file ends earlier, or cannot be read
  };

  FileSending(io::Backend& backend, int socket, int file, uint64_t offset, uint64_t size, void* owner, ReadyFn on_ready) noexcept;

  // REQUIRES: nothing waits to be sent to the socket by anybody else.
  [[nodiscard]] Progress send_piece() noexcept;
  // Has on_ready called when there is room, until stop(). An Errno: it cannot be.
  [[nodiscard]] Errno wait() noexcept;
  // True: on_ready is not called any more. False: once more, when the kernel has let go.
  [[nodiscard]] bool stop() noexcept;
  // True exactly when the kernel may call back.
  [[nodiscard]] bool is_waiting() const noexcept { return op_.in_kernel(); }
  [[nodiscard]] bool is_done() const noexcept { return left_ == 0; }
  [[nodiscard]] uint64_t left_bytes() const noexcept { return left_; }

 private:
  static void on_complete(io::Op& op, int32_t result) noexcept;

  io::Backend& backend_;
  void* const owner_;
  const ReadyFn on_ready_;
  io::Op op_;
  const int file_;
  uint64_t offset_;
  uint64_t left_;
};

}  // namespace cxxloop::web
