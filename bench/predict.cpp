#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <initializer_list>

#include "bench/command_line.hpp"
#include "roofline/base/error.hpp"
#include "sweeps/common/list_syntax.hpp"
#include "sweeps/predict/predict_run.hpp"

namespace helix {
namespace {

constexpr Quantity gpu_count{1, 1 << 16};
constexpr Quantity row_count{0, std::int64_t{1} << 30};

/// A mode that answers another question has no use for most flags: those given are refused.
void refuse_beside(const CLI::App& app, const std::string& mode,
                   std::initializer_list<std::string_view> useless, std::string_view why) {
  for (const CLI::Option* option : app.get_options()) {
    if (option->count() == 0 || option->get_name() == mode) continue;
    if (std::ranges::find(useless, option->get_name()) == useless.end()) continue;
    throw UsageError(fmt::format("predict: {} is of no use beside {}: {}", option->get_name(), mode, why));
  }
}

}  // namespace

int predict_command(const Arguments& arguments) {
  CLI::App app("Predicts every configuration of the request, for any system and number of GPUs", "predict");
  app.footer(
      "Example: helix-bench predict --model deepseek-r1 --system gb200 --gpus 64 --ttl-budget 15 --context "
      "256k,1m --weight-dtype nvfp4 --kv-dtype fp8");
  const RequestFlags flags(app, Command::predict);
  PredictRequest request;
  std::string top;
  app.add_option("--validate", request.validate, "hold the model against measured kernels")
      ->type_name("FILE.csv");
  app.add_flag("--bench", request.bench, "print configurations per second");
  app.add_option("--top", top,
                 "keep only the frontier of each strategy and its N rows with the most tokens/s/GPU; 0: the "
                 "frontiers alone")
      ->type_name("N");
  std::string gpus;
  app.add_option(
         "--gpus", gpus,
         "the best use of N GPUs: solves for batch, layout and instances, within --ttl-budget if given")
      ->type_name("N");
  if (parse_or_help(app, arguments)) return 0;
  if (app.count("--validate") > 0) {
    for (const CLI::Option* option : app.get_options()) {
      const std::string& name = option->get_name();
      constexpr std::array<std::string_view, 6> of_use{"--validate", "--json", "--csv",
                                                       "--system",   "--out",  "--quiet"};
      if (option->count() == 0 || std::ranges::find(of_use, name) != of_use.end()) continue;
      throw UsageError(
          fmt::format("predict: {} is of no use beside --validate: the file says what was measured; valid: "
                      "--json, --csv, "
                      "--system X in place of every device that it names, --out DIR for each row's times",
                      name));
    }
  }
  if (request.bench) {
    refuse_beside(app, "--bench", {"--out", "--top", "--ttl-budget", "--quiet"},
                  "it times the model and keeps no rows");
  }
  if (app.count("--gpus") > 0) {
    refuse_beside(app, "--gpus", {"--batch", "--top", "--bench"},
                  "it solves for the batch and keeps one row a strategy");
    request.gpus = static_cast<int>(parse_count(gpus, gpu_count, "--gpus"));
  }
  if (app.count("--top") > 0) request.top = static_cast<std::size_t>(parse_count(top, row_count, "--top"));
  request.sweep = flags.request("planner", arguments);
  // The default sweep's grid of batches is none that the user asked for.
  if (request.gpus && app.count("--sweep") == 0) {
    for (SweepSpace& block : request.sweep.blocks) {
      block.batches = {};
      if (app.count("--ranks") == 0) block.ranks = {};
    }
  }
  return run_predict(request);
}

}  // namespace helix
