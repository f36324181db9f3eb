#include "sweeps/measure/verify.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>
#include <vector>

#include "kernels/reference/reference_model.hpp"
#include "kernels/state/weight_plan.hpp"
#include "sweeps/launch/activity.hpp"
#include "sweeps/launch/broadcast.hpp"
#include "sweeps/measure/acceptance.hpp"
#include "sweeps/measure/step_record.hpp"

namespace helix {
namespace {

/// A followed request; its reference is on the rank that computes it.
struct Follower {
  std::int64_t request;
  int owner;
  std::optional<reference::ReferenceRequest> reference, rounded;
};

/// First and last of the batch and others between them, at most `count`.
std::vector<std::int64_t> followed_requests(std::int64_t batch, std::int64_t count) {
  count = std::min(count, batch);
  std::vector<std::int64_t> requests;
  for (std::int64_t i = 0; i < count; ++i) requests.push_back(count == 1 ? 0 : i * (batch - 1) / (count - 1));
  return requests;
}

struct Difference {
  double rel_error = 0;
  double max_error = 0;
};

// NaN anywhere makes both figures infinite: it must not slip through a comparison.
template <class T>
Difference compare(std::span<const T> values, const reference::Vector& expected) {
  double squares = 0, norm = 0, largest = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    double value = 0;
    if constexpr (std::is_same_v<T, BF16>) {
      value = static_cast<double>(to_float(values[i]));
    } else {
      value = static_cast<double>(values[i]);
    }
    const double d = value - expected[i];
    squares += d * d;
    norm += expected[i] * expected[i];
    largest = std::max(largest, std::fabs(d));
  }
  if (!std::isfinite(squares) || !std::isfinite(norm) || norm == 0) return {HUGE_VAL, HUGE_VAL};
  return {std::sqrt(squares / norm), largest};
}

std::string check_token(std::int32_t token, std::span<const float> logits,
                        const reference::ReferenceStep& expected, double max_error) {
  const auto best = static_cast<std::int32_t>(std::ranges::max_element(logits) - logits.begin());
  if (token != best) return fmt::format("token {} is not the argmax {} of its logits", token, best);
  if (token != expected.token && expected.top2_gap > 2 * max_error) {
    return fmt::format("token {} instead of {}, which leads by {:.3g}", token, expected.token,
                       expected.top2_gap);
  }
  return {};
}

/// The tokens of a settled engine on every rank: rank 0 is one of the first stage, which has them.
std::vector<std::int32_t> tokens_of_all(const DecodeEngine& engine, MPI_Comm instance) {
  std::vector<std::int32_t> tokens = engine.tokens();
  HELIX_MPI(MPI_Bcast(tokens.data(), static_cast<int>(tokens.size()), MPI_INT32_T, 0, instance));
  return tokens;
}

/// Allowed relative errors of each block's output and, last, of the logits: `tolerance`, or twice what rounding costs.
std::vector<double> allowances(const reference::ReferenceStep& expected,
                               const reference::ReferenceStep* rounded, double tolerance) {
  std::vector<double> allowed(expected.block_outputs.size() + 1, tolerance);
  if (rounded == nullptr) return allowed;
  const auto allow = [&](double& error, const reference::Vector& x, const reference::Vector& exact) {
    error = std::max(error, 2 * compare(std::span<const double>(x), exact).rel_error);
  };
  for (std::size_t i = 0; i < expected.block_outputs.size(); ++i)
    allow(allowed[i], rounded->block_outputs[i], expected.block_outputs[i]);
  allow(allowed.back(), rounded->logits, expected.logits);
  return allowed;
}

/// What the owner of a reference computed, to every rank: in one message, as verification of small models is
/// a matter of latencies.
void broadcast(reference::ReferenceStep& step, std::vector<double>& allowed, const ModelSpec& model,
               std::size_t layers, int owner, MPI_Comm instance) {
  const auto hidden = static_cast<std::size_t>(model.hidden), vocab = static_cast<std::size_t>(model.vocab);
  step.block_outputs.resize(2 * layers, reference::Vector(hidden));
  step.logits.resize(vocab);
  std::vector<double> message;
  for (const reference::Vector& output : step.block_outputs) {
    message.insert(message.end(), output.begin(), output.end());
  }
  message.insert(message.end(), step.logits.begin(), step.logits.end());
  allowed.resize(2 * layers + 1);
  message.insert(message.end(), allowed.begin(), allowed.end());
  message.insert(message.end(), {static_cast<double>(step.token), step.top2_gap});
  HELIX_MPI(MPI_Bcast(message.data(), static_cast<int>(message.size()), MPI_DOUBLE, owner, instance));
  auto at = message.begin();
  for (reference::Vector& output : step.block_outputs) {
    output.assign(at, at + model.hidden);
    at += model.hidden;
  }
  step.logits.assign(at, at + model.vocab);
  at += model.vocab;
  allowed.assign(at, at + std::ssize(allowed));
  step.token = static_cast<std::int32_t>(message[message.size() - 2]);
  step.top2_gap = message.back();
}

}  // namespace

OwnerChange steps_to_owner_change(int tokens_per_block, std::int64_t query_tokens) {
  if (query_tokens > 1) {
    constexpr std::int64_t steps = 4;  // across the border of blocks, and once more behind rejected tokens
    return {.steps = steps, .first_turn = std::max(0, tokens_per_block - 2), .first_compared = 0};
  }
  constexpr std::int64_t most_steps = 33;  // the default block's; more would take minutes and show no more
  const std::int64_t all = std::int64_t{tokens_per_block} + 1;
  const std::int64_t steps = std::min(all, most_steps);
  return {.steps = steps, .first_turn = all - steps, .first_compared = steps - 2};
}

double verify_tolerance(DType kv_dtype, std::int64_t context) {
  if (kv_dtype == DType::nvfp4 && context < 256) return 7e-2;
  return kv_dtype == DType::bf16 ? 1e-2 : 3e-2;
}

std::vector<std::int64_t> telling_layers(const Instance& instance) {
  std::vector<std::int64_t> list;
  for (int stage = 0; stage < instance.sharding().pp; ++stage) {
    std::vector<LayerKind> seen;
    const Range own = instance.layers_of(stage);
    for (std::int64_t l = own.begin; l < own.end; ++l) {
      const LayerKind kind = instance.model().layer_kind(l);
      if (std::ranges::find(seen, kind) != seen.end()) continue;
      seen.push_back(kind);
      list.push_back(l);
    }
  }
  return list;
}

Verification verify(DecodeEngine& engine, const VerifyOptions& options, MPI_Comm instance) {
  const ModelSpec& model = engine.instance().model();
  const DecodeShape& shape = engine.instance().shape();
  const std::int64_t query_tokens = shape.query_tokens(), rows = engine.plan().rows();
  int rank = 0, size = 1;
  HELIX_MPI(MPI_Comm_rank(instance, &rank));
  HELIX_MPI(MPI_Comm_size(instance, &size));

  // Each reference runs on one rank, different requests on different ranks.
  std::vector<Follower> followers;
  const reference::ReferenceSetup setup{.model = model,
                                        .seed = engine.instance().seed(),
                                        .layers = options.layers,
                                        .context = shape.context,
                                        .weight_dtype = shape.weight_dtype,
                                        .kv_dtype = shape.kv_dtype,
                                        .weights = options.weights};
  reference::ReferenceSetup rounding = setup;
  rounding.round_as_engine = true;
  for (const std::int64_t request : followed_requests(shape.batch, options.max_requests)) {
    followers.push_back({request, static_cast<int>(followers.size()) % size, {}, {}});
    if (followers.back().owner != rank) continue;
    followers.back().reference.emplace(setup, request);
    if (options.weights != nullptr) followers.back().rounded.emplace(rounding, request);
  }

  engine.rewind(options.first_turn);
  StepRecord record(engine);
  WatchedStep watched(record);
  Verification result;
  std::string failure;
  const auto fail = [&](const std::string& what) {
    if (failure.empty()) failure = what;
  };
  std::vector<std::int32_t> input = tokens_of_all(engine, instance);
  for (std::int64_t step = 0; step < options.steps; ++step) {
    record.clear();
    working_on("verifying");
    engine.step(watched, options.layers);
    engine.settle();
    const std::vector<std::int32_t> output = tokens_of_all(engine, instance);
    std::vector<std::vector<std::int32_t>> routing;
    for (const std::int64_t layer : options.layers) routing.push_back(routing_of(engine, layer, instance));
    const bool compared = step >= options.first_compared_step;
    const std::vector<float> logits = compared ? engine.gather_logits() : std::vector<float>{};

    for (Follower& f : followers) {
      for (std::int64_t j = 0; j < query_tokens; ++j) {
        const std::int64_t row = f.request * query_tokens + j;
        const std::string where = query_tokens == 1
                                      ? fmt::format("request {}, step {}: ", f.request, step)
                                      : fmt::format("request {}, step {}, token {}: ", f.request, step, j);
        std::vector<reference::LayerChoice> choices;
        for (std::size_t i = 0; i < routing.size(); ++i) {
          const auto k = static_cast<std::ptrdiff_t>(routing[i].size()) / rows;
          const auto first = routing[i].begin() + row * k;
          choices.push_back({{first, first + k}, record.selection(options.layers[i], f.request, instance)});
        }
        reference::ReferenceStep expected;
        std::vector<double> allowed;
        if (f.reference) {
          working_on("the reference of verification");
          const std::int32_t token = input[static_cast<std::size_t>(row)];
          expected = f.reference->step(token, choices);
          std::optional<reference::ReferenceStep> rounded;
          if (f.rounded) rounded = f.rounded->step(token, choices);
          allowed = allowances(expected, rounded ? &*rounded : nullptr,
                               verify_tolerance(shape.kv_dtype, shape.context));
          if (!expected.choice_problem.empty()) fail(where + expected.choice_problem);
        }
        if (!compared) continue;
        {
          const ActivityFlag waiting(&Activity::bystander, f.owner != rank);
          broadcast(expected, allowed, model, options.layers.size(), f.owner, instance);
        }
        if (j == 0) record.sum_attention(options.layers, f.request, instance);
        const auto hold = [&](const Difference& difference, double most, const std::string& what) {
          result.rel_error = std::max(result.rel_error, difference.rel_error);
          if (difference.rel_error > most) {
            fail(where +
                 fmt::format("{}: relative error {:.3g} exceeds {:.3g}", what, difference.rel_error, most));
          }
        };
        std::vector<int> holders(expected.block_outputs.size());
        for (std::size_t block = 0; block < holders.size(); ++block) {
          const std::int64_t layer = options.layers[block / 2];
          const bool ffn = block % 2 == 1;
          const std::span<const BF16> produced = record.row(layer, ffn, f.request);
          if (produced.empty()) continue;
          holders[block] = 1;
          const auto width = static_cast<std::size_t>(model.hidden);
          hold(compare(produced.subspan(static_cast<std::size_t>(j) * width, width),
                       expected.block_outputs[block]),
               allowed[block], fmt::format("{} of layer {}", ffn ? "FFN" : "attention", layer));
        }
        HELIX_MPI(MPI_Allreduce(MPI_IN_PLACE, holders.data(), static_cast<int>(holders.size()), MPI_INT,
                                MPI_SUM, instance));
        if (std::ranges::count(holders, 0) > 0) fail(where + "a layer has not been run");
        if (logits.empty()) continue;
        const auto vocab = static_cast<std::size_t>(model.vocab), at = static_cast<std::size_t>(row);
        const std::span<const float> of_row(logits.data() + at * vocab, vocab);
        const Difference difference = compare(of_row, expected.logits);
        result.max_error = std::max(result.max_error, difference.max_error);
        hold(difference, allowed.back(), "logits");
        if (const std::string token = check_token(output[at], of_row, expected, difference.max_error);
            !token.empty()) {
          fail(where + token);
        }
      }
    }
    input = output;
    if (query_tokens == 1) continue;
    const std::vector<std::int64_t> accepted = accepted_of_batch(options.acceptance, shape, step);
    engine.accept(accepted);
    for (Follower& f : followers) {
      const std::int64_t rejected = query_tokens - accepted[static_cast<std::size_t>(f.request)];
      if (f.reference) f.reference->take_back(rejected);
      if (f.rounded) f.rounded->take_back(rejected);
    }
    input = next_input(output, accepted, query_tokens);
    engine.give_tokens(input);
  }
  HELIX_MPI(MPI_Allreduce(MPI_IN_PLACE, &result.rel_error, 1, MPI_DOUBLE, MPI_MAX, instance));
  HELIX_MPI(MPI_Allreduce(MPI_IN_PLACE, &result.max_error, 1, MPI_DOUBLE, MPI_MAX, instance));
  result.failure = agree_on_failure(failure, instance);
  engine.rewind();
  return result;
}

}  // namespace helix
