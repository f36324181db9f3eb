#include "sweeps/measure/step_clock.hpp"

#include <algorithm>

namespace helix {
namespace {

std::int64_t count(const ModelSpec& model, const Range& layers, const LayerKind& kind) {
  std::int64_t n = 0;
  for (std::int64_t l = layers.begin; l < layers.end; ++l) n += model.layer_kind(l) == kind ? 1 : 0;
  return n;
}

bool shows_all_kinds(const ModelSpec& model, const Range& shown, const Range& all) {
  for (std::int64_t l = all.begin; l < all.end; ++l) {
    if (count(model, shown, model.layer_kind(l)) == 0) return false;
  }
  return true;
}

}  // namespace

std::vector<double> depth_weights(const Instance& instance) {
  const ModelSpec& model = instance.model();
  std::vector<double> weights;
  for (int stage = 0; stage < instance.sharding().pp; ++stage) {
    const Range run = instance.layers_of(stage);
    const Range all = stage_layers(model.layers, instance.sharding(), stage);
    for (std::int64_t l = run.begin; l < run.end; ++l) {
      const LayerKind kind = model.layer_kind(l);
      weights.push_back(static_cast<double>(count(model, all, kind)) /
                        static_cast<double>(count(model, run, kind)));
    }
  }
  return weights;
}

std::int64_t least_layers(const ModelSpec& model, const Sharding& sharding) {
  for (std::int64_t layers = sharding.pp; layers < model.layers; ++layers) {
    bool shown = true;
    for (int stage = 0; shown && stage < sharding.pp; ++stage) {
      shown = shows_all_kinds(model, stage_layers(layers, sharding, stage),
                              stage_layers(model.layers, sharding, stage));
    }
    if (shown) return layers;
  }
  return model.layers;
}

PhaseTimes typical_phases(std::vector<PhaseTimes> steps) {
  std::ranges::sort(steps, {}, &PhaseTimes::total);
  const std::size_t cut = (steps.size() + 1) / 4;
  const auto kept = static_cast<double>(steps.size() - 2 * cut);
  PhaseTimes mean;
  for (std::size_t i = cut; i < steps.size() - cut; ++i) {
    for (std::size_t p = 0; p < phase_count; ++p) mean.us[p] += steps[i].us[p] / kept;
  }
  return mean;
}

}  // namespace helix
