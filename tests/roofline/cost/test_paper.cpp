// The published headline ratios from one set of physical parameters, at one million tokens on 1 to 64 GPUs,
// Helix against the best of TP, TP+PP and DP+EP: the simulations of the paper [P] (arXiv 2507.07120v1,
// DeepSeek-R1 and Llama-3.1-405B, FP4, GB200 NVL72) and TensorRT-LLM's measurement on GB300 NVL72 ([B], its
// Helix tech blog).
#include <algorithm>
#include <catch2/catch.hpp>
#include <utility>
#include <vector>

#include "roofline/cost/planner.hpp"

using namespace helix;

namespace {

struct Outcome {
  double user = 0, gpu = 0, requests = 0;
};

std::vector<Outcome> outcomes(const ModelSpec& model, const SystemSpec& system,
                              std::vector<Strategy> strategies, DType kv_dtype) {
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
                    .context = 1000000, .batch = batch, .weight_dtype = DType::fp4, .kv_dtype = kv_dtype};
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

struct Comparison {
  std::vector<Outcome> helix, base;
  double user_gain() const { return most(helix, &Outcome::user) / most(base, &Outcome::user); }
};

Comparison compare(const char* model_name, const char* system_name, DType kv_dtype) {
  const ModelSpec model = load_model(model_name);
  const SystemSpec system = load_system(system_name);
  return {outcomes(model, system, {Strategy::helix}, kv_dtype),
          outcomes(model, system, {Strategy::tp, Strategy::tp_pp, Strategy::dp_ep}, kv_dtype)};
}

}  // namespace

TEST_CASE("Headline ratios of the Helix paper, each within 15 %") {
  const Comparison r1 = compare("deepseek-r1", "gb200", DType::fp4);
  CHECK(r1.user_gain() == Approx(1.5).epsilon(0.15));
  CHECK(largest_gain(r1.helix, r1.base, &Outcome::requests) == Approx(32).epsilon(0.15));

  const Comparison llama = compare("llama-3.1-405b", "gb200", DType::fp4);
  CHECK(llama.user_gain() == Approx(1.13).epsilon(0.15));
  CHECK(largest_gain(llama.helix, llama.base, &Outcome::gpu) == Approx(4).epsilon(0.15));
  CHECK(largest_gain(llama.helix, llama.base, &Outcome::requests) == Approx(4).epsilon(0.15));
}

// TensorRT-LLM refused an FP4 cache for MLA decoding when [B] was measured, so its FP4 is that
// of the weights.
TEST_CASE("Headline ratios measured with TensorRT-LLM on GB300, each within 15 %") {
  const Comparison r1 = compare("deepseek-r1", "gb300", DType::fp8);
  CHECK(r1.user_gain() == Approx(1.8).epsilon(0.15));
  CHECK(largest_gain(r1.helix, r1.base, &Outcome::requests) == Approx(32).epsilon(0.15));
}
