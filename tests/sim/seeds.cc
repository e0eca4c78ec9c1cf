// SPDX-License-Identifier: MIT
#include "sim/seeds.h"

#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>

// The sanitizers end a process without a signal.
extern "C" __attribute__((weak)) void __sanitizer_set_death_callback(void (*callback)());

namespace cxxloop::sim {
namespace {

char last_words[512];
size_t last_words_size = 0;

void say_last_words() { static_cast<void>(!::write(STDERR_FILENO, last_words, last_words_size)); }

void on_abort(int) {
  say_last_words();
  std::signal(SIGABRT, SIG_DFL);
  std::abort();
}

uint64_t number_from(const char* variable, uint64_t otherwise) {
  const char* const text = std::getenv(variable);
  return text == nullptr || *text == '\0' ? otherwise : std::strtoull(text, nullptr, 10);
}

}  // namespace

SeedWitness::SeedWitness() {
  std::signal(SIGABRT, on_abort);
  if (__sanitizer_set_death_callback != nullptr) __sanitizer_set_death_callback(say_last_words);
}

SeedWitness::~SeedWitness() {
  std::signal(SIGABRT, SIG_DFL);
  last_words_size = 0;
}

void SeedWitness::watch(uint64_t seed) noexcept {
  const int size = std::snprintf(last_words, sizeof(last_words), "replay: %s\n", replay_command(seed).c_str());
  last_words_size = size > 0 ? std::min(static_cast<size_t>(size), sizeof(last_words) - 1) : 0;
}

uint64_t first_seed() { return number_from("CXXLOOP_SIM_SEED", 1); }

uint64_t last_seed() {
  return std::getenv("CXXLOOP_SIM_SEED") != nullptr ? first_seed() : number_from("CXXLOOP_SIM_SEEDS", seeds_by_default);
}

std::string replay_command(uint64_t seed) {
  const testing::TestInfo* const test = testing::UnitTest::GetInstance()->current_test_info();
  return "CXXLOOP_SIM_SEED=" + std::to_string(seed) + " test_net --gtest_filter=" + test->test_suite_name() + '.' +
         test->name();
}

}  // namespace cxxloop::sim
