#include "sweeps/predict/plan_summary.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "roofline/base/csv.hpp"
#include "roofline/step/baseline.hpp"

namespace helix {

void PlanSummary::add(std::size_t ordinal, const SweepPoint& point, std::string_view system,
                      const Prediction& p) {
  const DecodeShape& shape = point.config.shape;
  const double token_us = shape.token_us(p.model_ttl_us);
  if (fastest_ttl_us_ == 0 || token_us < fastest_ttl_us_) fastest_ttl_us_ = token_us;
  if (budget_ms_ && token_us > *budget_ms_ * 1e3) return;
  if (p.tokens_per_s_user <= 0) return;  // drafts of unknown acceptance
  const auto strategy = static_cast<std::size_t>(counted_as(point.config.strategy, point.config.sharding));
  const Scene scene{system, point.model->name, shape.context, shape.weight_dtype, shape.kv_dtype};
  frontiers_[scene].insert({p.tokens_per_s_user, p.tokens_per_s_gpu}, ordinal);

  if (top_) {
    strategy_frontiers_[{scene, strategy}].insert({p.tokens_per_s_user, p.tokens_per_s_gpu}, ordinal);
  }

  if (budget_ms_) {
    Best& best = within_budget_[scene][strategy];
    if (p.tokens_per_s_gpu > best.figure) best = {p.tokens_per_s_gpu, ordinal};
  }
  if (top_) {
    Smallest& rows = best_rows_[strategy];
    rows.emplace(p.tokens_per_s_gpu, ordinal);
    if (rows.size() > *top_) rows.pop();
  }
  Fastest& fastest =
      fields_[{scene, shape.batch, point.config.sharding.ranks(), shape.draft_tokens}][strategy];
  if (fastest.ttl_us == 0 || token_us < fastest.ttl_us) {
    fastest = {token_us, point.config.sharding, shape.hop_b};
  }
}

void PlanSummary::close() {
  for (const auto& [scene, frontier] : frontiers_) {
    for (const std::size_t ordinal : frontier.ids()) frontier_.insert(ordinal);
  }
  for (const auto& [key, frontier] : strategy_frontiers_) {
    for (const std::size_t ordinal : frontier.ids()) kept_.insert(ordinal);
  }
  for (Smallest& rows : best_rows_) {
    for (; !rows.empty(); rows.pop()) kept_.insert(rows.top().second);
  }
  for (const std::size_t ordinal : budget_answers()) kept_.insert(ordinal);
}

std::vector<std::size_t> PlanSummary::budget_answers() const {
  std::vector<std::size_t> ordinals;
  for (const auto& [scene, strategies] : within_budget_) {
    for (const Best& best : strategies) {
      if (best.figure > 0) ordinals.push_back(best.ordinal);
    }
  }
  return ordinals;
}

std::string PlanSummary::crossover_csv() const {
  std::string text =
      "model,context,batch,ranks,weight_dtype,kv_dtype,winner,ttl_us,kvp,tpa,tpf,ep,pp,dp,hop_b,runner_up,"
      "runner_up_ttl_us,gain,system,draft_tokens\n";
  for (const auto& [field, strategies] : fields_) {
    const auto& [scene, batch, ranks, draft_tokens] = field;
    const auto& [system, model, context, weights, kv] = scene;
    std::vector<std::pair<double, Strategy>> order;
    for (std::size_t i = 0; i < strategy_count; ++i) {
      if (strategies[i].ttl_us > 0) order.emplace_back(strategies[i].ttl_us, static_cast<Strategy>(i));
    }
    std::ranges::stable_sort(order, {}, [](const auto& entry) { return entry.first; });
    const auto& [ttl_us, winner] = order.front();
    const Fastest& best = strategies[static_cast<std::size_t>(winner)];
    const Sharding& s = best.sharding;
    text += fmt::format("{},{},{},{},{},{},{},{:.7g},{},{},{},{},{},{},{}", csv_field(model), context, batch,
                        ranks, name(weights), name(kv), name(winner), ttl_us, s.kvp, s.tpa, s.tpf, s.ep, s.pp,
                        s.dp, best.hop_b);
    text += order.size() > 1 ? fmt::format(",{},{:.7g},{:.5g}", name(order[1].second), order[1].first,
                                           order[1].first / ttl_us)
                             : ",,,";
    text += fmt::format(",{},{}\n", csv_field(system), draft_tokens);
  }
  return text;
}

}  // namespace helix
