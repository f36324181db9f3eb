#include "roofline/step/strategy.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <array>
#include <cstdint>
#include <utility>
#include <vector>

#include "roofline/base/error.hpp"
#include "roofline/base/excerpt.hpp"
#include "roofline/step/sharding.hpp"

namespace helix {
namespace {

using enum WidthRule;
constexpr bool yes = true, no = false;

// clang-format off
constexpr auto table = std::to_array<StrategyTraits>({
    //                           KVP      TPA  DP        PP        FFN                     divides widest  HOP-B cuts
    //                                                                                     K       EP            group
    {Strategy::helix, "helix",   any,     any, if_asked, if_asked, FfnGrid::all_ranks,     yes,    yes,    yes,  no,  "#0072B2", "circle"},
    {Strategy::tp,    "tp",      one,     any, one,      one,      FfnGrid::all_ranks,     no,     no,     no,   no,  "#D55E00", "square"},
    {Strategy::tp_pp, "tp+pp",   one,     any, one,      several,  FfnGrid::all_ranks,     no,     no,     no,   no,  "#009E73", "triangle-up"},
    {Strategy::medha, "medha",   several, any, one,      one,      FfnGrid::tpa_ranks,     yes,    no,     no,   no,  "#CC79A7", "diamond"},
    {Strategy::dp_ep, "dp+ep",   one,     one, any,      one,      FfnGrid::whole_experts, no,     no,     no,   no,  "#E69F00", "triangle-down"},
    {Strategy::dcp,   "dcp",     several, any, one,      one,      FfnGrid::all_ranks,     no,     no,     no,   yes, "#56B4E9", "cross"},
});
// clang-format on
static_assert(table.size() == strategy_count);

/// Of all widths but those that both phases share: "KVP = DP = 1 and PP >= 2".
std::string widths_rule(const StrategyTraits& row) {
  std::string ones, rest;
  for (const auto& [rule, width] :
       {std::pair{row.kvp, "KVP"}, {row.tpa, "TPA"}, {row.dp, "DP"}, {row.pp, "PP"}}) {
    if (rule == one) ones += fmt::format("{} = ", width);
    if (rule == several) rest += fmt::format("{}{} >= 2", rest.empty() ? "" : " and ", width);
  }
  if (row.ffn == FfnGrid::whole_experts) ones += "TPF = ";
  if (ones.empty()) return rest;
  return ones + (rest.empty() ? "1" : "1 and " + rest);
}

}  // namespace

std::span<const StrategyTraits> strategies() {
  return table;
}

const StrategyTraits& traits(Strategy strategy) {
  return table[static_cast<std::size_t>(strategy)];
}

std::string_view name(Strategy strategy) {
  return traits(strategy).name;
}

std::string strategy_names() {
  std::vector<std::string_view> names;
  for (const StrategyTraits& row : table) names.push_back(row.name);
  return fmt::format("{}", fmt::join(names, ", "));
}

Strategy parse_strategy(std::string_view text) {
  for (const StrategyTraits& row : table) {
    if (text == row.name) return row.strategy;
  }
  throw UsageError(fmt::format("unknown strategy '{}'; valid: {}", excerpt(text), strategy_names()));
}

std::optional<std::string> broken_rule(const StrategyTraits& row, const Sharding& s) {
  const auto keeps = [](WidthRule rule, int width) {
    return (rule != one || width == 1) && (rule != several || width >= 2);
  };
  const bool split_experts = row.ffn == FfnGrid::whole_experts && s.tpf != 1;
  if (split_experts || !keeps(row.kvp, s.kvp) || !keeps(row.tpa, s.tpa) || !keeps(row.dp, s.dp) ||
      !keeps(row.pp, s.pp)) {
    return widths_rule(row);
  }
  const std::int64_t ffn_ranks = std::int64_t{s.tpf} * s.ep;
  switch (row.ffn) {
    case FfnGrid::all_ranks:
      if (ffn_ranks != s.stage_ranks()) return "DP x KVP x TPA = TPF x EP";
      break;
    case FfnGrid::tpa_ranks:
      if (ffn_ranks != s.tpa) return "TPF x EP = TPA";
      break;
    case FfnGrid::whole_experts:
      if (s.ep != s.stage_ranks()) return "EP = DP x KVP x TPA";
      break;
  }
  return std::nullopt;
}

}  // namespace helix
