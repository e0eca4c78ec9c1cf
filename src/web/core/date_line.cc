// SPDX-License-Identifier: MIT
#include "web/core/date_line.h"

#include <cstring>

namespace cxxloop::web {

// Not strftime(), whose names are those of the process's locale.
void DateLine::write(time_t second) noexcept {
  constexpr std::string_view days = "SunMonTueWedThuFriSat";
  constexpr std::string_view months = "JanFebMarAprMayJunJulAugSepOctNovDec";
  tm time;
  gmtime_r(&second, &time);
  const auto put = [this](size_t at, std::string_view text) { std::memcpy(text_.data() + at, text.data(), text.size()); };
  const auto put_two = [this](size_t at, int number) {
    text_[at] = static_cast<char>('0' + number / 10 % 10);
    text_[at + 1] = static_cast<char>('0' + number % 10);
  };
  put(0, "Sun, 06 Nov 1994 08:49:37 GMT");
  put(0, days.substr(static_cast<size_t>(time.tm_wday) * 3, 3));
  put_two(5, time.tm_mday);
  put(8, months.substr(static_cast<size_t>(time.tm_mon) * 3, 3));
  const int year = time.tm_year + 1900;
  put_two(12, year / 100);
  put_two(14, year % 100);
  put_two(17, time.tm_hour);
  put_two(20, time.tm_min);
  put_two(23, time.tm_sec);
  second_ = second;
}

}  // namespace cxxloop::web
