#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "bench/command_line.hpp"
#include "bench/list_models.hpp"
#include "kernels/providers/trtllm_gen_kernels.hpp"
#include "roofline/base/error.hpp"
#include "roofline/system/system_spec.hpp"
#include "sweeps/launch/mpi_session.hpp"
#include "sweeps/request/sweep_file.hpp"

namespace helix {
namespace {

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

std::vector<std::string> all_kernel_makers() {
  std::vector<std::string> names;
  for (const KernelMaker maker : kernel_makers) names.emplace_back(name(maker));
  return names;
}

std::string describe_kernels(const std::string& maker) {
  switch (parse_kernel_maker(maker)) {
    case KernelMaker::own:
      return "this program's, for every cache that its backends know";
    case KernelMaker::trtllm_gen:
      return describe_trtllm_gen(trtllm_gen_folder());
  }
  return {};
}

struct Catalogue {
  std::string_view name;
  std::vector<std::string> (*entries)();
  std::string (*describe)(const std::string&);
};
constexpr Catalogue catalogues[] = {{"systems", built_in_systems, describe_system},
                                    {"sweeps", built_in_sweeps, describe_sweep},
                                    {"kernels", all_kernel_makers, describe_kernels}};

/// Those asked for, or those that are built in.
int list_models(const std::vector<std::string>& asked, bool json) {
  const std::vector<std::string> names = asked.empty() ? built_in_models() : asked;
  const std::string text = json ? describe_models(names).dump(2) + "\n" : models_table(names);
  if (launched_rank() == 0) fmt::print("{}", text);
  return 0;
}

}  // namespace

int list_command(const Arguments& arguments) {
  CLI::App app("Lists what is built in, and whose attention kernels were found", "list");
  app.footer("Example: helix-bench list models --model deepseek-v3.2 --model config.json --json");
  std::string what;
  std::vector<std::string> models;
  bool json = false;
  app.add_option("WHAT", what, "models, systems, sweeps or kernels");
  app.add_option("--model", models,
                 "of models: built-in ones or config.json files, each after its own --model")
      ->expected(1)
      ->take_all();
  app.add_flag("--json", json, "print as JSON");
  if (parse_or_help(app, arguments)) return 0;
  if (what == "models") return list_models(models, json);
  if (!models.empty()) throw UsageError(fmt::format("list '{}' --model: valid: list models --model", what));
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
  throw UsageError(
      fmt::format("list '{}': valid: list models, list systems, list sweeps, list kernels", what));
}

}  // namespace helix
