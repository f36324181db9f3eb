#include "sweeps/predict/planned_sweep.hpp"

#include <fmt/ranges.h>

#include <algorithm>

#include "roofline/base/error.hpp"
#include "roofline/step/draft_ops.hpp"
#include "roofline/step/memory.hpp"
#include "sweeps/results/costs.hpp"
#include "sweeps/results/row_text.hpp"

namespace helix {
namespace {

/// TensorRT-LLM wrote the kernels that GPUs are priced with. A calibrated machine runs none of the engines,
/// and papers that count flat fp4 simulate kernels alone.
Engine engine_of(const SweepRequest& request, const SystemSpec& system) {
  if (request.engine) return *request.engine;
  const bool papers = std::ranges::any_of(request.blocks, [](const SweepSpace& block) {
    return std::ranges::count(block.weight_dtypes, WeightRequest(DType::fp4)) > 0 ||
           std::ranges::count(block.kv_dtypes, std::optional(DType::fp4)) > 0;
  });
  return system.gpu && !system.calibrated && !papers ? Engine::trtllm : Engine::none;
}

std::vector<SystemSpec> systems_of(const SweepRequest& request) {
  const std::vector<std::string> names =
      request.systems.empty() ? std::vector<std::string>{"gb200"} : request.systems;
  std::vector<SystemSpec> systems;
  for (const std::string& name : names) {
    if (name == "auto") {
      throw UsageError(
          fmt::format("--system auto: predict measures nothing; valid: built-in systems ({}), or a file that "
                      "helix-bench calibrate wrote",
                      fmt::join(built_in_systems(), ", ")));
    }
    SystemSpec& system = systems.emplace_back(load_system(name));
    system.dram.memory_fraction = request.memory_fraction;
    system.engine = engine_of(request, system);
    if (system.engine != Engine::none && !system.gpu) {
      throw UsageError(fmt::format("--engine {}: {} is no GPU system; valid: none",
                                   helix::name(system.engine), system.name));
    }
    require_board_power(request.bill, system);
    const auto same = std::ranges::count(systems, system.name, &SystemSpec::name);
    if (same > 1) throw UsageError(fmt::format("--system: '{}' is the name of two systems", system.name));
  }
  return systems;
}

/// What a file of a few ranks says of many is a guess.
std::string extrapolation(const SystemSpec& system, const Sharding& sharding) {
  if (!system.calibrated) return {};
  int measured = 1;
  for (const CollectiveRate& rate : system.collectives) measured = std::max(measured, rate.group);
  if (sharding.ranks() <= measured) return {};
  return fmt::format("extrapolated: {} was calibrated with {} rank{}", system.name, measured,
                     measured == 1 ? "" : "s");
}

std::string draft_caveat(const ModelSpec& model, const DecodeShape& shape) {
  if (shape.draft_tokens == 0) return {};
  std::string text = shape.acceptance > 0 ? "" : "tokens/s are not known without --acceptance";
  if (!drafts(model, shape)) add_caveat(text, "the time of making drafts is not counted: no draft layers");
  if (shape.draft_kv == DraftKv::local)
    add_caveat(text, "drafts of a rank's own tokens alone: fewer are accepted than of all");
  return text;
}

}  // namespace

SweepDefaults predict_defaults() {
  SweepDefaults d{.max_ranks = 64,
                  .contexts = {1 << 20},
                  .batches = {},
                  .strategies = {},
                  .hop_b = {1, SweepSpace::best_hop_b},
                  .every_width = true};
  for (std::int64_t batch = 1; batch <= 1024; batch *= 2) d.batches.push_back(batch);
  for (const StrategyTraits& row : strategies()) {
    if (!row.cuts_group) d.strategies.push_back(row.strategy);  // what engines do is for who asks
  }
  return d;
}

PlannedSweep::PlannedSweep(const SweepRequest& request)
    : request_(request), systems_(systems_of(request)), models_(load_models(request.blocks)) {
  forget();
}

void PlannedSweep::forget() {
  planners_.clear();
  for (const SystemSpec& system : systems_) {
    for (const auto& [name, model] : models_) {
      planners_.try_emplace({&model, &system}, model, system);
    }
  }
}

void PlannedSweep::enumerate(const SystemSpec& system, const std::function<void(const SweepPoint&)>& visit) {
  SweepDefaults unset = predict_defaults();
  unset.settle = [&](SweepPoint& point) { settle(point, system); };
  for (const SweepSpace& block : request_.blocks) for_each_point(block, models_, unset, visit);
}

void PlannedSweep::settle(SweepPoint& point, const SystemSpec& system) {
  DecodeShape& shape = point.config.shape;
  const std::int64_t groups = point.config.sharding.dp;
  if (shape.batch == 0) {
    shape.batch = groups;
    const std::int64_t fitting = predict(point, system).max_batch;
    shape.batch = std::clamp(fitting, groups, std::int64_t{1} << 22);
  }
  if (shape.context == 0) {
    shape.context = shape.tokens_per_block;
    shape.context = std::max(predict(point, system).max_context, shape.context);
  }
  if (shape.hop_b != SweepSpace::best_hop_b) return;
  shape.hop_b = 2;
  Planner& planner = planners_.at({point.model, &system});
  if (!planner.fits(point.config.sharding, shape)) return;
  double best_us = 0;
  int best = 1;
  for (const int count : hop_b_candidates(shape.batch / groups)) {
    shape.hop_b = count;
    const double us = planner.ttl_us(point.config.sharding, shape);
    if (best_us > 0 && us >= best_us) continue;
    best_us = us;
    best = count;
  }
  shape.hop_b = best;
}

Prediction PlannedSweep::predict(const SweepPoint& point, const SystemSpec& system) {
  return planners_.at({point.model, &system}).predict(point.config.sharding, point.config.shape);
}

void PlannedSweep::walk(const Visit& visit, const std::function<bool(std::size_t)>& wanted) {
  std::size_t ordinal = 0;
  for (const SystemSpec& system : systems_) {
    enumerate(system, [&](const SweepPoint& point) {
      if (!point.skip_reason.empty()) return visit(point, system, nullptr, ordinal);
      if (wanted) {
        Planner& planner = planners_.at({point.model, &system});
        if (!planner.fits(point.config.sharding, point.config.shape)) {
          SweepPoint too_large = point;
          too_large.skip_reason = "does not fit memory";
          return visit(too_large, system, nullptr, ordinal);
        }
        const std::size_t own = ordinal++;
        if (!wanted(own)) return;
        const Prediction p = predict(point, system);
        return visit(point, system, &p, own);
      }
      const Prediction p = predict(point, system);
      visit(point, system, &p, p.fits() ? ordinal++ : ordinal);
    });
  }
}

ResultRow PlannedSweep::row(const SweepPoint& point, const SystemSpec& system,
                            const Prediction* prediction) const {
  ResultRow r;
  r.id = configuration_id(point.config);
  if (systems_.size() > 1) r.id += "/" + system.name;
  r.config = point.config;
  r.reason = point.skip_reason;
  if (prediction && !prediction->fits()) {
    r.reason = shortage_text(prediction->memory_bytes_per_rank, prediction->memory_capacity_bytes,
                             prediction->memory_fraction);
  }
  r.status = r.reason.empty() ? Status::ok : Status::skipped;
  r.system = system.name;
  r.backend = "model";
  r.layers_total = point.model->layers;
  r.figures = model_figures(*point.model, point.config.shape);
  if (!prediction) return r;
  r.prediction = *prediction;
  if (request_.ttl_budget_ms) {
    r.meets_budget = point.config.shape.token_us(prediction->model_ttl_us) <= *request_.ttl_budget_ms * 1e3;
  }
  set_costs(r, request_.bill, system.board_watts);
  if (r.status == Status::ok) {
    for (const std::string& caveat : {extrapolation(system, point.config.sharding),
                                      long_context(*point.model, point.config.shape.context),
                                      draft_caveat(*point.model, point.config.shape)})
      add_caveat(r.reason, caveat);
  }
  return r;
}

}  // namespace helix
