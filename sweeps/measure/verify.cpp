#include "sweeps/measure/verify.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>
#include <vector>

#include "kernels/comm/mpi_check.hpp"
#include "kernels/reference/reference_model.hpp"
#include "kernels/state/weight_plan.hpp"
#include "sweeps/launch/activity.hpp"
#include "sweeps/measure/acceptance.hpp"
#include "sweeps/measure/draft_check.hpp"
#include "sweeps/measure/step_comparison.hpp"
#include "sweeps/measure/step_record.hpp"

namespace helix {
namespace {

/// First and last of the batch and others between them, at most `count`.
std::vector<std::int64_t> followed_requests(std::int64_t batch, std::int64_t count) {
  count = std::min(count, batch);
  std::vector<std::int64_t> requests;
  for (std::int64_t i = 0; i < count; ++i) requests.push_back(count == 1 ? 0 : i * (batch - 1) / (count - 1));
  return requests;
}

/// Whether what rounding costs is measured: synthetic weights are benign, but not in a narrow cache of which much was
/// decoded, by rows that differ from the reference's.
bool measures_rounding(const VerifyOptions& options, const DecodeShape& shape) {
  const std::int64_t decoded = options.steps * shape.query_tokens();
  return options.weights != nullptr ||
         (shape.draft_tokens > 0 && shape.kv_dtype != DType::bf16 && shape.context < decoded);
}

/// The tokens of a settled engine on every rank: rank 0 is one of the first stage, which has them.
std::vector<std::int32_t> tokens_of_all(const DecodeEngine& engine, MPI_Comm instance) {
  std::vector<std::int32_t> tokens = engine.tokens();
  HELIX_MPI(MPI_Bcast(tokens.data(), static_cast<int>(tokens.size()), MPI_INT32_T, 0, instance));
  return tokens;
}

}  // namespace

OwnerChange steps_to_owner_change(int tokens_per_block, std::int64_t query_tokens, double step_work) {
  if (query_tokens > 1) {
    constexpr std::int64_t steps = 4;  // across the border of blocks, and once more behind rejected tokens
    return {.steps = steps, .first_turn = std::max(0, tokens_per_block - 2), .first_compared = 0};
  }
  constexpr double most_steps = 33;  // the default block's; more would take minutes and show no more
  constexpr double least_steps = 2;
  const std::int64_t all = std::int64_t{tokens_per_block} + 1;
  const double affordable =
      step_work > 0 ? std::clamp(most_reference_work / step_work, least_steps, most_steps) : most_steps;
  const std::int64_t steps = std::min(all, static_cast<std::int64_t>(affordable));
  return {.steps = steps, .first_turn = all - steps, .first_compared = steps - 2};
}

std::int64_t requests_to_follow(double work_of_request, int ranks) {
  return ranks > 1 || 2 * work_of_request <= most_reference_work ? 2 : 1;
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
                                        .weights = options.weights,
                                        .synthetic = options.synthetic,
                                        .threads = options.threads};
  reference::ReferenceSetup rounding = setup;
  rounding.round_as_engine = true;
  for (const std::int64_t request : followed_requests(shape.batch, options.max_requests)) {
    followers.push_back({request, static_cast<int>(followers.size()) % size, {}, {}});
    if (followers.back().owner != rank) continue;
    followers.back().reference.emplace(setup, request);
    if (measures_rounding(options, shape)) followers.back().rounded.emplace(rounding, request);
  }

  engine.rewind(options.first_turn);
  StepRecord record(engine);
  WatchedStep watched(record);
  StepComparison comparison(model, verify_tolerance(shape.kv_dtype, shape.context), instance);
  std::vector<std::int32_t> input = tokens_of_all(engine, instance);
  std::vector<std::int64_t> accepted(static_cast<std::size_t>(shape.batch), 1);
  for (std::int64_t step = 0; step < options.steps; ++step) {
    record.clear();
    working_on("verifying");
    engine.step(watched, options.layers);
    engine.settle();
    const std::vector<std::int32_t> output = tokens_of_all(engine, instance);
    const std::vector<std::int32_t> checked = engine.drafts() ? engine.checked_tokens() : input;
    std::vector<std::vector<std::int32_t>> routing;
    for (const std::int64_t layer : options.layers) routing.push_back(routing_of(engine, layer, instance));
    const bool compared = step >= options.first_compared_step;
    const std::vector<float> logits = compared ? engine.gather_logits() : std::vector<float>{};

    std::optional<DraftCheck> drafts;
    if (engine.drafts()) drafts.emplace(engine, record, checked, instance);

    for (Follower& f : followers) {
      if (drafts) {
        const auto chosen =
            std::span(input).subspan(static_cast<std::size_t>(f.request * query_tokens),
                                     static_cast<std::size_t>(accepted[static_cast<std::size_t>(f.request)]));
        drafts->compare(step, f, chosen, comparison);
      }
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
        const std::int32_t token = checked[static_cast<std::size_t>(row)];
        working_on("the reference of verification");
        ExpectedStep expected;
        if (f.reference) expected.exact = f.reference->step(token, choices);
        if (f.rounded) expected.rounded = f.rounded->step(token, choices);
        if (!compared) {
          comparison.check_choices(where, expected);
          continue;
        }
        if (j == 0) record.sum_attention(options.layers, f.request, instance);
        ProducedStep produced;
        const auto width = static_cast<std::size_t>(model.hidden), at = static_cast<std::size_t>(row);
        for (const std::int64_t layer : options.layers) {
          for (const bool ffn : {false, true}) {
            const std::span<const BF16> rows_of = record.row(layer, ffn, f.request);
            produced.blocks.push_back(
                {fmt::format("{} of layer {}", ffn ? "FFN" : "attention", layer),
                 rows_of.empty() ? rows_of : rows_of.subspan(static_cast<std::size_t>(j) * width, width)});
          }
        }
        const auto vocab = static_cast<std::size_t>(model.vocab);
        if (!logits.empty()) produced.logits = std::span(logits).subspan(at * vocab, vocab);
        produced.token = output[at];
        comparison.compare(where, produced, expected, f.owner);
      }
    }
    input = output;
    if (query_tokens == 1) continue;
    accepted = accepted_of_batch(options.acceptance, shape, step);
    engine.accept(accepted);
    for (Follower& f : followers) f.take_back(query_tokens - accepted[static_cast<std::size_t>(f.request)]);
    if (engine.drafts()) continue;
    input = next_input(output, accepted, query_tokens);
    engine.give_tokens(input);
  }
  const Verification result = comparison.result();
  engine.rewind();
  return result;
}

}  // namespace helix
