// What one sees while a sweep runs, on stderr: a line for each row that ended and, on a terminal, one below
// them that says what runs. mpirun hands stderr on to the terminal of the person who launched, as a pipe.
#pragma once

#include <fmt/format.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <string>
#include <string_view>

namespace helix {

/// The line itself: "[3/12] llama-3.2-1b/helix/...  1m05s left"; the time left is that of the average so far.
inline std::string progress_line(std::size_t done, std::size_t total, std::string_view running,
                                 double elapsed_s) {
  std::string line = fmt::format("[{}/{}] {}", done, total, running);
  if (done > 0 && done <= total) {
    const auto left_s =
        static_cast<long>(elapsed_s / static_cast<double>(done) * static_cast<double>(total - done) + 0.5);
    line += left_s >= 60 ? fmt::format("  {}m{:02}s left", left_s / 60, left_s % 60)
                         : fmt::format("  {}s left", left_s);
  }
  return line;
}

/// Silent unless `enabled`.
class Progress {
 public:
  Progress(std::size_t total, bool enabled)
      : total_(total), lines_(enabled), shown_(enabled && isatty(STDERR_FILENO) == 1) {}
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  ~Progress() { clear(); }

  void running(std::string_view id) {
    if (!shown_) return;
    fmt::print(stderr, "\r\033[K{}", progress_line(done_, total_, id, elapsed_s()));
    std::fflush(stderr);
  }
  void finished() { ++done_; }
  /// The same, and says of it what stays on the screen.
  void finished(std::string_view what) {
    ++done_;
    say(progress_line(done_, total_, what, elapsed_s()));
  }
  /// A line that stays.
  void say(std::string_view line) {
    if (!lines_) return;
    clear();
    fmt::print(stderr, "{}\n", line);
    std::fflush(stderr);
  }
  void clear() {
    if (shown_) fmt::print(stderr, "\r\033[K");
  }

 private:
  double elapsed_s() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }

  std::size_t total_, done_ = 0;
  bool lines_, shown_;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

}  // namespace helix
