// Times of one operation on operands that are not in any cache.
#pragma once

#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <vector>

#include "bench/micro/cold_buffer.hpp"
#include "kernels/cpu/machine/stream.hpp"
#include "roofline/base/statistics.hpp"

namespace helix {

/// 64-byte aligned stretches of cold memory, one after the other and round again.
class ColdStretches {
 public:
  explicit ColdStretches(std::size_t bytes, std::span<std::byte> memory = cold_buffer())
      : memory_(memory), bytes_((bytes + 63) / 64 * 64) {}

  std::byte* next() {
    if (at_ + bytes_ > memory_.size()) at_ = 0;
    std::byte* const stretch = memory_.data() + at_;
    at_ += bytes_;
    return stretch;
  }

 private:
  std::span<std::byte> memory_;
  std::size_t bytes_, at_ = 0;
};

/// Runs op() for each iteration and reports of the times' median: median_us, bytes_per_second,
/// flops_per_second, and roofline_fraction = max(bytes / bandwidth, flops / peak) / time, the ceilings being
/// measured right before. Clocks change within seconds, too, so that matrix_peak_fraction is the median of
/// flops / time by a peak measured every 50 ms between the iterations.
template <class Op>
void sample_against_roofline(benchmark::State& state, double bytes, double flops, int threads, const Op& op) {
  using Clock = std::chrono::steady_clock;
  constexpr std::chrono::milliseconds kept{50};
  const Ceilings ceilings = ceilings_now(threads);
  double peak = 0.0;
  Clock::time_point peak_measured;
  std::vector<double> times, peak_fractions;
  for (auto _ : state) {
    if (Clock::now() - peak_measured > kept) {
      peak = cpu::matrix_peak_flops_per_s(DType::bf16, threads, 0.004);
      peak_measured = Clock::now();
    }
    const auto start = Clock::now();
    op();
    times.push_back(std::chrono::duration<double>(Clock::now() - start).count());
    peak_fractions.push_back(flops / peak / times.back());
    state.SetIterationTime(times.back());
  }
  const double time = median(times);
  state.counters["median_us"] = 1e6 * time;
  state.counters["bytes_per_second"] = bytes / time;
  state.counters["flops_per_second"] = flops / time;
  state.counters["roofline_fraction"] =
      std::max(bytes / ceilings.bytes_per_s, flops / ceilings.flops_per_s) / time;
  state.counters["matrix_peak_fraction"] = median(peak_fractions);
}

}  // namespace helix
