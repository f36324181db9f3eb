#include "sweeps/measure/text_truth.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "kernels/comm/mpi_check.hpp"
#include "kernels/reference/layer.hpp"
#include "kernels/reference/routing.hpp"
#include "kernels/reference/selection.hpp"
#include "sweeps/launch/activity.hpp"
#include "sweeps/launch/broadcast.hpp"
#include "sweeps/measure/step_record.hpp"

namespace helix {
namespace {

using reference::LayerChoice;
using reference::ReferenceSetup;
using reference::Vector;

/// What a run of the reference gives, of all positions one after the other.
struct Run {
  Vector logits;
  Vector scores;  // of the choices, of a position's layers in turn
  std::string problem;
};

bool chooses(const ModelSpec& model) {
  return model.moe.experts > 0 || model.attention.indexer.heads > 0;
}

Run run_reference(ReferenceSetup setup, std::span<const std::int32_t> tokens, const TextChoices& choices) {
  // Any choice is taken that is one at all: how far its scores are off is judged by what rounding does to them.
  setup.routing_tolerance = setup.selection_tolerance = std::numeric_limits<double>::max();
  reference::ReferenceRequest request(setup, 0);
  Run run;
  for (std::size_t t = 0; t < tokens.size(); ++t) {
    working_on("the reference of verification");
    const reference::ReferenceStep step =
        request.step(tokens[t], t < choices.size() ? choices[t] : std::vector<LayerChoice>{});
    run.logits.insert(run.logits.end(), step.logits.begin(), step.logits.end());
    if (!step.choice_problem.empty() && run.problem.empty())
      run.problem = fmt::format("position {}: {}", t, step.choice_problem);
    if (choices.empty()) continue;
    for (std::size_t i = 0; i < setup.layers.size(); ++i)
      for (const Vector& scores : {step.router_logits[i], step.index_scores[i]})
        run.scores.insert(run.scores.end(), scores.begin(), scores.end());
  }
  return run;
}

/// From its owner to all ranks.
void share(Vector& values, int owner, MPI_Comm world) {
  int rank = 0;
  HELIX_MPI(MPI_Comm_rank(world, &rank));
  const ActivityFlag waiting(&Activity::bystander, owner != rank);
  std::int64_t size = std::ssize(values);
  HELIX_MPI(MPI_Bcast(&size, 1, MPI_INT64_T, owner, world));
  values.resize(static_cast<std::size_t>(size));
  HELIX_MPI(MPI_Bcast(values.data(), static_cast<int>(size), MPI_DOUBLE, owner, world));
}

/// Scores of one layer's choices of one kind at a position, in both runs.
struct Scores {
  std::span<const double> exact, rounded;
};

/// Calls look(position, layer that is run, whether they are the router's, scores) for each that there is.
template <class Look>
void for_each_choice(const ReferenceSetup& setup, const TextChoices& choices, const Run& exact,
                     const Run& rounded, const Look& look) {
  const ModelSpec& model = setup.model;
  std::size_t at = 0;
  const auto next = [&](std::size_t count) {
    at += count;
    return Scores{std::span(exact.scores).subspan(at - count, count),
                  std::span(rounded.scores).subspan(at - count, count)};
  };
  for (std::size_t t = 0; t < choices.size(); ++t) {
    for (std::size_t i = 0; i < setup.layers.size(); ++i) {
      if (model.layer_kind(setup.layers[i]).moe())
        look(t, i, true, next(static_cast<std::size_t>(model.moe.experts)));
      if (model.attention.indexer.heads > 0) look(t, i, false, next(t + 1));
    }
  }
}

void judge_choices(const ReferenceSetup& setup, const TextChoices& choices, const Run& exact,
                   const Run& rounded, TextTruth& truth) {
  std::vector<std::array<double, 2>> rounding(setup.layers.size());  // of a layer's scores, of each kind
  for_each_choice(setup, choices, exact, rounded,
                  [&](std::size_t, std::size_t i, bool router, const Scores& scores) {
                    double& largest = rounding[i][router];
                    for (std::size_t e = 0; e < scores.exact.size(); ++e)
                      largest = std::max(largest, std::fabs(scores.exact[e] - scores.rounded[e]));
                  });
  std::vector<std::vector<float>> biases(setup.layers.size());
  for (std::size_t i = 0; i < biases.size(); ++i) {
    if (setup.model.moe.has_router_bias() && setup.model.layer_kind(setup.layers[i]).moe())
      biases[i] = reference::Layer{setup, setup.layers[i]}.wide(Tensor::router_bias);
  }
  std::size_t last_tie = choices.size();
  for_each_choice(setup, choices, exact, rounded,
                  [&](std::size_t t, std::size_t i, bool router, const Scores& scores) {
                    const auto problem = [&](double tolerance) {
                      const Vector of_layer(scores.exact.begin(), scores.exact.end());
                      if (router)
                        return reference::routing_problem(setup.model.moe, of_layer, biases[i],
                                                          choices[t][i].experts, tolerance);
                      return reference::selection_problem(of_layer, setup.model.attention.indexer.top_k,
                                                          choices[t][i].tokens, tolerance);
                    };
                    if (problem(0).empty()) return;
                    if (last_tie != t) ++truth.near_ties;
                    last_tie = t;
                    const double allowed = 2 * rounding[i][router];  // of two scores, each
                    if (const std::string what = problem(allowed); !what.empty() && truth.problem.empty())
                      truth.problem = fmt::format("position {}: layer {}: {} (rounding explains {:.2g})", t,
                                                  setup.layers[i], what, allowed);
                  });
}

}  // namespace

DecodedText decode_text(DecodeEngine& engine, std::span<const std::int32_t> tokens, MPI_Comm instance) {
  const ModelSpec& model = engine.instance().model();
  int rank = 0, size = 1;
  HELIX_MPI(MPI_Comm_rank(instance, &rank));
  HELIX_MPI(MPI_Comm_size(instance, &size));
  StepRecord record(engine);
  StepObserver nobody;
  WatchedStep watched(chooses(model) ? static_cast<StepObserver&>(record) : nobody);
  DecodedText text;
  for (const std::int32_t token : tokens) {
    working_on("decoding the text");
    record.clear();
    engine.give_tokens(
        std::vector<std::int32_t>(static_cast<std::size_t>(engine.instance().shape().batch), token));
    engine.step(watched);
    engine.settle();
    const std::vector<float> step = engine.gather_logits();
    if (rank == size - 1) text.logits.insert(text.logits.end(), step.begin(), step.begin() + model.vocab);
    if (!chooses(model)) continue;
    std::vector<LayerChoice>& chosen = text.choices.emplace_back();
    for (std::int64_t layer = 0; layer < model.layers; ++layer) {
      std::vector<std::int32_t> experts = routing_of(engine, layer, instance);
      if (!experts.empty()) experts.resize(static_cast<std::size_t>(model.moe.top_k));
      chosen.push_back({std::move(experts), record.selection(layer, 0, instance)});
    }
  }
  return text;
}

TextChoices broadcast_choices(const TextChoices& choices, MPI_Comm world) {
  // Each list of numbers behind its length.
  std::vector<std::int32_t> numbers;
  const auto put = [&](const auto& list) {
    numbers.push_back(static_cast<std::int32_t>(list.size()));
    for (const auto number : list) numbers.push_back(static_cast<std::int32_t>(number));
  };
  for (const auto& position : choices) {
    numbers.push_back(static_cast<std::int32_t>(position.size()));
    for (const LayerChoice& choice : position) {
      put(choice.experts);
      put(choice.tokens);
    }
  }
  auto count = static_cast<int>(numbers.size());
  HELIX_MPI(MPI_Bcast(&count, 1, MPI_INT, 0, world));
  numbers.resize(static_cast<std::size_t>(count));
  HELIX_MPI(MPI_Bcast(numbers.data(), count, MPI_INT32_T, 0, world));
  TextChoices shared;
  auto at = numbers.begin();
  const auto take = [&](auto& list) {
    const std::int32_t length = *at++;
    list.assign(at, at + length);
    at += length;
  };
  while (at != numbers.end()) {
    shared.emplace_back(static_cast<std::size_t>(*at++));
    for (LayerChoice& choice : shared.back()) {
      take(choice.experts);
      take(choice.tokens);
    }
  }
  return shared;
}

TextTruth text_truth(const ReferenceSetup& setup, std::span<const std::int32_t> tokens,
                     const TextChoices& choices, MPI_Comm world) {
  int rank = 0, size = 1;
  HELIX_MPI(MPI_Comm_rank(world, &rank));
  HELIX_MPI(MPI_Comm_size(world, &size));
  const int rounding_rank = size > 1 ? 1 : 0;
  ReferenceSetup rounding = setup;
  rounding.round_as_engine = true;
  Run exact, rounded;
  if (rank == 0) exact = run_reference(setup, tokens, choices);
  if (rank == rounding_rank) rounded = run_reference(rounding, tokens, choices);
  for (Vector Run::*const values : {&Run::logits, &Run::scores}) {
    share(exact.*values, 0, world);
    share(rounded.*values, rounding_rank, world);
  }
  TextTruth truth{.tokens = {tokens.begin(), tokens.end()},
                  .exact = std::move(exact.logits),
                  .rounded = std::move(rounded.logits),
                  .problem = broadcast_text(exact.problem, 0, world)};
  if (truth.problem.empty()) judge_choices(setup, choices, exact, rounded, truth);
  return truth;
}

}  // namespace helix
