// Whole decode steps, and served models with little prefill.
#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "roofline/cost/predict.hpp"
#include "roofline/validate/measured_model.hpp"
#include "roofline/validate/verdict.hpp"

namespace helix {
namespace {

std::optional<Strategy> strategy_of(const ModelSpec& model, const Sharding& s, const DecodeShape& shape) {
  for (const Strategy strategy : {Strategy::tp, Strategy::tp_pp, Strategy::dp_ep, Strategy::helix}) {
    if (!why_illegal(model, strategy, s, shape)) return strategy;
  }
  // Groups of TP ranks with requests of their own share the FFN, also where each rank has the whole cache (MLA).
  const Sharding group{.tpa = s.tpa, .tpf = s.tpa};
  const bool shares_ffn = s.dp > 1 && s.tpa > 1 && s.tpf * s.ep == s.stage_ranks();
  if (shares_ffn && !why_illegal(model, Strategy::tp, group, shape)) return Strategy::helix;
  return std::nullopt;
}

}  // namespace

Verdict judge_step(const MeasuredRow& row, const SystemSpec& system) {
  const std::string& name_in_file = row.text("model");
  const ModelSpec* model = known_model(name_in_file);
  if (!model) return LeftOut{"a model that is not built in: " + name_in_file};
  const bool served = row.has("tpot_ms");

  // Replicas of a dense model have nothing in common; its rows may still name widths of experts.
  const bool dense = model->moe.experts == 0;
  const std::int64_t tp = row.count("tp"), dp = dense ? 1 : row.count_or("dp", 1);
  const std::int64_t ep = dense ? 1 : row.count_or("moe_ep", 1);
  const auto ranks = static_cast<int>(tp * dp);
  Sharding s{.tpa = static_cast<int>(tp),
             .ep = static_cast<int>(ep),
             .pp = static_cast<int>(row.count_or("pp", 1)),
             .dp = static_cast<int>(dp)};
  s.tpf = dense ? ranks : static_cast<int>(row.count_or("moe_tp", std::max<std::int64_t>(1, ranks / ep)));
  const double context = row.has("context_tokens") ? row.positive("context_tokens")
                                                   : row.positive("isl") + row.positive("osl") / 2;
  DecodeShape shape{.context = static_cast<std::int64_t>(context),
                    .batch = row.count("batch_per_dp_rank") * dp,
                    .kv_dtype = measured_storage(row, "kv_dtype")};
  take_measured_weights(row, *model, shape);
  const auto strategy = strategy_of(*model, s, shape);
  if (!strategy) return LeftOut{"a split that no strategy has"};

  SystemSpec served_on = system;
  served_on.engine = measured_engine(row);
  const double model_us = predict({*model, s, shape}, served_on).model_ttl_us;
  const std::string layout = row.has("layout") ? row.text("layout") : std::string(name(*strategy));
  const std::string family =
      fmt::format("{}/{}/{}/{}", name_in_file, row.text("device"), name(served_on.engine), layout);
  if (!served) return Judged{family, model_us, row.positive("step_ms") * 1e3};
  // Some of the time per token was spent on other requests' prompts.
  const double decode_share = 1 - std::min(0.99, row.has("prefill_share") ? row.number("prefill_share") : 0);
  return Judged{family + '/' + row.text("weight_dtype"), model_us / decode_share,
                row.positive("tpot_ms") * 1e3};
}

}  // namespace helix
