// Whole decode steps, and served models with little prefill.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>

#include "roofline/base/error.hpp"
#include "roofline/cost/predict.hpp"
#include "roofline/step/weight_request.hpp"
#include "roofline/validate/verdict.hpp"

namespace helix {
namespace {

/// A built-in name, or the last part of a Hugging Face path. Nothing if it is not known.
const ModelSpec* known_model(const std::string& name) {
  static std::map<std::string, std::optional<ModelSpec>> models;
  const auto found = models.find(name);
  if (found != models.end()) return found->second ? &*found->second : nullptr;
  std::optional<ModelSpec>& model = models[name];
  const std::string last = name.substr(name.rfind('/') + 1);
  const std::vector<std::string> built_in = built_in_models();
  const auto same = [&](const std::string& candidate) {
    return std::ranges::equal(
        candidate, last, [](unsigned char a, unsigned char b) { return std::tolower(a) == std::tolower(b); });
  };
  const auto match = std::ranges::find_if(built_in, same);
  if (match != built_in.end()) model = load_model(*match);
  return model ? &*model : nullptr;
}

DType storage(const MeasuredRow& row, const char* column) {
  const std::string& text = row.text(column);
  if (text == "bfloat16" || text == "float16" || text == "bf16" || text == "auto") return DType::bf16;
  if (text.starts_with("fp8")) return DType::fp8;
  if (text.find("fp4") != std::string::npos) return DType::nvfp4;
  throw UsageError(
      fmt::format("{}: {} = '{}'; valid: bf16, fp8, fp8_block, nvfp4", row.where(), column, text));
}

/// Of MXFP4 checkpoints the experts alone are in 4 bits.
WeightRequest weights(const MeasuredRow& row) {
  if (row.text("weight_dtype").find("mxfp4") == std::string::npos) return storage(row, "weight_dtype");
  WeightRequest request(DType::bf16);
  request.set(WeightPart::routed_experts, DType::mxfp4);
  return request;
}

/// The engine named first: "vllm 0.25.1". TensorRT-LLM where none is.
Engine engine_of(const MeasuredRow& row) {
  const std::string& text = row.has("engine") ? row.text("engine") : std::string();
  const std::string first = text.substr(0, text.find(' '));
  return first.empty() ? Engine::trtllm : parse_engine(first);
}

std::optional<Strategy> strategy_of(const ModelSpec& model, const Sharding& s, const DecodeShape& shape) {
  for (const Strategy strategy : {Strategy::tp, Strategy::tp_pp, Strategy::dp_ep, Strategy::helix}) {
    if (!why_illegal(model, strategy, s, shape)) return strategy;
  }
  return std::nullopt;
}

}  // namespace

Verdict judge_step(const MeasuredRow& row, const SystemSpec& system) {
  const std::string& name_in_file = row.text("model");
  const ModelSpec* model = known_model(name_in_file);
  if (!model) return LeftOut{"a model that is not built in: " + name_in_file};
  const bool served = row.has("tpot_ms");

  const std::int64_t tp = row.count("tp"), dp = row.count_or("dp", 1), ep = row.count_or("moe_ep", 1);
  const auto ranks = static_cast<int>(tp * dp);
  Sharding s{.tpa = static_cast<int>(tp),
             .ep = static_cast<int>(ep),
             .pp = static_cast<int>(row.count_or("pp", 1)),
             .dp = static_cast<int>(dp)};
  s.tpf = static_cast<int>(row.count_or("moe_tp", std::max<std::int64_t>(1, ranks / ep)));
  const double context = row.has("context_tokens") ? row.positive("context_tokens")
                                                   : row.positive("isl") + row.positive("osl") / 2;
  DecodeShape shape{.context = static_cast<std::int64_t>(context),
                    .batch = row.count("batch_per_dp_rank") * dp,
                    .kv_dtype = storage(row, "kv_dtype")};
  weights(row).apply(*model, shape);
  const auto strategy = strategy_of(*model, s, shape);
  if (!strategy) return LeftOut{"a split that no strategy has"};

  SystemSpec served_on = system;
  served_on.engine = engine_of(row);
  const double model_us = predict(*model, *strategy, s, shape, served_on).model_ttl_us;
  const std::string& device = row.text("device");
  if (!served) {
    const std::string layout = row.has("layout") ? row.text("layout") : std::string(name(*strategy));
    return Judged{fmt::format("{}/{}/{}", name_in_file, device, layout), model_us,
                  row.positive("step_ms") * 1e3};
  }
  // Some of the time per token was spent on other requests' prompts.
  const double decode_share = 1 - std::min(0.99, row.has("prefill_share") ? row.number("prefill_share") : 0);
  return Judged{
      fmt::format("{}/{}/{}/{}", name_in_file, device, name(served_on.engine), row.text("weight_dtype")),
      model_us / decode_share, row.positive("tpot_ms") * 1e3};
}

}  // namespace helix
