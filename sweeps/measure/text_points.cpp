#include "sweeps/measure/text_points.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "roofline/base/error.hpp"

namespace helix {

std::unique_ptr<Checkpoint> open_checkpoint(const SweepRequest& request, const ModelSpec& model) {
  if (request.weights.empty()) return nullptr;
  if (!model.not_runnable.empty()) {
    throw UsageError(fmt::format("--weights {}: the engine does not run {}", request.weights.string(),
                                 model.not_runnable.front()));
  }
  return std::make_unique<Checkpoint>(request.weights, model);
}

namespace {

/// Whether the backend can hold the model's weights in the types that their files have.
bool holds_own(const ModelSpec& model, const Backend& backend) {
  DecodeShape shape;
  WeightRequest().apply(model, shape);
  return !shape.weights && std::ranges::count(backend.weight_dtypes(), shape.weight_dtype) > 0;
}

}  // namespace

std::vector<SweepPoint> text_points(const SweepRequest& request, const ModelTable& models,
                                    std::int64_t tokens, int world_ranks, const Backend& backend) {
  std::vector<SweepSpace> blocks = request.blocks;
  for (SweepSpace& block : blocks) {
    // Enough for every DP group; what a group decodes is the same, so that one request is.
    block.batches = {.kind = Choice::Kind::listed, .values = {world_ranks}};
    block.contexts = {.kind = Choice::Kind::listed, .values = {tokens}};
    for (WeightRequest& weights : block.weight_dtypes)
      if (weights == WeightRequest() && !holds_own(models.begin()->second, backend)) weights = DType::bf16;
  }
  std::vector<SweepPoint> points = enumerate(blocks, models, {.max_ranks = world_ranks}, world_ranks);
  for (SweepPoint& point : points) {
    const Sharding& s = point.config.sharding;
    point.config.shape.batch =
        s.dp > 1 ? std::int64_t{s.dp} * s.pp : 1;  // in every micro-batch one of each group
  }
  return points;
}

Admission admit_text(const SweepPoint& point, std::int64_t steps, const Checkpoint& weights, Backend& backend,
                     const World& world) {
  SweepPoint empty = point;
  empty.config.shape.context = 0;
  Admission admission =
      admit(empty, {.layers = point.model->layers, .least_layers = point.config.sharding.pp, .steps = steps},
            0, backend, world);
  if (admission.engine) admission.engine->weights = &weights;
  return admission;
}

void require_tokens(const std::vector<std::int32_t>& tokens, const ModelSpec& model) {
  const auto outside =
      std::ranges::find_if(tokens, [&](std::int32_t t) { return t < 0 || t >= model.vocab; });
  if (outside == tokens.end()) return;
  throw UsageError(
      fmt::format("token {} of the prompt: the vocabulary of {} has {}", *outside, model.name, model.vocab));
}

}  // namespace helix
