#include "sweeps/request/enumerate.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <functional>
#include <limits>
#include <set>
#include <tuple>

#include "roofline/base/error.hpp"
#include "roofline/step/baseline.hpp"

namespace helix {
namespace {

/// The values one width takes in one strategy.
struct WidthRange {
  const Choice* choice = nullptr;  // listed: its values, else counted upwards
  std::int64_t first = 1;
  bool fixed = false;  // at `first`

  /// Calls fn(width) while width * others stays inside the limit; the first value passes always, so that
  /// widths listed beyond the limit become points with a reason.
  template <class Fn>
  void each(std::int64_t others, std::int64_t limit, Fn fn) const {
    if (!fixed && choice->listed()) {
      for (const std::int64_t value : choice->values) fn(value);
      return;
    }
    fn(first);
    if (fixed) return;
    for (std::int64_t value = first + 1; value * others <= limit; ++value) fn(value);
  }
};

struct AttentionWidths {
  WidthRange pp, dp, kvp, tpa;
};

bool contains(const std::vector<Strategy>& strategies, Strategy s) {
  return std::ranges::find(strategies, s) != strategies.end();
}

AttentionWidths attention_widths(const SweepSpace& space, Strategy strategy) {
  const auto range = [](WidthRule rule, const Choice& choice) {
    const bool unset = choice.kind == Choice::Kind::unset;
    if (rule == WidthRule::one || (rule == WidthRule::if_asked && unset)) return WidthRange{nullptr, 1, true};
    return WidthRange{&choice, rule == WidthRule::several && unset ? 2 : 1, false};
  };
  const StrategyTraits& row = traits(strategy);
  AttentionWidths widths{range(row.pp, space.pp), range(row.dp, space.dp),
                         range(row.kvp, row.cuts_group ? space.dcp : space.kvp), range(row.tpa, space.tpa)};
  // Where nobody asks for 1: Helix with KVP = 1 is tp, dp+ep of one rank too.
  const auto skip_one = [](WidthRange& width) {
    if (!width.fixed && width.choice->kind == Choice::Kind::unset) width.first = 2;
  };
  if (row.kvp == WidthRule::any && contains(space.strategies, Strategy::tp)) skip_one(widths.kvp);
  if (row.dp == WidthRule::any) skip_one(widths.dp);
  return widths;
}

/// Lists of widths that no requested strategy has would be ignored: refused instead.
void refuse_unused_lists(const SweepSpace& space) {
  const auto attention = [](WidthRule StrategyTraits::*rule) {
    return [rule](const StrategyTraits& row) { return row.*rule != WidthRule::one; };
  };
  using Uses = std::function<bool(const StrategyTraits&)>;
  const std::array<std::tuple<const Choice*, std::string_view, Uses>, 6> widths{{
      {&space.kvp, "kvp",
       [](const StrategyTraits& row) { return row.kvp != WidthRule::one && !row.cuts_group; }},
      {&space.dcp, "dcp", [](const StrategyTraits& row) { return row.cuts_group; }},
      {&space.tpa, "tpa", attention(&StrategyTraits::tpa)},
      {&space.tpf, "tpf", [](const StrategyTraits& row) { return row.ffn == FfnGrid::all_ranks; }},
      {&space.pp, "pp", attention(&StrategyTraits::pp)},
      {&space.dp, "dp", attention(&StrategyTraits::dp)},
  }};
  for (const auto& [choice, width, uses] : widths) {
    const bool only_one = choice->values == std::vector<std::int64_t>{1};
    const bool used = std::ranges::any_of(space.strategies, [&](Strategy s) { return uses(traits(s)); });
    if (!choice->listed() || only_one || used) continue;
    std::string names;
    for (const StrategyTraits& row : strategies()) {
      if (uses(row)) names += fmt::format("{}{}", names.empty() ? "" : ", ", row.name);
    }
    throw UsageError(fmt::format(
        "--{}: none of the requested strategies has this width; valid with --strategy {}", width, names));
  }
}

/// Calls fn(tpf, ep) for the ways to spread the FFN over the ranks of a stage.
template <class Fn>
void each_ffn_grid(const SweepSpace& space, const ModelSpec& model, Strategy strategy, std::int64_t stage,
                   std::int64_t tpa, Fn fn) {
  const StrategyTraits& row = traits(strategy);
  if (row.ffn == FfnGrid::tpa_ranks) return fn(tpa, std::int64_t{1});
  if (row.ffn == FfnGrid::whole_experts) return fn(std::int64_t{1}, stage);
  const bool pinned = space.tpf.listed() || space.ep.listed();
  const bool every = space.tpf.kind == Choice::Kind::every || space.ep.kind == Choice::Kind::every;
  if (!pinned && !every) {
    std::int64_t ep = 1;
    if (row.widest_ep && model.moe.experts > 0) {
      for (std::int64_t width = 1; width <= std::min(stage, model.moe.experts); ++width) {
        if (stage % width == 0 && model.moe.experts % width == 0) ep = width;
      }
    }
    return fn(stage / ep, ep);
  }
  const auto wanted = [](const Choice& choice, std::int64_t value) {
    return !choice.listed() || std::ranges::find(choice.values, value) != choice.values.end();
  };
  const std::int64_t widest_ep = model.moe.experts > 0 || space.ep.listed() ? stage : 1;
  for (std::int64_t ep = 1; ep <= widest_ep; ++ep) {
    if (stage % ep == 0 && wanted(space.ep, ep) && wanted(space.tpf, stage / ep)) fn(stage / ep, ep);
  }
}

/// Shardings that share the listed widths.
using ShardingGroups = std::vector<std::vector<Sharding>>;

ShardingGroups sharding_groups(const SweepSpace& space, const ModelSpec& model, Strategy strategy,
                               std::int64_t max_ranks) {
  const bool listed_ranks = space.ranks.listed();
  const std::int64_t limit = listed_ranks ? std::ranges::max(space.ranks.values) : max_ranks;
  const auto wanted = [&](std::int64_t ranks) {
    return !listed_ranks || std::ranges::find(space.ranks.values, ranks) != space.ranks.values.end();
  };
  const auto may_grow_to_wanted = [&](std::int64_t ranks) {
    return !listed_ranks ||
           std::ranges::any_of(space.ranks.values, [&](std::int64_t n) { return n % ranks == 0; });
  };
  // Widths beyond what fits an int only come from absurd products of lists: no launch has them.
  constexpr std::int64_t most_ranks = std::numeric_limits<int>::max();
  const auto plausible = [&](std::int64_t ranks) { return ranks <= most_ranks && may_grow_to_wanted(ranks); };

  using Key = std::array<std::int64_t, 7>;
  std::map<Key, std::vector<Sharding>> groups;
  const AttentionWidths widths = attention_widths(space, strategy);
  widths.pp.each(1, limit, [&](std::int64_t pp) {
    if (!plausible(pp)) return;
    widths.dp.each(pp, limit, [&](std::int64_t dp) {
      if (!plausible(pp * dp)) return;
      widths.kvp.each(pp * dp, limit, [&](std::int64_t kvp) {
        if (!plausible(pp * dp * kvp)) return;
        widths.tpa.each(pp * dp * kvp, limit, [&](std::int64_t tpa) {
          const std::int64_t ranks = pp * dp * kvp * tpa;
          if (ranks > most_ranks || !wanted(ranks)) return;
          each_ffn_grid(space, model, strategy, ranks / pp, tpa, [&](std::int64_t tpf, std::int64_t ep) {
            const auto pin = [](const Choice& choice, std::int64_t value) {
              return choice.listed() ? value : 0;
            };
            const Key key{
                pin(space.ranks, ranks), pin(traits(strategy).cuts_group ? space.dcp : space.kvp, kvp),
                pin(space.tpa, tpa),     pin(space.tpf, tpf),
                pin(space.ep, ep),       pin(space.pp, pp),
                pin(space.dp, dp)};
            groups[key].push_back({static_cast<int>(kvp), static_cast<int>(tpa), static_cast<int>(tpf),
                                   static_cast<int>(ep), static_cast<int>(pp), static_cast<int>(dp)});
          });
        });
      });
    });
  });
  // What no shape makes legal is dropped here, once instead of for each shape; a group keeps one to
  // give the reason.
  DecodeShape permissive;
  permissive.context = permissive.batch = 1 << 20;
  ShardingGroups kept;
  for (auto& [key, shardings] : groups) {
    const Sharding first = shardings.front();
    std::erase_if(shardings,
                  [&](const Sharding& s) { return why_illegal(model, strategy, s, permissive).has_value(); });
    if (shardings.empty()) shardings.push_back(first);
    kept.push_back(std::move(shardings));
  }
  return kept;
}

/// A Helix layout without KV parallelism is a baseline (see counted_as); where that strategy is asked for as
/// well and has the same layout, it stands there alone.
void drop_twins(std::vector<std::pair<Strategy, ShardingGroups>>& grids) {
  std::map<Strategy, std::vector<Sharding>> of_baselines;
  for (const auto& [strategy, groups] : grids) {
    if (strategy == Strategy::helix) continue;
    for (const auto& group : groups) {
      auto& all = of_baselines[strategy];
      all.insert(all.end(), group.begin(), group.end());
    }
  }
  for (auto& [strategy, groups] : grids) {
    if (strategy != Strategy::helix) continue;
    for (auto& group : groups) {
      std::erase_if(group, [&](const Sharding& s) {
        const auto baseline = of_baselines.find(counted_as(Strategy::helix, s));
        return baseline != of_baselines.end() &&
               std::ranges::find(baseline->second, s) != baseline->second.end();
      });
    }
    std::erase_if(groups, [](const auto& group) { return group.empty(); });
  }
}

/// A list of widths none of which any sharding has would vanish without a row: refused instead.
void refuse_unmet_lists(const SweepSpace& space,
                        const std::vector<std::pair<Strategy, ShardingGroups>>& grids) {
  const auto meets = [&](const Choice& choice, auto width) {
    for (const auto& [strategy, groups] : grids) {
      for (const auto& group : groups) {
        for (const Sharding& sharding : group) {
          if (std::ranges::find(choice.values, width(sharding)) != choice.values.end()) return true;
        }
      }
    }
    return false;
  };
  const auto check = [&](std::string_view flag, const Choice& choice, auto width) {
    if (!choice.listed() || meets(choice, width)) return;
    throw UsageError(fmt::format(
        "--{} {}: no configuration of the request has this; valid: ranks = pp x dp x kvp x tpa and dp x "
        "kvp x tpa = tpf x ep",
        flag, fmt::join(choice.values, ",")));
  };
  check("ranks", space.ranks, [](const Sharding& s) { return s.ranks(); });
  check("kvp", space.kvp, [](const Sharding& s) { return s.kvp; });
  check("dcp", space.dcp, [](const Sharding& s) { return s.kvp; });
  check("tpa", space.tpa, [](const Sharding& s) { return s.tpa; });
  check("tpf", space.tpf, [](const Sharding& s) { return s.tpf; });
  check("ep", space.ep, [](const Sharding& s) { return s.ep; });
  check("pp", space.pp, [](const Sharding& s) { return s.pp; });
  check("dp", space.dp, [](const Sharding& s) { return s.dp; });
}

std::vector<std::int64_t> resolve(const Choice& choice, const std::vector<std::int64_t>& if_unset,
                                  std::int64_t first, std::int64_t last) {
  if (choice.listed()) return choice.values;
  if (choice.kind == Choice::Kind::unset) return if_unset;
  if (choice.kind == Choice::Kind::most) return {0};  // to be settled
  std::vector<std::int64_t> powers;
  for (std::int64_t value = first; value <= last; value *= 2) powers.push_back(value);
  return powers;
}

/// The micro-batch counts to run: overlap exists only where there is an all-to-all to hide. 0 is the model's
/// to settle.
std::vector<int> micro_batches(const SweepSpace& space, const SweepDefaults& defaults, Strategy strategy,
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
      if (requested.batch == 0 || requested.context == 0) settle_size(point);
      std::vector<int> visited;
      for (const int count :
           micro_batches(space_, defaults_, point.config.strategy, sharding, point.config.shape.batch)) {
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

ModelTable load_models(const std::vector<SweepSpace>& blocks) {
  ModelTable models;
  for (const SweepSpace& block : blocks) {
    for (const std::string& model : block.models) {
      if (!models.contains(model)) models.emplace(model, load_model(model));
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
  refuse_unused_lists(space);
  const auto contexts = resolve(space.contexts, defaults.contexts, 1 << 10, 1 << 20);
  const auto batches = resolve(space.batches, defaults.batches, 1, 1 << 10);
  for (const std::string& requested : space.models) {
    SweepPoint point;
    point.model = &models.at(requested);
    point.config.model = point.model->name;
    point.config.layers = space.layers == point.model->layers ? 0 : space.layers;
    if (space.layers > point.model->layers) {
      throw UsageError(fmt::format("--layers {}: {} has {} layers; valid are 1 to {}", space.layers,
                                   point.model->name, point.model->layers, point.model->layers));
    }
    std::vector<std::pair<Strategy, ShardingGroups>> grids;
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
              shape.exchange = traits(strategy).cuts_group ? space.dcp_exchange : CacheExchange{};
              for (const auto& group : groups) visit_group(group, point);
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

namespace {

/// "nvfp4", or "nvfp4+attention=bf16+head=bf16" where parts differ from what the first one means for all.
std::string weights_text(const DecodeShape& shape) {
  std::string text(name(shape.weight_dtype));
  DecodeShape plain = shape;
  plain.weights.reset();
  const DType attention = weight_format(shape, WeightPart::attention).dtype;
  for (const WeightPart part : weight_parts) {
    const DType dtype = weight_format(shape, part).dtype;
    if (part == WeightPart::output_projection && dtype == attention) continue;
    if (dtype != weight_format(plain, part).dtype) text += fmt::format("+{}={}", name(part), name(dtype));
  }
  return text;
}

}  // namespace

std::string configuration_id(const Configuration& config) {
  const Sharding& s = config.sharding;
  const DecodeShape& shape = config.shape;
  std::string id = fmt::format("{}/{}/kvp{}.tpa{}.tpf{}.ep{}", config.model, name(config.strategy), s.kvp,
                               s.tpa, s.tpf, s.ep);
  if (s.pp > 1) id += fmt::format(".pp{}", s.pp);
  if (s.dp > 1) id += fmt::format(".dp{}", s.dp);
  id += fmt::format("/s{}/b{}/{}-{}/blk{}", shape.context, shape.batch, weights_text(shape),
                    name(shape.kv_dtype), shape.tokens_per_block);
  if (traits(config.strategy).cuts_group) id += "/" + to_string(shape.exchange);
  if (shape.hop_b > 1) id += fmt::format("/hop{}", shape.hop_b);
  if (shape.expert_skew > 0) id += fmt::format("/skew{}", shape.expert_skew);
  if (config.layers > 0) id += fmt::format("/l{}", config.layers);
  return id;
}

}  // namespace helix
