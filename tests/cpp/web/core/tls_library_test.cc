// SPDX-License-Identifier: MIT
#include "web/core/tls_library.h"

#include <gtest/gtest.h>

#include "cpp/web/core/tls_peer.h"

namespace cxxloop::web {
namespace {

TEST(TlsLibrary, FindsTheFunctionsOfALoadedLibraryOnce) {
  if (tls_library() == nullptr) GTEST_SKIP() << "no libssl here";
  EXPECT_GE(tls_library()->OpenSSL_version_num(), 0x10101000UL);
  EXPECT_NE(tls_library()->wire_method, nullptr);
  EXPECT_EQ(TlsLibrary::find(nullptr), tls_library()) << "a process has one, whatever is asked for later";
}

}  // namespace
}  // namespace cxxloop::web
