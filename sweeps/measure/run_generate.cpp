#include "sweeps/measure/run_generate.hpp"

#include <fmt/ranges.h>
#include <mpi.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <set>

#include "kernels/checkpoint/stop_tokens.hpp"
#include "kernels/comm/mpi_check.hpp"
#include "kernels/comm/mpi_communicator.hpp"
#include "roofline/base/error.hpp"
#include "roofline/base/statistics.hpp"
#include "sweeps/launch/activity.hpp"
#include "sweeps/launch/backend_choice.hpp"
#include "sweeps/launch/broadcast.hpp"
#include "sweeps/launch/mpi_session.hpp"
#include "sweeps/launch/progress.hpp"
#include "sweeps/measure/engine_host.hpp"
#include "sweeps/measure/point_runner.hpp"
#include "sweeps/measure/sampler.hpp"
#include "sweeps/measure/text_points.hpp"

namespace helix {
namespace {

using Clock = std::chrono::steady_clock;

struct Answer {
  std::vector<std::int32_t> tokens;
  bool of_numbers = true;       // whether the last logits are
  std::vector<double> step_us;  // of the steps that made them
  double loading_s = 0;
};

/// The first point that runs here. Throws UsageError where none does, with the reason of the first that has the ranks.
struct Chosen {
  SweepPoint point;
  EngineRequest engine;
};
Chosen choose_point(const std::vector<SweepPoint>& points, std::int64_t steps, const Checkpoint& weights,
                    Backend& backend, const World& world) {
  std::string reason;
  bool of_this_launch = false;
  for (const SweepPoint& point : points) {
    const Admission admission = admit_text(point, steps, weights, backend, world);
    if (admission.engine) return {point, *admission.engine};
    const bool fits = point.config.sharding.ranks() <= world.size;
    if (!reason.empty() && (of_this_launch || !fits)) continue;
    reason = fmt::format("{}: {}", configuration_id(point.config), admission.reason);
    of_this_launch = fits;
  }
  throw UsageError("generate: no layout runs here: " + reason);
}

/// What the step chose, on every rank: the engine's own greedy choice, or one drawn from the logits.
std::int32_t next_token(const DecodeEngine& engine, Sampler& sampler, bool greedy, std::int64_t vocab,
                        int ranks, MPI_Comm instance) {
  std::int32_t token = 0;
  int owner = 0;  // rank 0 is of the first stage, which gets the tokens
  if (greedy) {
    token = engine.tokens().front();
  } else {
    owner = ranks - 1;  // of the last stage, which has the logits
    const std::vector<float> logits = engine.gather_logits();
    if (!logits.empty()) token = sampler.choose(std::span(logits).first(static_cast<std::size_t>(vocab)));
  }
  HELIX_MPI(MPI_Bcast(&token, 1, MPI_INT32_T, owner, instance));
  return token;
}

Answer answer(DecodeEngine& engine, const SweepRequest& request, const Configuration& config,
              std::int64_t vocab, const std::set<std::int32_t>& stops, Progress& progress,
              MPI_Comm instance) {
  StepObserver nobody;
  WatchedStep watched(nobody);
  Sampler sampler(request.sampling, request.seed);
  Answer result;
  std::vector<std::int32_t> input = request.prompt;
  for (std::size_t i = 0; i < input.size(); ++i) {
    const bool prompt = i + 1 < request.prompt.size();
    working_on(prompt ? "decoding the prompt" : "generating");
    progress.running(prompt ? fmt::format("prompt, token {} of {}", i + 1, request.prompt.size())
                            : fmt::format("token {}", result.tokens.size() + 1));
    const auto begin = Clock::now();
    engine.give_tokens(std::vector<std::int32_t>(static_cast<std::size_t>(config.shape.batch), input[i]));
    engine.step(watched);
    engine.settle();
    if (prompt) continue;
    const std::int32_t token =
        next_token(engine, sampler, request.sampling.greedy(), vocab, config.sharding.ranks(), instance);
    result.step_us.push_back(std::chrono::duration<double, std::micro>(Clock::now() - begin).count());
    result.tokens.push_back(token);
    if (stops.contains(token) || std::ssize(result.tokens) == request.max_new_tokens) break;
    input.push_back(token);
  }
  // What is no number once is none in the cache, so that the last step shows it.
  result.of_numbers =
      std::ranges::all_of(engine.gather_logits(), [](float logit) { return std::isfinite(logit); });
  return result;
}

void print(const SweepRequest& request, const Answer& answer, const std::string& id, std::size_t file_bytes) {
  const double step_us = median(answer.step_us);
  if (request.output == OutputFormat::table) {
    fmt::print("{}\n", fmt::join(answer.tokens, " "));
    if (request.quiet) return;
    fmt::print(stderr, "{}: {} tokens, {:.4g} ms each; {:.3g} GB loaded in {:.3g} s\n", id,
               answer.tokens.size(), step_us / 1e3, static_cast<double>(file_bytes) / 1e9, answer.loading_s);
    return;
  }
  const nlohmann::ordered_json object{{"prompt_tokens", request.prompt},
                                      {"tokens", answer.tokens},
                                      {"text", nullptr},
                                      {"id", id},
                                      {"step_us", step_us},
                                      {"loading_s", answer.loading_s}};
  fmt::print("{}\n", object.dump());
}

}  // namespace

int run_generate(const SweepRequest& request) {
  World world = describe_world(MPI_COMM_WORLD, request.memory_fraction);
  const ModelTable models = load_models(request.blocks);
  const ModelSpec& model = models.begin()->second;
  require_tokens(request.prompt, model);
  const std::unique_ptr<Checkpoint> weights = open_checkpoint(request, model);
  const std::set<std::int32_t> stops = stop_tokens(request.weights);
  const std::int64_t tokens = std::ssize(request.prompt) + request.max_new_tokens - 1;
  const std::unique_ptr<Backend> backend = make_backend(request.backend, world);
  const Chosen chosen = choose_point(text_points(request, models, tokens, world.size, *backend), tokens,
                                     *weights, *backend, world);
  const Configuration& config = chosen.point.config;
  RankGroups groups(world.comm);
  Progress progress(1, world.rank == 0 && !request.quiet);
  EngineHost host(*backend, world.memory_bytes);

  Answer result;
  std::string problem;
  const std::string id = configuration_id(config);
  working_on_row(id);
  progress.running(fmt::format("loading {:.3g} GB", static_cast<double>(weights->bytes()) / 1e9));
  const MPI_Comm instance = groups.first(config.sharding.ranks());
  if (instance != MPI_COMM_NULL) {
    const auto begin = Clock::now();
    problem = host.run(chosen.engine, instance, [&](DecodeEngine& engine) {
      const double loading_s = std::chrono::duration<double>(Clock::now() - begin).count();
      result = answer(engine, request, config, model.vocab, stops, progress, instance);
      result.loading_s = loading_s;
    });
  }
  progress.clear();
  working_on("end of the answer");
  {
    const ActivityFlag idle(&Activity::bystander, instance == MPI_COMM_NULL);
    wait_idle(world.comm);
  }
  problem = broadcast_text(problem, 0, world.comm);  // rank 0 is in every group
  if (!problem.empty()) throw BrokenOff("generate: " + problem);
  problem =
      agree_on_failure(result.of_numbers ? "" : "its logits are no numbers: is a weight none?", world.comm);
  if (!problem.empty()) throw BrokenOff(fmt::format("generate: {}: {}", request.weights.string(), problem));
  if (world.rank == 0) print(request, result, id, weights->bytes());
  return 0;
}

}  // namespace helix
