// SPDX-License-Identifier: MIT
#include "io/backend_factory.h"

#include "io/ev_backend.h"

namespace cxxloop::io {

BackendProbe probe_backends() noexcept {
  const EvVersion libev = ev_version();
  return {.libev_version_major = libev.major, .libev_version_minor = libev.minor, .libev_poller = libev.poller};
}

std::unique_ptr<Backend> make_backend(BackendKind kind, Errno* why) noexcept {
  switch (kind) {
    case BackendKind::automatic:
    case BackendKind::libev:
      return make_ev_backend(why);
  }
  *why = Errno::invalid;
  return nullptr;
}

}  // namespace cxxloop::io
