#include "sweeps/measure/admission.hpp"

#include <fmt/ranges.h>

#include <algorithm>
#include <limits>
#include <utility>
#include <variant>

#include "kernels/engine/draft_block.hpp"
#include "kernels/engine/indexer.hpp"
#include "kernels/state/kv_cache.hpp"
#include "kernels/state/weight_plan.hpp"
#include "roofline/step/draft_ops.hpp"
#include "roofline/step/memory.hpp"

namespace helix {
namespace {

std::string why_dtype_not_measured(const char* what, DType dtype, std::span<const DType> measured) {
  if (std::ranges::count(measured, dtype) > 0) return {};
  std::vector<std::string_view> names;
  for (const DType d : measured) names.push_back(name(d));
  return fmt::format("{} dtype {} is predicted, not measured; {} {}", what, name(dtype),
                     fmt::join(names, " and "), names.size() > 1 ? "are" : "is");
}

std::string why_dtypes_not_measured(const DecodeShape& shape, const Backend& backend) {
  if (shape.weights) {
    const std::span<const DType> measured = backend.weight_dtypes();
    const bool as_most = std::ranges::count(measured, shape.weight_dtype) > 0;
    return fmt::format(
        "weights of several types are predicted, not measured; --weight-dtype {} measures one for all",
        name(as_most ? shape.weight_dtype : measured.front()));
  }
  const std::string of_weights =
      why_dtype_not_measured("weight", shape.weight_dtype, backend.weight_dtypes());
  return of_weights.empty() ? why_dtype_not_measured("kv", shape.kv_dtype, backend.kv_dtypes()) : of_weights;
}

}  // namespace

KvShape first_ranks_cache(const SweepPoint& point) {
  const Configuration& c = point.config;
  return attention_part(point.model->attention, c.sharding, {}, c.shape).cache;
}

std::string why_no_kernels(const SweepPoint& point, const Backend& backend) {
  if (point.config.shape.exchange != CacheExchange{}) {
    return fmt::format(
        "predicted only: the engine runs dcp with --dcp-merge a2a --dcp-queries replicated, not {}",
        to_string(point.config.shape.exchange));
  }
  if (const int copies = point.config.shape.redundant_experts; copies > 0) {
    return fmt::format(
        "predicted only: the engine holds each expert once, not {} redundant experts beside them", copies);
  }
  if (!point.model->not_runnable.empty())
    return fmt::format("predicted only: the engine does not run {}", point.model->not_runnable.front());
  if (const std::string reason = why_no_drafts(*point.model, point.config.shape); !reason.empty())
    return fmt::format("predicted only: {}", reason);
  const std::string of_types = why_dtypes_not_measured(point.config.shape, backend);
  if (!of_types.empty()) return of_types;
  const AttentionPart part =
      attention_part(point.model->attention, point.config.sharding, {}, point.config.shape);
  std::string of_cache =
      backend.why_not_attended(part.cache, part.heads.size(), point.config.shape.query_tokens());
  if (of_cache.empty() && part.cache.kernels != KernelMaker::own &&
      point.model->attention.indexer.heads > 0) {
    of_cache = fmt::format("sparse attention gathers rows for kernels of our own, not for those of {}",
                           name(part.cache.kernels));
  }
  if (of_cache.empty() && point.model->attention.indexer.heads > 0)
    of_cache = backend.why_not(Indexer::key_shape(point.model->attention.indexer, first_ranks_cache(point)));
  return of_cache.empty() ? of_cache : "predicted, not measured: " + of_cache;
}

std::string why_not_measured(const SweepPoint& point, const Backend& backend) {
  const Configuration& c = point.config;
  if (!point.skip_reason.empty()) return point.skip_reason;
  if (!every_group_attends(c.sharding, c.shape.batch)) {
    return fmt::format(
        "predicted, not measured: batch={} in {} micro-batches leaves some of dp={} groups without a request",
        c.shape.batch, c.sharding.pp, c.sharding.dp);
  }
  const std::string reason = why_no_kernels(point, backend);
  return reason.empty() ? why_not_cut(*point.model, c.sharding, c.shape.weight_dtype) : reason;
}

double engine_bytes(const Instance& instance, std::int64_t steps, const Backend& backend) {
  const RankPlan busiest(instance, 0);
  const DecodeShape& shape = instance.shape();
  const ModelSpec model =
      as_stepped(truncated(instance.model(), instance.layers()), instance.sharding(), shape);
  const MemoryModel predicted = memory_model({model, instance.sharding(), shape});
  const double predicted_cache =
      predicted.kv_per_request * real(ceil_div(shape.batch, instance.sharding().dp));
  const auto caches = static_cast<double>(DecodeEngine::cache_bytes(busiest, steps, backend).sum());
  // The engine holds the scores of all tokens and the chosen rows together, a GPU's model one after the other.
  const auto indexer = static_cast<double>(Indexer::array_bytes(backend, busiest, steps));
  // The engine has a table to look tokens up in and a packed matrix for the head, be they the same numbers.
  const double tied = model.tied_embeddings ? real(busiest.vocab().size() * model.hidden) *
                                                  weight_format(shape, WeightPart::embedding).bytes
                                            : 0;
  const auto drafts = static_cast<double>(DraftBlock::array_bytes(backend, busiest));
  return predicted.bytes(shape.batch) - predicted_cache + caches + indexer + tied + drafts;
}

std::string why_not_exchanged(const Instance& instance) {
  const DecodeShape& shape = instance.shape();
  const ModelSpec model = as_stepped(instance.model(), instance.sharding(), shape);
  const int ranks = instance.sharding().stage_ranks();
  if (ranks == 1) return {};
  // Verification gathers the logits.
  double longest =
      static_cast<double>(shape.batch * even_split(model.vocab, ranks, 0).size()) * sizeof(float);
  for (const Op& op : decode_ops({model, instance.sharding(), shape})) {
    const auto* collective = std::get_if<CollectiveShape>(&op.shape);
    if (collective == nullptr) continue;
    const bool parts = collective->op == Collective::all_to_all;
    longest = std::max(longest, collective->payload_bytes / (parts ? collective->group : 1));
  }
  constexpr int most = std::numeric_limits<int>::max();
  if (longest <= most) return {};
  return fmt::format("ranks would exchange {:.0f} bytes with each other in one message, MPI counts to {}",
                     longest, most);
}

std::string why_not_fitting(double bytes_per_rank, const World& world) {
  if (bytes_per_rank <= static_cast<double>(world.memory_bytes)) return {};
  return shortage_text(bytes_per_rank, static_cast<double>(world.memory_bytes) / world.memory_fraction,
                       world.memory_fraction);
}

std::int64_t layers_to_measure(const Configuration& config, const ModelSpec& model) {
  return config.layers == 0 ? model.layers : std::min(config.layers, model.layers);
}

ModelSpec truncated(const ModelSpec& model, std::int64_t layers) {
  ModelSpec shallow = model;
  shallow.draft_kind = draft_layer(model);
  shallow.layers = layers;
  if (!shallow.layer_kinds.empty()) shallow.layer_kinds.resize(static_cast<std::size_t>(layers));
  return shallow;
}

ModelSpec as_stepped(ModelSpec model, const Sharding& sharding, const DecodeShape& shape) {
  if (!runs_drafts({model, sharding, shape})) {
    model.draft_layers = 0;
    model.draft_head.reset();
  }
  return model;
}

Admission admit(const SweepPoint& point, const EngineExtent& extent, std::uint64_t seed, Backend& backend,
                const World& world) {
  const Configuration& c = point.config;
  if (std::string reason = why_not_measured(point, backend); !reason.empty()) return {std::move(reason)};
  if (extent.layers < extent.least_layers) {
    return {fmt::format(
        "--layers {} leaves {} without a kind of layer that it has in the model; at least {} are "
        "needed",
        extent.layers, c.sharding.pp > 1 ? "a pipeline stage" : "the measurement", extent.least_layers)};
  }
  const auto made = Instance::make({.model = *point.model,
                                    .strategy = c.strategy,
                                    .sharding = c.sharding,
                                    .shape = c.shape,
                                    .layers = extent.layers,
                                    .seed = seed});
  if (const auto* reason = std::get_if<std::string>(&made)) return {*reason};
  const Instance& instance = std::get<Instance>(made);
  const double bytes = engine_bytes(instance, extent.steps, backend);
  if (std::string reason = why_not_fitting(bytes, world); !reason.empty()) return {std::move(reason)};
  if (std::string reason = why_not_exchanged(instance); !reason.empty()) return {std::move(reason)};
  return {.reason = {}, .engine = EngineRequest{instance, extent.steps, bytes}};
}

}  // namespace helix
