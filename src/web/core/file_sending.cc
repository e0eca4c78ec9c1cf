// SPDX-License-Identifier: MIT
#include "web/core/file_sending.h"

#include <algorithm>

#include "io/socket.h"

namespace cxxloop::web {

FileSending::FileSending(io::Backend& backend, int socket, int file, uint64_t offset, uint64_t size, void* owner,
                         ReadyFn on_ready) noexcept
    : backend_(backend),
      owner_(owner),
      on_ready_(on_ready),
      op_(io::OpKind::poll_write, this, on_complete),
      file_(file),
      offset_(offset),
      left_(size) {
  op_.fd = socket;
}

FileSending::Progress FileSending::send_piece() noexcept {
  const size_t size = static_cast<size_t>(std::min<uint64_t>(left_, piece_bytes));
  Result<size_t> sent = io::send_file(op_.fd, file_, offset_, size);
  if (!sent.ok()) {
    if (sent.error() == Errno::again) return Progress::none;
    const bool is_broken = sent.error() == Errno::pipe || sent.error() == Errno::conn_reset;
    return is_broken ? Progress::broken : Progress::short_file;
  }
  if (sent.value() == 0) return Progress::short_file;
  offset_ += sent.value();
  left_ -= sent.value();
  return left_ == 0 ? Progress::done : Progress::some;
}

Errno FileSending::wait() noexcept { return op_.in_kernel() ? Errno::ok : backend_.submit(op_); }

bool FileSending::stop() noexcept {
  if (op_.state == io::OpState::cancelling) return false;
  return backend_.cancel(op_);
}

void FileSending::on_complete(io::Op& op, int32_t) noexcept {
  const FileSending& self = *static_cast<FileSending*>(op.owner);
  self.on_ready_(self.owner_);
}

}  // namespace cxxloop::web
