// What a strategy is: one row of traits each, which legality, enumeration, help, exporters and plots read.
// A new strategy is an enumerator here and its row in strategy.cpp.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace helix {

enum class Strategy { helix, tp, tp_pp, medha, dp_ep, dcp };
inline constexpr std::size_t strategy_count = 6;

/// What a width of attention may be in a strategy.
enum class WidthRule {
  one,       // not a width of this strategy
  any,       // 1 or more
  if_asked,  // 1 or more; 1 where a request does not name it
  several,   // 2 or more
};

/// The ranks of a stage that share the FFN.
enum class FfnGrid {
  all_ranks,      // TPF x EP = DP x KVP x TPA
  tpa_ranks,      // TPF x EP = TPA: all others idle
  whole_experts,  // TPF = 1, EP = DP x KVP x TPA; needs a MoE model
};

struct StrategyTraits {
  Strategy strategy;
  std::string_view name;
  WidthRule kvp, tpa, dp, pp;
  FfnGrid ffn;
  bool divides_kv_heads;  // TPA divides K; else TPA > K caches each head on TPA / K ranks
  bool widest_ep;  // a MoE model's EP, where a request names neither TPF nor EP: as wide as it goes, else 1
  bool hop_b;      // pieces of the batch hide the all-to-all
  bool
      cuts_group;  // KVP is vLLM's and SGLang's DCP: it cuts the cache inside a TP group, heads first (TPA >= K)
  const char *color, *marker;  // in plots

  bool idles_ranks() const { return ffn == FfnGrid::tpa_ranks; }
};

/// Of every strategy, in the order of their enumerators.
std::span<const StrategyTraits> strategies();
const StrategyTraits& traits(Strategy strategy);
std::string_view name(Strategy strategy);  // "helix", "tp", "tp+pp", "medha", "dp+ep", "dcp"
std::string strategy_names();              // all, joined by ", "
Strategy parse_strategy(std::string_view text);

struct Sharding;
/// The rule of the strategy's widths that a sharding breaks ("KVP = DP = PP = 1"), or nothing.
std::optional<std::string> broken_rule(const StrategyTraits& traits, const Sharding& sharding);

}  // namespace helix
