#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "bench/command_line.hpp"
#include "roofline/base/error.hpp"
#include "roofline/system/system_spec.hpp"
#include "sweeps/launch/mpi_session.hpp"
#include "sweeps/request/sweep_file.hpp"

namespace helix {
namespace {

std::string describe_model(const std::string& model_name) {
  const ModelSpec model = load_model(model_name);
  const AttentionSpec& attention = model.attention;
  const std::string heads = attention.kind == AttentionKind::mla
                                ? fmt::format("MLA {} heads, latent {} + {}", attention.q_heads,
                                              attention.kv_lora_rank, attention.qk_rope_head_dim)
                                : fmt::format("GQA {} heads on {}", attention.q_heads, attention.kv_heads);
  const std::string ffn = model.moe.experts > 0
                              ? fmt::format("{} experts, top {}", model.moe.experts, model.moe.top_k)
                              : fmt::format("dense FFN {}", model.ffn);
  return fmt::format("{} layers, hidden {}, {}, {}", model.layers, model.hidden, heads, ffn);
}

std::string describe_system(const std::string& system_name) {
  const SystemSpec system = load_system(system_name);
  return fmt::format("{}, {:.4g} GB/s DRAM, {:.4g} GiB", system.device,
                     system.dram.datasheet_bytes_per_s / 1e9,
                     system.dram.capacity_bytes / (1024.0 * 1024.0 * 1024.0));
}

std::string describe_sweep(const std::string& sweep_name) {
  SweepRequest request;
  load_sweep(sweep_name, request);
  std::string models;
  for (const SweepSpace& block : request.blocks) {
    for (const std::string& model : block.models) models += (models.empty() ? "" : ", ") + model;
  }
  return models;
}

struct Catalogue {
  std::string_view name;
  std::vector<std::string> (*entries)();
  std::string (*describe)(const std::string&);
};
constexpr Catalogue catalogues[] = {{"models", built_in_models, describe_model},
                                    {"systems", built_in_systems, describe_system},
                                    {"sweeps", built_in_sweeps, describe_sweep}};

}  // namespace

int list_command(const Arguments& arguments) {
  CLI::App app("Lists what is built in", "list");
  app.footer("Example: helix-bench list models");
  std::string what;
  bool json = false;
  app.add_option("WHAT", what, "models, systems or sweeps");
  app.add_flag("--json", json, "print as JSON");
  if (parse_or_help(app, arguments)) return 0;
  for (const Catalogue& catalogue : catalogues) {
    if (catalogue.name != what) continue;
    nlohmann::ordered_json entries = nlohmann::ordered_json::object();
    for (const std::string& entry : catalogue.entries()) entries[entry] = catalogue.describe(entry);
    if (launched_rank() != 0) return 0;
    if (json) {
      fmt::print("{}\n", entries.dump(2));
      return 0;
    }
    for (const auto& [entry, description] : entries.items()) {
      fmt::print("{:<24} {}\n", entry, description.get<std::string>());
    }
    return 0;
  }
  throw UsageError(fmt::format("list '{}': valid: list models, list systems, list sweeps", what));
}

}  // namespace helix
