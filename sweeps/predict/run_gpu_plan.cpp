// What `predict --gpus N` prints and keeps of its plans.
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "roofline/step/baseline.hpp"
#include "sweeps/common/text_table.hpp"
#include "sweeps/output/table.hpp"
#include "sweeps/predict/gpu_plan.hpp"
#include "sweeps/predict/plan_directory.hpp"
#include "sweeps/results/frontier.hpp"
#include "sweeps/results/row_text.hpp"

namespace helix {
namespace {

constexpr double gib = 1024.0 * 1024.0 * 1024.0;

/// Of one request on all ranks of its instance: copies count.
double kv_bytes_per_user(const ResultRow& row) {
  const Sharding& s = row.config.sharding;
  const Prediction& p = *row.prediction;
  const auto attended = static_cast<double>((row.config.shape.batch + s.dp - 1) / s.dp);
  return p.kv_bytes_per_rank / attended * s.kvp * s.tpa * s.pp;
}

/// 300000 is "293K": whole K or M, rounded down.
std::string rounded_tokens(std::int64_t tokens) {
  if (tokens >= 10 << 20) return fmt::format("{}M", tokens >> 20);
  return tokens >= 10 << 10 ? fmt::format("{}K", tokens >> 10) : fmt::format("{}", tokens);
}

std::string figure(double value) {
  return value >= 100 ? fmt::format("{:.0f}", value) : fmt::format("{:.1f}", value);
}

std::string cost(const std::optional<double>& value) {
  return value ? fmt::format("{:.3g}", *value) : "";
}

std::string heading(const GpuPlan& plan, const PredictRequest& request) {
  std::string text = fmt::format(
      "{}, {} tokens, {}, on {} x {}", plan.model.name, token_text(plan.shape.context),
      precision_text(plan.shape.weight_dtype, plan.shape.kv_dtype), *request.gpus, plan.system.name);
  if (request.sweep.ttl_budget_ms)
    text += fmt::format(", at most {:g} ms a token", *request.sweep.ttl_budget_ms);
  return text;
}

void print(const GpuPlan& plan, const PredictRequest& request) {
  const std::optional<std::size_t> width = terminal_width();
  fmt::print("{}\n", wrapped(heading(plan, request), width));
  if (plan.answers.empty()) {
    fmt::print("nothing fits the memory: {:g} of {:.1f} GiB a GPU\n\n", plan.system.dram.memory_fraction,
               plan.system.dram.capacity_bytes / gib);
    return;
  }
  if (!plan.reachable) fmt::print("{}\n", wrapped("Nothing meets this budget; the fastest there is:", width));
  using enum TextColumn::Align;
  TextTable table({{"", right},
                   {"strategy"},
                   {"layout"},
                   {"GPUs", right, 2},
                   {"users", right},
                   {"ms", point, 5},
                   {"tok/s/user", point},
                   {"tok/s/GPU", point},
                   {"USD/Mtok", point},
                   {"J/tok", point},
                   {"GiB+free", right, 1},
                   {"KV/user", point, 4},
                   {"max ctx", right, 3},
                   {"gain", point}});
  int number = 0;
  for (const PlanAnswer& answer : plan.answers) {
    const Prediction& p = *answer.row.prediction;
    const Configuration& c = answer.row.config;
    const double free = p.memory_capacity_bytes * p.memory_fraction - p.memory_bytes_per_rank;
    table.add({fmt::format("{}", ++number), std::string(name(counted_as(c.strategy, c.sharding))),
               short_sharding_text(c), fmt::format("{}x{}", answer.instances, c.sharding.ranks()),
               fmt::format("{}", answer.users()), fmt::format("{:.1f}", p.model_ttl_us / 1e3),
               figure(p.tokens_per_s_user), figure(answer.tokens_per_s() / *request.gpus),
               cost(answer.row.usd_per_mtok), cost(answer.row.joules_per_token),
               fmt::format("{:.0f}+{:.0f}", p.memory_bytes_per_rank / gib, free / gib),
               fmt::format("{:.2f}", kv_bytes_per_user(answer.row) / gib), rounded_tokens(p.max_context),
               answer.gain ? fmt::format("{:.2f}x", *answer.gain) : ""});
  }
  fmt::print("{}", table.text(width));
  number = 0;
  for (const PlanAnswer& answer : plan.answers) fmt::print("{} {}\n", ++number, answer.row.id);
  fmt::print("\n");
}

nlohmann::ordered_json to_json(const std::vector<GpuPlan>& plans, int gpus) {
  nlohmann::ordered_json all = nlohmann::ordered_json::array();
  for (const GpuPlan& plan : plans) {
    for (const PlanAnswer& answer : plan.answers) {
      nlohmann::ordered_json object = row_to_json(answer.row);
      const Configuration& c = answer.row.config;
      object["counts_for"] = name(counted_as(c.strategy, c.sharding));
      object["instances"] = answer.instances;
      object["gpus"] = gpus;
      object["users"] = answer.users();
      object["plan_tokens_per_s_gpu"] = answer.tokens_per_s() / gpus;
      object["gain"] = answer.gain ? nlohmann::ordered_json(*answer.gain) : nlohmann::ordered_json(nullptr);
      all.push_back(std::move(object));
    }
  }
  return all;
}

}  // namespace

int run_gpu_plan(const PredictRequest& request) {
  const std::vector<GpuPlan> plans = plan_gpus(request.sweep, *request.gpus);
  std::vector<ResultRow> rows;
  for (const GpuPlan& plan : plans) {
    for (const PlanAnswer& answer : plan.answers) rows.push_back(answer.row);
  }
  mark_pareto(rows);
  if (!request.sweep.out.empty()) {
    std::vector<SystemSpec> systems;
    for (const GpuPlan& plan : plans) {
      if (std::ranges::count(systems, plan.system.name, &SystemSpec::name) == 0)
        systems.push_back(plan.system);
    }
    PlanDirectory directory(request, systems);
    for (const ResultRow& row : rows) directory.append(row);
    directory.finish(rows.size(), "");
  }
  switch (request.sweep.output) {
    case OutputFormat::json:
      fmt::print("{}\n", to_json(plans, *request.gpus).dump(2));
      return 0;
    case OutputFormat::json_lines:
      for (const auto& answer : to_json(plans, *request.gpus)) fmt::print("{}\n", answer.dump());
      return 0;
    case OutputFormat::csv:
      fmt::print("{}", format_csv(rows));
      return 0;
    case OutputFormat::table:
      break;
  }
  if (request.sweep.quiet) return 0;
  fmt::print("{}\n\n", wrapped(std::string(sharding_legend) +
                                   " GPUs: instances x GPUs of each. GiB of a GPU used + free, KV GiB "
                                   "of a user.",
                               terminal_width()));
  for (const GpuPlan& plan : plans) print(plan, request);
  fmt::print(
      "{}\n",
      wrapped(
          request.sweep.ttl_budget_ms
              ? "Gain: tokens/s of all GPUs against the best other strategy."
              : "Without --ttl-budget: each strategy at its knee, the largest product of tokens/s/user and "
                "tokens/s/GPU. Gain: tokens/s of all GPUs against the best other strategy.",
          terminal_width()));
  return 0;
}

}  // namespace helix
