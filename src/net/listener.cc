// SPDX-License-Identifier: MIT
#include "net/listener.h"

namespace cxxloop::net {

Listener::Listener(io::Backend& backend, int fd, ListenerHandler& handler) noexcept
    : backend_(backend), handler_(handler), accept_(this, on_complete) {
  accept_.fd = fd;
}

Errno Listener::start(uint32_t accepts_max) noexcept {
  accept_.accepts_max = accepts_max;
  return backend_.submit(accept_);
}

bool Listener::stop() noexcept {
  return accept_.state == io::OpState::idle || (accept_.state == io::OpState::armed && backend_.cancel(accept_));
}

void Listener::on_complete(io::Op& op, int32_t result) noexcept {
  Listener& self = *static_cast<Listener*>(op.owner);
  UniqueFd accepted(result >= 0 ? result : -1);
  if (op.state == io::OpState::cancelling) return;  // nobody wants it any more: closed on the way out
  if (accepted.get() >= 0 && op.state == io::OpState::armed) {
    return self.handler_.on_accept(std::move(accepted), self.accept_.peer, self.accept_.peer_size);
  }
  if (result == -ECANCELED || result >= 0) return self.handler_.on_stopped();
  self.handler_.on_accept_error(errno_of(result));
}

}  // namespace cxxloop::net
