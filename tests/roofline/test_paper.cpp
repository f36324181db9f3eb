// The headline ratios of the Helix paper [P] (arXiv 2507.07120v1) from one set of physical parameters:
// DeepSeek-R1 and Llama-3.1-405B at one million tokens, FP4, 1 to 64 GPUs of a GB200 NVL72, Helix against the
// best of TP, TP+PP and DP+EP.
#include <algorithm>
#include <catch2/catch.hpp>
#include <utility>
#include <vector>

#include "roofline/planner.hpp"

using namespace helix;

namespace {

struct Outcome {
  double user = 0, gpu = 0, requests = 0;
};

std::vector<Outcome> outcomes(const ModelSpec& model, const SystemSpec& system,
                              std::vector<Strategy> strategies) {
  std::vector<Outcome> all;
  Planner planner(model, system);
  for (const Strategy strategy : strategies)
    for (std::int64_t batch = 1; batch <= 4096; batch *= 2)
      for (int pp = 1; pp <= 64; pp *= 2)
        for (int dp = 1; pp * dp <= 64; dp *= 2)
          for (int kvp = 1; pp * dp * kvp <= 64; kvp *= 2)
            for (int tpa = 1; pp * dp * kvp * tpa <= 64; tpa *= 2)
              for (int ep = 1; ep <= dp * kvp * tpa; ep *= 2) {
                if (strategy == Strategy::helix && dp > 1) continue;  // DP = 1 in [P]
                const Sharding s{
                    .kvp = kvp, .tpa = tpa, .tpf = dp * kvp * tpa / ep, .ep = ep, .pp = pp, .dp = dp};
                const DecodeShape shape{
                    .context = 1000000, .batch = batch, .weight_dtype = DType::fp4, .kv_dtype = DType::fp4};
                if (why_illegal(model, strategy, s, shape)) continue;
                const Prediction p = planner.predict(s, shape);
                if (p.max_batch < batch) continue;
                all.push_back({p.tokens_per_s_user, p.tokens_per_s_gpu, static_cast<double>(batch)});
              }
  return all;
}

double most(const std::vector<Outcome>& outcomes, double Outcome::*figure, double least_user = 0) {
  double best = 0;
  for (const Outcome& o : outcomes) {
    if (o.user >= least_user * 0.999) best = std::max(best, o.*figure);
  }
  return best;
}

/// The largest gain of Helix at a speed that the baseline reaches.
double largest_gain(const std::vector<Outcome>& helix, const std::vector<Outcome>& base,
                    double Outcome::*figure) {
  double gain = 0;
  for (const Outcome& o : base)
    gain = std::max(gain, most(helix, figure, o.user) / most(base, figure, o.user));
  return gain;
}

}  // namespace

TEST_CASE("Headline ratios of the Helix paper, each within 15 %") {
  const SystemSpec gb200 = load_system("gb200");
  const auto run = [&](const char* name) {
    const ModelSpec model = load_model(name);
    return std::pair{outcomes(model, gb200, {Strategy::helix}),
                     outcomes(model, gb200, {Strategy::tp, Strategy::tp_pp, Strategy::dp_ep})};
  };
  const auto [r1_helix, r1_base] = run("deepseek-r1");
  CHECK(most(r1_helix, &Outcome::user) / most(r1_base, &Outcome::user) == Approx(1.5).epsilon(0.15));
  CHECK(largest_gain(r1_helix, r1_base, &Outcome::requests) == Approx(32).epsilon(0.15));

  const auto [llama_helix, llama_base] = run("llama-3.1-405b");
  CHECK(most(llama_helix, &Outcome::user) / most(llama_base, &Outcome::user) == Approx(1.13).epsilon(0.15));
  CHECK(largest_gain(llama_helix, llama_base, &Outcome::gpu) == Approx(4).epsilon(0.15));
  CHECK(largest_gain(llama_helix, llama_base, &Outcome::requests) == Approx(4).epsilon(0.15));
}
