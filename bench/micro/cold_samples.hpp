// Times of one operation on operands that are not in any cache.
#pragma once

#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <vector>

#include "bench/micro/cold_buffer.hpp"

namespace helix {

/// Stretches of cold_buffer(), one after the other and round again.
class ColdStretches {
 public:
  explicit ColdStretches(std::size_t bytes) : bytes_(bytes) {}

  std::byte* next() {
    if (at_ + bytes_ > cold_buffer().size()) at_ = 0;
    std::byte* const stretch = cold_buffer().data() + at_;
    at_ += bytes_;
    return stretch;
  }

 private:
  std::size_t bytes_, at_ = 0;
};

/// Runs op() for each iteration and reports the median: bytes_per_second, flops_per_second, and
/// roofline_fraction = max(bytes / bandwidth, flops / peak) / time, the ceilings being measured right before.
template <class Op>
void sample_against_roofline(benchmark::State& state, double bytes, double flops, int threads, const Op& op) {
  const double bandwidth = bandwidth_now(threads), peak = peak_now(DType::bf16, threads);
  std::vector<double> times;
  for (auto _ : state) {
    const auto start = std::chrono::steady_clock::now();
    op();
    times.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    state.SetIterationTime(times.back());
  }
  std::nth_element(times.begin(), times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2), times.end());
  const double median = times[times.size() / 2];
  state.counters["bytes_per_second"] = bytes / median;
  state.counters["flops_per_second"] = flops / median;
  state.counters["roofline_fraction"] = std::max(bytes / bandwidth, flops / peak) / median;
}

}  // namespace helix
