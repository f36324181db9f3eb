// How many configurations of a sweep are predicted per second.
#include <benchmark/benchmark.h>

#include <cstdint>
#include <string>
#include <vector>

#include "roofline/cost/pareto.hpp"
#include "roofline/cost/planner.hpp"

namespace {

using namespace helix;

struct Point {
  Sharding sharding;
  DecodeShape shape;
};

/// Every split of up to 64 GPUs by powers of two, at several contexts and batches.
std::vector<Point> points_of(const ModelSpec& model) {
  std::vector<Point> points;
  for (std::int64_t context : {131072, 262144, 524288, 1000000}) {
    for (std::int64_t batch = 1; batch <= 4096; batch *= 2) {
      for (int hop_b : {1, 4}) {
        const DecodeShape shape{.context = context,
                                .batch = batch,
                                .hop_b = hop_b,
                                .weight_dtype = DType::fp4,
                                .kv_dtype = DType::fp4};
        for (int pp = 1; pp <= 8; pp *= 2)
          for (int dp = 1; dp <= 64; dp *= 2)
            for (int kvp = 1; kvp <= 64; kvp *= 2)
              for (int tpa = 1; pp * dp * kvp * tpa <= 64; tpa *= 2)
                for (int ep = 1; ep <= dp * kvp * tpa; ep *= 2) {
                  const Sharding s{
                      .kvp = kvp, .tpa = tpa, .tpf = dp * kvp * tpa / ep, .ep = ep, .pp = pp, .dp = dp};
                  if (!why_illegal(model, Strategy::helix, s, shape)) points.push_back({s, shape});
                }
      }
    }
  }
  return points;
}

void sweep(benchmark::State& state, const std::string& name) {
  const ModelSpec model = load_model(name);
  const SystemSpec system = load_system("gb200");
  const std::vector<Point> points = points_of(model);
  for (auto _ : state) {
    Planner planner(model, system);  // its tables are filled inside the timed loop
    ParetoFrontier frontier;
    for (std::size_t i = 0; i < points.size(); ++i) {
      const Prediction p = planner.predict(points[i].sharding, points[i].shape);
      if (p.max_batch >= points[i].shape.batch) frontier.insert({p.tokens_per_s_user, p.tokens_per_s_gpu}, i);
    }
    benchmark::DoNotOptimize(frontier.size());
  }
  state.counters["configurations"] = static_cast<double>(points.size());
  state.counters["configurations_per_second"] =
      benchmark::Counter(static_cast<double>(points.size()), benchmark::Counter::kIsIterationInvariantRate);
}

BENCHMARK_CAPTURE(sweep, deepseek_r1, "deepseek-r1")->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(sweep, llama_405b, "llama-3.1-405b")->Unit(benchmark::kMillisecond);

}  // namespace
