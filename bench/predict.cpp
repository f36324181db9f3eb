#include "bench/command_line.hpp"
#include "sweeps/predict_run.hpp"

namespace helix {

int predict_command(const Arguments& arguments) {
  CLI::App app("Predicts every configuration of the request, for any system and number of GPUs", "predict");
  const RequestFlags flags(app);
  PredictRequest request;
  app.add_option("--validate", request.validate, "hold the model against measured kernels")
      ->type_name("FILE.csv");
  app.add_flag("--bench", request.bench, "print configurations per second");
  app.add_option("--top", request.top,
                 "keep only the frontier of each strategy and its N rows with the most tokens/s/GPU")
      ->type_name("N")
      ->check(CLI::PositiveNumber);
  if (parse_or_help(app, arguments)) return 0;
  request.sweep = flags.request("planner", arguments);
  return run_predict(request);
}

}  // namespace helix
