#include "sweeps/predict/predict_rate.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <ctime>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "roofline/base/error.hpp"
#include "sweeps/predict/planned_sweep.hpp"

namespace helix {
namespace {

/// Of this process, which has one thread: what others take of the core meanwhile does not count.
double cpu_seconds() {
  return static_cast<double>(std::clock()) / CLOCKS_PER_SEC;
}

/// Repeats `pass`, which returns how many configurations it answered, for about a second of CPU time.
template <class Pass>
double rate_of(Pass pass) {
  const double start = cpu_seconds();
  std::size_t answered = 0;
  double seconds = 0;
  do {
    answered += pass();
    seconds = cpu_seconds() - start;
  } while (seconds < 1);
  return static_cast<double>(answered) / seconds;
}

}  // namespace

int run_predict_rate(const PredictRequest& request) {
  constexpr std::size_t most_points = 1'000'000;
  PlannedSweep sweep(request.sweep);
  // What a user waits for, but for the start of the process and the output: enumerating the request and
  // pricing each of its points with empty tables.
  std::size_t configurations = 0;
  double fastest = 0;
  const double first_rate = rate_of([&] {
    sweep.forget();
    configurations = 0;
    sweep.walk([&](const SweepPoint&, const SystemSpec&, const Prediction* p, std::size_t) {
      if (!p) return;
      ++configurations;
      fastest = std::max(fastest, p->tokens_per_s_user);
    });
    return std::max<std::size_t>(configurations, 1);
  });
  if (configurations == 0) throw UsageError("--bench: no legal configuration in the request");

  // The same points once more: their parts stand in the planner's tables.
  std::vector<std::pair<SweepPoint, const SystemSpec*>> points;
  for (const SystemSpec& system : sweep.systems()) {
    sweep.enumerate(system, [&](const SweepPoint& point) {
      if (point.skip_reason.empty() && points.size() < most_points) points.emplace_back(point, &system);
    });
  }
  const double again_rate = rate_of([&] {
    for (const auto& [point, system] : points)
      fastest = std::max(fastest, sweep.predict(point, *system).tokens_per_s_user);
    return points.size();
  });

  switch (request.sweep.output) {
    case OutputFormat::json:
    case OutputFormat::json_lines: {
      const nlohmann::ordered_json rates = {{"configurations", configurations},
                                            {"configurations_per_second", first_rate},
                                            {"repriced_configurations_per_second", again_rate},
                                            {"fastest_tokens_per_s_user", fastest}};
      fmt::print("{}\n", rates.dump(request.sweep.output == OutputFormat::json ? 2 : -1));
      break;
    }
    case OutputFormat::csv:
      fmt::print("configurations,configurations_per_second,repriced_configurations_per_second\n");
      fmt::print("{},{:.6g},{:.6g}\n", configurations, first_rate, again_rate);
      break;
    case OutputFormat::table:
      fmt::print(
          "{:.2f} million configurations per second the first time (enumerated and priced; {} of them), "
          "{:.2f} million when priced again, on one core; fastest {:.1f} tokens/s/user\n",
          first_rate / 1e6, configurations, again_rate / 1e6, fastest);
      break;
  }
  return 0;
}

}  // namespace helix
