// SPDX-License-Identifier: MIT
#include "io/backends.h"

#include <gtest/gtest.h>

#include <set>
#include <string_view>

namespace cxxloop::io {
namespace {

TEST(Backends, EachIsFoundByItsName) {
  std::set<std::string_view> names;
  for (const BackendEntry& entry : backends()) {
    EXPECT_EQ(find_backend(entry.name), &entry);
    EXPECT_TRUE(names.insert(entry.name).second);
  }
  EXPECT_TRUE(names.contains("libev"));
  EXPECT_EQ(find_backend("steam"), nullptr);
  EXPECT_EQ(find_backend(""), nullptr);
}

TEST(Backends, AutoIsTheFirstThatWorks) {
  const BackendEntry* const chosen = find_backend("auto");
  ASSERT_NE(chosen, nullptr);
  EXPECT_EQ(chosen->why_not(), nullptr);
  EXPECT_STREQ(chosen->name, "libev");
}

TEST(Backends, EachMakesABackendOfItsName) {
  for (const BackendEntry& entry : backends()) {
    Errno why = Errno::invalid;
    const std::unique_ptr<Backend> backend = entry.make(&why);
    ASSERT_NE(backend, nullptr);
    EXPECT_EQ(why, Errno::ok);
    EXPECT_STREQ(backend->name(), entry.name);
    EXPECT_STREQ(entry.base().poller, "epoll");
  }
}

}  // namespace
}  // namespace cxxloop::io
