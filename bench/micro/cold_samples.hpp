// Times of one operation on operands that are not in any cache.
#pragma once

#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <vector>

#include "bench/micro/cold_buffer.hpp"

namespace helix {

/// 64-byte aligned stretches of cold_buffer(), one after the other and round again.
class ColdStretches {
 public:
  explicit ColdStretches(std::size_t bytes) : bytes_((bytes + 63) / 64 * 64) {}

  std::byte* next() {
    if (at_ + bytes_ > cold_buffer().size()) at_ = 0;
    std::byte* const stretch = cold_buffer().data() + at_;
    at_ += bytes_;
    return stretch;
  }

 private:
  std::size_t bytes_, at_ = 0;
};

/// Runs op() for each iteration and reports the median: median_us, bytes_per_second, flops_per_second, and
/// roofline_fraction = max(bytes / bandwidth, flops / peak) / time, the ceilings being measured right before.
template <class Op>
void sample_against_roofline(benchmark::State& state, double bytes, double flops, int threads, const Op& op) {
  const Ceilings ceilings = ceilings_now(threads);
  std::vector<double> times;
  for (auto _ : state) {
    const auto start = std::chrono::steady_clock::now();
    op();
    times.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    state.SetIterationTime(times.back());
  }
  std::nth_element(times.begin(), times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2), times.end());
  const double median = times[times.size() / 2];
  state.counters["median_us"] = 1e6 * median;
  state.counters["bytes_per_second"] = bytes / median;
  state.counters["flops_per_second"] = flops / median;
  state.counters["roofline_fraction"] =
      std::max(bytes / ceilings.bytes_per_s, flops / ceilings.flops_per_s) / median;
}

}  // namespace helix
