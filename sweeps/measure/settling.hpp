// Whether a device that was idle has come to the speed that it keeps: under load a GPU raises its clocks, and
// lowers them again as it gets warm or reaches its power limit.
#pragma once

#include <algorithm>
#include <vector>

namespace helix {

class Settling {
 public:
  /// The median step of a window of time, and the device's clock at its end (0 where it does not say).
  /// Returns whether the last three windows agree about both.
  bool add(double step_us, double clock_mhz) {
    steps_.push_back(step_us);
    clocks_.push_back(clock_mhz);
    return agree(steps_) && agree(clocks_);
  }

 private:
  static constexpr std::ptrdiff_t windows = 3;
  static constexpr double within = 0.005;

  static bool agree(const std::vector<double>& values) {
    if (values.size() < static_cast<std::size_t>(windows)) return false;
    const auto [least, most] = std::minmax_element(values.end() - windows, values.end());
    return *most - *least <= within * *most;
  }

  std::vector<double> steps_, clocks_;
};

}  // namespace helix
