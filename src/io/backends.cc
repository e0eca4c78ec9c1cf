// SPDX-License-Identifier: MIT
#include "io/backends.h"

#include "io/ev_backend.h"
#ifdef CXXLOOP_TEST_BACKENDS
#include "sim/late_backend.h"
#endif

namespace cxxloop::io {
namespace {

const char* works_everywhere() noexcept { return nullptr; }

constexpr BackendEntry entries[] = {
    {"libev", ev_base, works_everywhere, make_ev_backend},
#ifdef CXXLOOP_TEST_BACKENDS
    {"late", ev_base, works_everywhere, sim::make_late_backend},
#endif
};

}  // namespace

std::span<const BackendEntry> backends() noexcept { return entries; }

const BackendEntry* find_backend(std::string_view name) noexcept {
  for (const BackendEntry& entry : entries) {
    if (name == "auto" ? entry.why_not() == nullptr : name == entry.name) return &entry;
  }
  return nullptr;
}

}  // namespace cxxloop::io
