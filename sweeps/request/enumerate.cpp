#include "sweeps/request/enumerate.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <limits>
#include <set>
#include <utility>

#include "roofline/base/error.hpp"
#include "roofline/model/draft_head.hpp"
#include "roofline/step/draft_ops.hpp"
#include "sweeps/request/sharding_grids.hpp"
#include "sweeps/request/speculation.hpp"

namespace helix {
namespace {

std::vector<std::int64_t> resolve(const Choice& choice, const std::vector<std::int64_t>& if_unset,
                                  std::int64_t first, std::int64_t last) {
  if (choice.listed()) return choice.values;
  if (choice.kind == Choice::Kind::unset) return if_unset;
  if (choice.kind == Choice::Kind::most) return {0};  // to be settled
  std::vector<std::int64_t> powers;
  for (std::int64_t value = first; value <= last; value *= 2) powers.push_back(value);
  return powers;
}

/// The numbers of HOP-B's pieces to run: overlap exists only where there is an all-to-all to hide. 0 is the model's
/// to settle.
std::vector<int> piece_counts(const SweepSpace& space, const SweepDefaults& defaults, Strategy strategy,
                              const Sharding& sharding, std::int64_t batch) {
  if (!traits(strategy).hop_b || sharding.kvp == 1) return {1};
  const std::int64_t per_request = std::max<std::int64_t>(batch / sharding.dp, 1);
  std::vector<int> counts;
  for (const std::int64_t requested : space.hop_b) {
    const bool best = requested == SweepSpace::best_hop_b;
    const auto count =
        static_cast<int>(!best || (defaults.settle && per_request > 1) ? requested : per_request);
    if (std::ranges::find(counts, count) == counts.end()) counts.push_back(count);
  }
  return counts;
}

/// Visits the legal points of a group, or its first illegal one with the reason.
class GroupVisit {
 public:
  GroupVisit(const SweepSpace& space, const SweepDefaults& defaults,
             const std::function<void(const SweepPoint&)>& visit)
      : space_(space), defaults_(defaults), visit_(visit) {}

  void operator()(const std::vector<Sharding>& group, SweepPoint point) const {
    const DecodeShape requested = point.config.shape;
    std::optional<SweepPoint> illegal;
    bool any_legal = false;
    for (const Sharding& sharding : group) {
      point.config.sharding = sharding;
      point.config.shape = requested;
      if (sharding.kvp == 1) point.config.shape.draft_kv = DraftKv::sharded;  // both are the same
      if (requested.batch == 0 || requested.context == 0) settle_size(point);
      std::vector<int> visited;
      for (const int count :
           piece_counts(space_, defaults_, point.config.strategy, sharding, point.config.shape.batch)) {
        point.config.shape.hop_b = count == 0 ? 2 : count;  // legal if any overlap is
        auto why = why_illegal(*point.model, point.config.strategy, sharding, point.config.shape);
        if (!why) {
          point.config.shape.hop_b = count;
          if (count == 0) defaults_.settle(point);
          any_legal = true;
          if (std::ranges::find(visited, point.config.shape.hop_b) != visited.end()) continue;
          visited.push_back(point.config.shape.hop_b);
          visit_(point);
        } else if (!illegal) {
          illegal = point;
          illegal->skip_reason = *std::move(why);
        }
      }
    }
    if (!any_legal && illegal) visit_(*illegal);
  }

 private:
  /// `max` of a layout that is legal at some size; of others any size will do.
  void settle_size(SweepPoint& point) const {
    SweepPoint some = point;
    DecodeShape& shape = some.config.shape;
    if (shape.batch == 0) shape.batch = std::int64_t{1} << 20;
    if (shape.context == 0) shape.context = std::int64_t{1} << 20;
    if (why_illegal(*point.model, point.config.strategy, point.config.sharding, shape)) {
      point = some;
    } else {
      defaults_.settle(point);
    }
  }

  const SweepSpace& space_;
  const SweepDefaults& defaults_;
  const std::function<void(const SweepPoint&)>& visit_;
};

}  // namespace

namespace {

/// Only MLA has values to be made of latent ones.
CacheExchange exchange_of(const SweepSpace& space, Strategy strategy, const ModelSpec& model) {
  if (!traits(strategy).cuts_group) return {};
  CacheExchange exchange = space.dcp_exchange;
  if (model.attention.kind != AttentionKind::mla)
    exchange.projection = CacheExchange::Projection::after_merge;
  return exchange;
}

std::string draft_head_name(const ModelSpec& model, const DecodeShape& shape) {
  return model.draft_head && shape.draft_tokens > 0 ? model.draft_head->name : std::string();
}

std::vector<std::int64_t> redundant_experts(const SweepSpace& space, const ModelSpec& model) {
  if (space.expert_slots == 0) return space.redundant_experts;
  if (space.expert_slots < model.moe.experts) {
    throw UsageError(fmt::format("num_slots {}: {} has {} experts, of each of which there is one at least",
                                 space.expert_slots, model.name, model.moe.experts));
  }
  return {space.expert_slots - model.moe.experts};
}

}  // namespace

std::string model_key(const SweepSpace& block, const std::string& model) {
  return block.draft_model.empty() ? model : fmt::format("{} with {}", model, block.draft_model);
}

ModelTable load_models(const std::vector<SweepSpace>& blocks) {
  ModelTable models;
  for (const SweepSpace& block : blocks) {
    for (const std::string& model : block.models) {
      const std::string key = model_key(block, model);
      if (models.contains(key)) continue;
      ModelSpec spec = load_model(model);
      if (!block.draft_model.empty()) spec = with_draft_head(std::move(spec), block.draft_model);
      models.emplace(key, std::move(spec));
    }
  }
  return models;
}

std::vector<int> hop_b_candidates(std::int64_t requests_of_a_group) {
  std::vector<int> counts;
  for (std::int64_t count = 2; count < requests_of_a_group; count *= 2)
    counts.push_back(static_cast<int>(count));
  if (requests_of_a_group > 1) counts.push_back(static_cast<int>(requests_of_a_group));
  return counts;
}

SweepSpace resolved(SweepSpace space, const SweepDefaults& defaults) {
  // Attention's widths without a number of ranks are a layout, of which nothing else is to be varied.
  const bool given =
      (space.kvp.listed() || space.tpa.listed() || space.dcp.listed()) && !space.ranks.listed();
  const SweepDefaults plain;
  if (space.strategies.empty()) space.strategies = given ? plain.strategies : defaults.strategies;
  if (space.hop_b.empty()) space.hop_b = given ? plain.hop_b : defaults.hop_b;
  if (!defaults.every_width || given) return space;
  for (Choice* width : {&space.kvp, &space.tpa, &space.tpf, &space.ep, &space.pp, &space.dp, &space.dcp}) {
    if (width->kind == Choice::Kind::unset) width->kind = Choice::Kind::every;
  }
  return space;
}

void for_each_point(const SweepSpace& requested_space, const ModelTable& models,
                    const SweepDefaults& defaults, const std::function<void(const SweepPoint&)>& visit) {
  const SweepSpace space = resolved(requested_space, defaults);
  const bool max_batch = space.batches.kind == Choice::Kind::most;
  const bool max_context = space.contexts.kind == Choice::Kind::most;
  if ((max_batch || max_context) && !defaults.settle) {
    throw UsageError(
        fmt::format("--{} max: valid with predict; here numbers", max_batch ? "batch" : "context"));
  }
  if (max_batch && max_context) {
    throw UsageError(
        "--batch max --context max: each is the largest at a given other; valid: numbers for one");
  }
  const GroupVisit visit_group(space, defaults, visit);
  refuse_unmet_acceptances(space);
  refuse_unused_lists(space);
  const auto contexts = resolve(space.contexts, defaults.contexts, 1 << 10, 1 << 20);
  const auto batches = resolve(space.batches, defaults.batches, 1, 1 << 10);
  for (const std::string& requested : space.models) {
    SweepPoint point;
    point.model = &models.at(model_key(space, requested));
    point.config.model = point.model->name;
    point.config.layers = space.layers == point.model->layers ? 0 : space.layers;
    if (space.layers > point.model->layers) {
      throw UsageError(fmt::format("--layers {}: {} has {} layers; valid are 1 to {}", space.layers,
                                   point.model->name, point.model->layers, point.model->layers));
    }
    StrategyGrids grids;
    for (const Strategy strategy : space.strategies) {
      grids.emplace_back(strategy, sharding_groups(space, *point.model, strategy, defaults.max_ranks));
    }
    refuse_unmet_lists(space, grids);
    drop_twins(grids);
    DecodeShape& shape = point.config.shape;
    shape.tokens_per_block = static_cast<int>(space.tokens_per_block);
    shape.expert_skew = space.expert_skew;
    for (const std::int64_t context : contexts) {
      shape.context = context;
      for (const std::int64_t batch : batches) {
        shape.batch = batch;
        for (const WeightRequest& weights : space.weight_dtypes) {
          weights.apply(*point.model, shape);
          point.config.precision = precision_of_parts(*point.model, shape);
          point.config.precision_source = weights.source();
          for (const std::optional<DType>& kv : space.kv_dtypes) {
            shape.kv_dtype = kv.value_or(point.model->kv_dtype);
            for (const auto& [strategy, groups] : grids) {
              point.config.strategy = strategy;
              shape.exchange = exchange_of(space, strategy, *point.model);
              for (const auto& [draft_tokens, acceptance] : speculations(space)) {
                shape.draft_tokens = draft_tokens;
                shape.acceptance = acceptance;
                shape.draft_kv = drafts(*point.model, shape) ? space.draft_kv : DraftKv::sharded;
                point.config.draft_head = draft_head_name(*point.model, shape);
                for (const std::int64_t copies : redundant_experts(space, *point.model)) {
                  shape.redundant_experts = static_cast<int>(copies);
                  for (const auto& group : groups) {
                    for (const KernelMaker kernels : space.kernels) {
                      shape.kernels = kernels;
                      visit_group(group, point);
                    }
                  }
                }
              }
            }
          }
        }
      }
    }
  }
}

namespace {

/// Where a block names no width at all, it means the launch as it is: of its points only those of
/// the most ranks.
void keep_largest(const SweepSpace& space, std::int64_t world_ranks, std::vector<SweepPoint>& points) {
  const auto unset = [](const Choice& choice) { return choice.kind == Choice::Kind::unset; };
  for (const Choice* choice : {&space.ranks, &space.kvp, &space.tpa, &space.pp, &space.dp, &space.dcp}) {
    if (!unset(*choice)) return;
  }
  int most = 0;
  for (const SweepPoint& point : points) {
    const int ranks = point.config.sharding.ranks();
    if (point.skip_reason.empty() && ranks <= world_ranks) most = std::max(most, ranks);
  }
  std::erase_if(points, [&](const SweepPoint& point) { return point.config.sharding.ranks() < most; });
}

}  // namespace

std::vector<SweepPoint> enumerate(const std::vector<SweepSpace>& blocks, const ModelTable& models,
                                  const SweepDefaults& defaults, std::int64_t world_ranks) {
  std::vector<SweepPoint> points;
  std::set<std::string> seen;
  std::int64_t smallest_launch = std::numeric_limits<std::int64_t>::max();
  for (const SweepSpace& block : blocks) {
    std::vector<SweepPoint> of_block;
    for_each_point(block, models, defaults, [&](const SweepPoint& found) { of_block.push_back(found); });
    keep_largest(block, world_ranks, of_block);
    for (SweepPoint& point : of_block) {
      if (!seen.insert(configuration_id(point.config)).second) continue;
      const std::int64_t ranks = point.config.sharding.ranks();
      smallest_launch = std::min(smallest_launch, ranks);
      if (ranks > world_ranks && point.skip_reason.empty()) {
        point.skip_reason = fmt::format("needs {} MPI ranks, this launch has {}", ranks, world_ranks);
      }
      points.push_back(std::move(point));
    }
  }
  if (points.empty()) {
    throw UsageError(
        "no configuration: the lists admit none with ranks = pp x dp x kvp x tpa and dp x kvp x tpa = "
        "tpf x ep; leave some of --ranks, --kvp, --tpa, --tpf, --ep, --pp, --dp at auto");
  }
  if (smallest_launch > world_ranks) {
    throw UsageError(
        fmt::format("the smallest requested configuration needs {} MPI ranks, this launch has {}; valid: a "
                    "launch with -n {}, or smaller --ranks, --kvp, --tpa, --pp, --dp",
                    smallest_launch, world_ranks, smallest_launch));
  }
  return points;
}

}  // namespace helix
