// What every device has whose ops are done when they return and whose memory the host can address.
#include "kernels/ops/device.hpp"

#include <chrono>
#include <cstring>
#include <stdexcept>
#include <vector>

namespace helix {
namespace {

class HostStopwatch final : public Stopwatch {
 public:
  void mark(std::size_t i) override {
    if (i >= marks_.size()) marks_.resize(i + 1);
    marks_[i] = Clock::now();
  }
  double us_between(std::size_t first, std::size_t second) override {
    return std::chrono::duration<double, std::micro>(marks_[second] - marks_[first]).count();
  }

 private:
  using Clock = std::chrono::steady_clock;
  std::vector<Clock::time_point> marks_;
};

}  // namespace

void Device::copy(void* to, const void* from, std::size_t bytes) {
  if (bytes > 0) std::memcpy(to, from, bytes);
}

std::unique_ptr<Stopwatch> Device::make_stopwatch() {
  return std::make_unique<HostStopwatch>();
}

std::unique_ptr<Recording> Device::record(const std::function<void()>&) {
  throw std::logic_error("the ops of the " + name() + " device are done when they return: nothing to record");
}

}  // namespace helix
