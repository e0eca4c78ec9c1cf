// SPDX-License-Identifier: MIT
//
// web/core/date_line.h: the value of Date (RFC 9110 5.6.7), written once a second.
//
// Thread: one at a time.
#pragma once

#include <array>
#include <ctime>
#include <string_view>

namespace cxxloop::web {

class DateLine {
 public:
  // Valid until the next call.
  [[nodiscard]] std::string_view now() noexcept {
    timespec time;
    clock_gettime(CLOCK_REALTIME_COARSE, &time);
    return at(time.tv_sec);
  }
  [[nodiscard]] std::string_view at(time_t second) noexcept {
    if (second != second_) write(second);
    return {text_.data(), text_.size()};
  }

 private:
  void write(time_t second) noexcept;

  std::array<char, 29> text_{};  // "Sun, 06 Nov 1994 08:49:37 GMT"
  time_t second_ = -1;
};

}  // namespace cxxloop::web
