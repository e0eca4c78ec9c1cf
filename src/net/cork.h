// SPDX-License-Identifier: MIT
//
// net/cork.h: the streams written to during one callback, sent when it ends: one vectored send each.
//
// Thread: loop thread.  Python: none.  Owns: nothing; a stream unlinks itself when it dies.
#pragma once

#include "base/intrusive_list.h"
#include "net/stream.h"

namespace cxxloop::net {

class Cork {
 public:
  [[nodiscard]] bool empty() const noexcept { return dirty_.empty(); }

  void add(Stream& stream) noexcept {
    if (!stream.is_linked()) dirty_.push_back(stream);
  }

  // Flushes in the order of the first write. A handler that writes again during the flush is flushed too.
  void pull() noexcept {
    while (!dirty_.empty()) {
      dirty_.pop_front()->flush();
    }
  }

 private:
  IntrusiveList<Stream> dirty_;
};

}  // namespace cxxloop::net
