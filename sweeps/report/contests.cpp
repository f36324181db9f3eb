#include "sweeps/report/contests.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <set>
#include <tuple>

#include "roofline/step/baseline.hpp"
#include "sweeps/results/noise.hpp"
#include "sweeps/results/result_columns.hpp"
#include "sweeps/results/row_text.hpp"

namespace helix {
namespace {

using ByStrategy = std::map<Strategy, const ResultRow*>;

bool faster(const ResultRow* a, const ResultRow* b) {
  return tokens_per_s_user(*a) > tokens_per_s_user(*b);
}

/// The fastest other strategy's time over Helix's, over the batches of one context.
struct Gains {
  double low = 0, high = 0;
  bool noise = true;          // every batch's difference is within it
  std::set<Strategy> others;  // the fastest of them at some batch
};

std::optional<Gains> gains_of(const std::map<std::int64_t, ByStrategy>& batches) {
  std::optional<Gains> gains;
  for (const auto& [batch, strategies] : batches) {
    const auto helix = strategies.find(Strategy::helix);
    if (helix == strategies.end() || strategies.size() < 2) continue;
    const ResultRow* other = nullptr;
    for (const auto& [strategy, row] : strategies) {
      if (strategy != Strategy::helix && (!other || faster(row, other))) other = row;
    }
    const double gain = tokens_per_s_user(*helix->second) / tokens_per_s_user(*other);
    if (!gains) gains = Gains{gain, gain, true, {}};
    gains->low = std::min(gains->low, gain);
    gains->high = std::max(gains->high, gain);
    gains->noise &= std::abs(std::log(gain)) < telling_difference(*helix->second, *other);
    gains->others.insert(counted_as(other->config.strategy, other->config.sharding));
  }
  return gains;
}

/// "1.3 to 1.5", "1.3" where both are written alike.
std::string range_text(double low, double high) {
  const std::string first = fmt::format("{:.2g}", low), last = fmt::format("{:.2g}", high);
  return first == last ? first : first + " to " + last;
}

std::string sentence(const Gains& gains) {
  std::string others;
  for (const Strategy other : gains.others) {
    others += others.empty() ? "" : " or ";
    others += name(other);
  }
  if (gains.noise) return "within the noise of " + others;
  if (gains.high < 1)
    return fmt::format("slower than {} by a factor of {}", others, range_text(1 / gains.high, 1 / gains.low));
  return fmt::format("{} times as fast as {}", range_text(gains.low, gains.high), others);
}

}  // namespace

std::vector<Contest> contests_of(std::span<const Run> runs) {
  using Key = std::tuple<const Run*, std::string, DType, DType, std::string>;
  std::map<Key, Contest> contests;
  const auto counts = [](const ResultRow& row) {
    return row.status == Status::ok && row.within_budget() && tokens_per_s_user(row) > 0;
  };
  const auto contest_of = [&](const Run& run, const ResultRow& row) -> Contest& {
    const DecodeShape& shape = row.config.shape;
    // The name of a measured system depends on the ranks that were calibrated.
    const std::string system = row.measurement ? "" : row.system;
    return contests[{&run, row.config.model, shape.weight_dtype, shape.kv_dtype, system}];
  };
  for (const Run& run : runs) {
    for (const ResultRow& row : run.rows) {
      if (!counts(row)) continue;
      Contest& contest = contest_of(run, row);
      contest.ranks = std::max(contest.ranks, row.config.sharding.ranks());
    }
  }
  for (const Run& run : runs) {
    for (const ResultRow& row : run.rows) {
      if (!counts(row)) continue;
      Contest& contest = contest_of(run, row);
      if (row.config.sharding.ranks() != contest.ranks) continue;
      const DecodeShape& shape = row.config.shape;
      contest.run = &run;
      contest.model = row.config.model;
      contest.system = row.measurement ? "" : row.system;
      contest.weight_dtype = shape.weight_dtype;
      contest.kv_dtype = shape.kv_dtype;
      contest.measured = row.measurement.has_value();
      const ResultRow*& best = contest.fastest[shape.context][shape.batch]
                                   .try_emplace(counted_as(row.config.strategy, row.config.sharding), &row)
                                   .first->second;
      if (faster(&row, best)) best = &row;
    }
  }
  std::vector<Contest> ordered;
  for (auto& [key, contest] : contests) ordered.push_back(std::move(contest));
  return ordered;
}

std::string verdict(const Contest& contest) {
  constexpr std::size_t most_contexts = 4;
  // Contexts that say the same stand together: the longest first.
  std::vector<std::pair<std::string, std::string>> clauses;
  for (auto context = contest.fastest.rbegin(); context != contest.fastest.rend(); ++context) {
    const std::optional<Gains> gains = gains_of(context->second);
    if (!gains) continue;
    const std::string says = sentence(*gains), where = token_text(context->first);
    if (!clauses.empty() && clauses.back().second == says)
      clauses.back().first += " and " + where;
    else if (clauses.size() < most_contexts)
      clauses.emplace_back(where, says);
  }
  std::string text;
  for (const auto& [where, says] : clauses) {
    text += text.empty() ? fmt::format("Helix is {} at {} tokens", says, where)
                         : fmt::format("; at {} {}", where, says);
  }
  return text;
}

}  // namespace helix
