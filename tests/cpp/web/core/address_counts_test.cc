// SPDX-License-Identifier: MIT
#include "web/core/address_counts.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/un.h>

#include <string>
#include <vector>

namespace cxxloop::web {
namespace {

io::Address four(const std::string& text, uint16_t port = 1) {
  io::Address address;
  auto& in = reinterpret_cast<sockaddr_in&>(address.storage);
  in.sin_family = AF_INET;
  in.sin_port = port;
  EXPECT_EQ(inet_pton(AF_INET, text.c_str(), &in.sin_addr), 1);
  address.size = sizeof(in);
  return address;
}

io::Address six(const std::string& text) {
  io::Address address;
  auto& in = reinterpret_cast<sockaddr_in6&>(address.storage);
  in.sin6_family = AF_INET6;
  EXPECT_EQ(inet_pton(AF_INET6, text.c_str(), &in.sin6_addr), 1);
  address.size = sizeof(in);
  return address;
}

TEST(AddressCounts, CountsTheConnectionsOfEachAddress) {
  AddressCounts counts;
  AddressCounts::Entry* const first = counts.add(four("10.0.0.1", 1));
  AddressCounts::Entry* const again = counts.add(four("10.0.0.1", 2));
  AddressCounts::Entry* const other = counts.add(four("10.0.0.2"));
  ASSERT_NE(first, nullptr);
  EXPECT_EQ(first, again);
  EXPECT_NE(first, other);
  EXPECT_EQ(first->count, 2U);
  counts.drop(first);
  EXPECT_EQ(again->count, 1U);
  counts.drop(again);
  counts.drop(other);
  EXPECT_EQ(counts.size(), 0U);
}

TEST(AddressCounts, CountsANetworkOfOneClientAsOne) {
  AddressCounts counts;
  AddressCounts::Entry* const one = counts.add(six("2001:db8:1:2::1"));
  AddressCounts::Entry* const neighbour = counts.add(six("2001:db8:1:2:ffff::2"));
  AddressCounts::Entry* const other = counts.add(six("2001:db8:1:3::1"));
  AddressCounts::Entry* const loopback = counts.add(six("::1"));
  EXPECT_EQ(one, neighbour);
  EXPECT_NE(one, other);
  ASSERT_NE(loopback, nullptr);
  for (AddressCounts::Entry* const entry : {one, neighbour, other, loopback}) counts.drop(entry);
}

TEST(AddressCounts, TakesAMappedAddressForWhatItIs) {
  AddressCounts counts;
  AddressCounts::Entry* const mapped = counts.add(six("::ffff:10.0.0.1"));
  EXPECT_EQ(mapped, counts.add(four("10.0.0.1")));
  counts.drop(mapped);
  counts.drop(mapped);
}

TEST(AddressCounts, DoesNotCountUnixSockets) {
  AddressCounts counts;
  io::Address address;
  address.storage.ss_family = AF_UNIX;
  address.size = sizeof(sa_family_t);
  EXPECT_EQ(counts.add(address), nullptr);
  address.size = 0;
  EXPECT_EQ(counts.add(address), nullptr);
  counts.drop(nullptr);
}

TEST(AddressCounts, KeepsThousandsApart) {
  AddressCounts counts;
  std::vector<AddressCounts::Entry*> entries;
  const auto address = [](int i) { return four("10.1." + std::to_string(i / 256) + "." + std::to_string(i % 256)); };
  for (int i = 0; i < 3000; ++i) entries.push_back(counts.add(address(i)));
  EXPECT_EQ(counts.size(), 3000U);
  for (int i = 0; i < 3000; ++i) {
    EXPECT_EQ(counts.add(address(i)), entries[static_cast<size_t>(i)]);
    EXPECT_EQ(entries[static_cast<size_t>(i)]->count, 2U);
  }
  for (AddressCounts::Entry* const entry : entries) {
    counts.drop(entry);
    counts.drop(entry);
  }
  EXPECT_EQ(counts.size(), 0U);
}

}  // namespace
}  // namespace cxxloop::web
