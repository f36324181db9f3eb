#include "sweeps/request/sharding_grids.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <functional>
#include <limits>
#include <map>
#include <string>
#include <string_view>
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

}  // namespace

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

void drop_twins(StrategyGrids& grids) {
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

void refuse_unmet_lists(const SweepSpace& space, const StrategyGrids& grids) {
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

}  // namespace helix
