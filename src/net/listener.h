// SPDX-License-Identifier: MIT
//
// net/listener.h: one listening socket: every accepted descriptor is handed up, out of memory or descriptors included.
//
// Thread: loop thread.  Python: none.  Owns: one AcceptOp; borrows the fd.
// Dies: after stop() returned true or on_stopped() was called.
#pragma once

#include <cstdint>

#include "base/unique_fd.h"
#include "io/backend.h"
#include "io/op.h"

namespace cxxloop::net {

class ListenerHandler {
 public:
  // `peer` is valid during the call; its size is 0 if the backend does not know it. Both methods may stop or destroy the listener.
  virtual void on_accept(UniqueFd fd, const io::Address& peer) noexcept = 0;
  virtual void on_accept_error(Errno error) noexcept = 0;
  virtual void on_stopped() noexcept = 0;  // after stop() == false: the kernel has let go

 protected:
  ~ListenerHandler() = default;
};

class Listener {
 public:
  // `fd_witness`: as io::Op's; valid until it is stopped.
  Listener(io::Backend& backend, int fd, ListenerHandler& handler, const int* fd_witness = nullptr) noexcept;

  // accepts_max: connections taken per readiness, so that one flood does not starve the rest of the loop.
  [[nodiscard]] Errno start(uint32_t accepts_max) noexcept;
  // True: idle now. False: on_stopped() will tell; connections accepted meanwhile are closed.
  [[nodiscard]] bool stop() noexcept;
  [[nodiscard]] uint32_t accepts_max() const noexcept { return accept_.accepts_max; }
  // The backend was drained: on_stopped() will not come any more.
  void mark_stopped() noexcept { stopping_ = false; }

 private:
  static void on_complete(io::Op& op, int32_t result) noexcept;

  io::Backend& backend_;
  ListenerHandler& handler_;
  io::AcceptOp accept_;
  bool stopping_ = false;  // True exactly when stop() was called and the kernel has not let go
};

}  // namespace cxxloop::net
