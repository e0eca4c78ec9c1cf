// SPDX-License-Identifier: MIT
//
// ci/callgrind_switch.cc: callgrind's counting, switched by the program that is counted, and a clock that goes by its
// reads. How often a loop looks at the kernel depends on the time, which is another one in each run under valgrind.
// Loaded by LD_PRELOAD. Outside of valgrind nothing is counted.
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include <valgrind/callgrind.h>

namespace {

constexpr long tick_ns = 500;  // about a turn of a loop with little to do
constexpr long second_ns = 1'000'000'000;
bool is_stopped = false;
timespec stopped_at{};

}  // namespace

extern "C" int clock_gettime(clockid_t clock, timespec* now) {
  if (!is_stopped || clock != CLOCK_MONOTONIC) return static_cast<int>(syscall(SYS_clock_gettime, clock, now));
  stopped_at.tv_nsec += tick_ns;
  if (stopped_at.tv_nsec >= second_ns) {
    stopped_at.tv_nsec -= second_ns;
    ++stopped_at.tv_sec;
  }
  *now = stopped_at;
  return 0;
}

// Until then the program runs three times as fast, on the real clock.
extern "C" void prepare_counting() {
  CALLGRIND_START_INSTRUMENTATION;
  clock_gettime(CLOCK_MONOTONIC, &stopped_at);
  is_stopped = true;
}

// Counting is a state of the calling thread.
extern "C" void toggle_counting() { CALLGRIND_TOGGLE_COLLECT; }

// Writes a file with what was counted since the last one.
extern "C" void write_count() { CALLGRIND_DUMP_STATS; }
