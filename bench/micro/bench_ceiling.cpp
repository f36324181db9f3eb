// The ceilings themselves: read bandwidth and multiply-add rate by thread count.
#include <benchmark/benchmark.h>

#include "bench/micro/cold_buffer.hpp"
#include "kernels/cpu/machine/stream.hpp"

namespace helix {
namespace {

void read_bandwidth(benchmark::State& state) {
  const int threads = static_cast<int>(state.range(0));
  double best = 0.0;
  for (auto _ : state) best = std::max(best, cpu::read_bandwidth_bytes_per_s(cold_buffer(), threads, 2.0));
  state.counters["bytes_per_second"] = best;
}
BENCHMARK(read_bandwidth)->Arg(1)->Arg(2)->Iterations(1)->UseRealTime();

void matrix_peak(benchmark::State& state) {
  const auto dtype = static_cast<DType>(state.range(0));
  double best = 0.0;
  for (auto _ : state)
    best = std::max(best, cpu::matrix_peak_flops_per_s(dtype, static_cast<int>(state.range(1)), 0.4));
  state.SetLabel(std::string(name(dtype)));
  state.counters["flops_per_second"] = best;
}
BENCHMARK(matrix_peak)
    ->ArgsProduct({{static_cast<int>(DType::bf16), static_cast<int>(DType::fp32)}, {1, 2}})
    ->Iterations(1)
    ->UseRealTime();

}  // namespace
}  // namespace helix
