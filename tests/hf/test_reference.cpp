// The fp64 reference against Hugging Face transformers: same checkpoints, same prompts.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>

#include "hf/golden.hpp"
#include "kernels/checkpoint/checkpoint.hpp"
#include "kernels/reference/reference_model.hpp"

using namespace helix;
using namespace helix::testing;

TEST_CASE("the reference computes what transformers does, in fp64") {
  const std::string name = GENERATE(from_range(golden_cases()));
  CAPTURE(name);
  const ModelSpec model = load_model(golden_folder() / name);
  CHECK(model.not_runnable.empty());
  const Checkpoint checkpoint(golden_folder() / name, model);
  const Golden golden(name);
  const auto vocab = static_cast<std::size_t>(model.vocab), top_k = static_cast<std::size_t>(model.moe.top_k);
  REQUIRE(golden.logits.size() == golden.tokens.size() * vocab);

  reference::ReferenceRequest request({.model = model,
                                       .layers = reference::first_layers(model.layers),
                                       .exact_cache = true,
                                       .weights = &checkpoint},
                                      0);
  double squares = 0, norm = 0;
  for (std::size_t t = 0; t < golden.tokens.size(); ++t) {
    const reference::ReferenceStep step = request.step(static_cast<std::int32_t>(golden.tokens[t]));
    for (std::size_t i = 0; i < vocab; ++i) {
      const double expected = golden.logits[t * vocab + i];
      squares += (step.logits[i] - expected) * (step.logits[i] - expected);
      norm += expected * expected;
    }
    if (static_cast<std::int64_t>(t) + 1 >= golden.prompt && t + 1 < golden.tokens.size())
      CHECK(step.token == golden.tokens[t + 1]);
    std::size_t moe_layer = 0;
    for (const std::vector<std::int32_t>& chosen : step.routing) {
      if (chosen.empty() || golden.experts.empty()) continue;
      std::vector<std::int64_t> experts(chosen.begin(), chosen.end());
      std::ranges::sort(experts);
      const auto first = golden.experts.begin() +
                         static_cast<std::ptrdiff_t>((moe_layer++ * golden.tokens.size() + t) * top_k);
      CHECK(std::equal(experts.begin(), experts.end(), first));
    }
  }
  // Sums of a few dozen products in another order; what differs in a formula is at least 1e-6.
  CHECK(std::sqrt(squares / norm) < 1e-12);
}
