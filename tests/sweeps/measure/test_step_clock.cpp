#include "sweeps/measure/step_clock.hpp"

#include <catch2/catch.hpp>
#include <numeric>

#include "test_models.hpp"

using namespace helix;

namespace {

std::vector<double> weights_of(const ModelSpec& model, const Sharding& sharding, std::int64_t layers) {
  return depth_weights(legal_instance(model, sharding, {.context = 1}, layers));
}

}  // namespace

TEST_CASE("layers stand for those of their kind and of their stage") {
  const ModelSpec model = load_model("deepseek-r1");  // 3 dense layers, 58 with experts
  CHECK(weights_of(model, {}, 61) == std::vector<double>(61, 1.0));
  CHECK(weights_of(model, {}, 5) == std::vector<double>{1, 1, 1, 29, 29});

  // Two stages of 31 and 30 layers; of 9 the first has 5, of which 2 with experts stand for 28.
  const Sharding two{.pp = 2};
  CHECK(weights_of(model, two, 9) == std::vector<double>{1, 1, 1, 14, 14, 7.5, 7.5, 7.5, 7.5});
  for (const int pp : {1, 2, 4}) {
    for (const std::int64_t layers : {20, 33, 61}) {
      const std::vector<double> weights = weights_of(model, {.pp = pp}, layers);
      CHECK(std::accumulate(weights.begin(), weights.end(), 0.0) == Approx(61));
    }
  }
}

TEST_CASE("as few layers as leave no stage without a kind that it has") {
  const ModelSpec r1 = load_model("deepseek-r1"), dense = load_model("llama-3.2-1b");
  CHECK(least_layers(r1, {}) == 4);
  CHECK(least_layers(r1, {.pp = 2}) == 7);  // the first stage has 4 of 7
  CHECK(least_layers(dense, {}) == 1);
  CHECK(least_layers(dense, {.pp = 4}) == 4);
  CHECK(least_layers(load_model("tiny-gqa"), {.pp = 3}) == 3);
}

TEST_CASE("phases that trade time with each other still add up to the median step") {
  // The exchange waits for what attention is late by; one step in seven was disturbed.
  std::vector<PhaseTimes> steps(7);
  for (std::size_t i = 0; i < steps.size(); ++i) {
    const double late = 10.0 * static_cast<double>(i);
    steps[i][Phase::attn] = 100 + late;
    steps[i][Phase::a2a] = 70 - late;
  }
  steps[3][Phase::ffn] = 5000;
  CHECK(typical_phases(steps).total() == Approx(170));
  CHECK(typical_phases({steps[1]}).us == steps[1].us);
  CHECK(typical_phases({steps[1], steps[2]}).total() == Approx(170));
  CHECK(typical_phases({steps[3], steps[1], steps[2]}).total() == Approx(170));
}
