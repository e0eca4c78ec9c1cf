// SPDX-License-Identifier: MIT
#include "net/listener.h"

namespace cxxloop::net {

Listener::Listener(io::Backend& backend, int fd, ListenerHandler& handler, const int* fd_witness) noexcept
    : backend_(backend), handler_(handler), accept_(this, on_complete) {
  accept_.fd = fd;
  accept_.fd_witness = fd_witness;
}

Errno Listener::start(uint32_t accepts_max) noexcept {
  accept_.accepts_max = accepts_max;
  return backend_.submit(accept_);
}

bool Listener::stop() noexcept {
  if (!stopping_) stopping_ = !backend_.cancel(accept_);
  return !stopping_;
}

void Listener::on_complete(io::Op& op, int32_t result) noexcept {
  Listener& self = *static_cast<Listener*>(op.owner);
  UniqueFd accepted(result >= 0 ? result : -1);
  if (self.stopping_) {  // Close what was accepted after stop(): the handler expects no connection any more.
    if (accepted.valid()) self.backend_.forget(accepted.get());
    CXL_ASSERT(!op.in_kernel());
    self.stopping_ = false;
    return self.handler_.on_stopped();
  }
  if (accepted.valid()) return self.handler_.on_accept(std::move(accepted), self.accept_.peer);
  self.handler_.on_accept_error(errno_of(result));
}

}  // namespace cxxloop::net
