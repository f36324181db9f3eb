// The engine with real checkpoints, token by token from an empty cache, against what Hugging Face transformers computes
// with them: every architecture, every sharding of the launch.
#include <algorithm>
#include <catch2/catch.hpp>
#include <map>

#include "hf/golden.hpp"
#include "kernels/checkpoint/checkpoint.hpp"
#include "mpi/grids.hpp"
#include "mpi/rank.hpp"
#include "sweeps/launch/broadcast.hpp"
#include "sweeps/measure/text_agreement.hpp"
#include "test_models.hpp"

namespace helix {
namespace {

struct Case {
  std::string name;
  ModelSpec model;
  Checkpoint checkpoint;
  testing::Golden golden;
  std::vector<std::int32_t> tokens;

  explicit Case(const std::string& case_name)
      : name(case_name),
        model(load_model(testing::golden_folder() / name)),
        checkpoint(testing::golden_folder() / name, model),
        golden(name),
        tokens(golden.tokens.begin(), golden.tokens.end()) {
    model.name = name;
  }

  TextTruth truth(DType weights, DType cache, const TextChoices& choices = {}) const {
    return text_truth({.model = model,
                       .layers = all_layers(model),
                       .weight_dtype = weights,
                       .kv_dtype = cache,
                       .weights = &checkpoint},
                      tokens, choices, MPI_COMM_WORLD);
  }
};

/// One request a DP group, in blocks so short that the owner of new tokens changes again and again.
DecodeShape shape_for(DType weights, DType cache, std::int64_t batch) {
  return {.context = 0, .batch = batch, .tokens_per_block = 4, .weight_dtype = weights, .kv_dtype = cache};
}

/// The grids that decode the whole text.
std::vector<Sharding> grids_of(const Case& c, DType weights, DType cache) {
  DecodeShape whole = shape_for(weights, cache, world_size());
  whole.context = std::ssize(c.tokens);
  return grids(c.model, whole);
}

/// What each choice that was met makes of the text.
using Truths = std::map<TextChoices, TextTruth>;

/// Holds every legal grid to the reference, and where the engine chose as transformers does to what that computed, if
/// `golden`; returns how many there are.
int check_grids(Rank& rank, const Case& c, DType weights, DType cache, bool golden) {
  int checked = 0;
  Truths truths;
  for (const Sharding& sharding : grids_of(c, weights, cache)) {
    const DecodeShape shape = shape_for(weights, cache, sharding.dp > 1 ? sharding.dp * sharding.pp : 1);
    const DecodedText text = rank.decode(legal_instance(c.model, sharding, shape), c.tokens, c.checkpoint);
    ++checked;
    const auto [known, made] = truths.try_emplace(text.choices);
    if (made) {
      known->second = c.truth(weights, cache, text.choices);
      if (golden && known->second.near_ties == 0) known->second.exact = c.golden.logits;
    }
    TextAgreement result;
    if (!text.logits.empty()) result = judge_text(known->second, text.logits);
    if (result.ok() && !text.logits.empty() && result.rel_error == 0)
      result.failure = "bf16 against fp64 cannot agree entirely";
    INFO(describe(legal_instance(c.model, sharding, shape)));
    CHECK(broadcast_text(result.failure, world_size() - 1, MPI_COMM_WORLD) == "");
  }
  return checked;
}

}  // namespace

TEST_CASE("checkpoints of every architecture decode as transformers does, in every sharding") {
  Rank rank;
  for (const std::string& name : testing::golden_cases()) {
    const Case c(name);
    CHECK((check_grids(rank, c, DType::bf16, DType::bf16, true) > 0 || world_size() > 2));
  }
}

TEST_CASE("checkpoints decode in fp8, weights and cache, as the reference with the same values") {
  Rank rank;
  for (const char* name : {"llama-tied", "deepseek-v3-fp8"}) {
    const Case c(name);
    check_grids(rank, c, DType::fp8, DType::fp8, false);
  }
}

TEST_CASE("a text that the engine decodes wrongly does not agree") {
  Rank rank;
  const Case c("qwen3");
  const TextTruth truth = c.truth(DType::bf16, DType::bf16);
  const std::vector<Sharding> legal = grids_of(c, DType::bf16, DType::bf16);
  if (legal.empty()) return;
  const DecodeShape shape = shape_for(DType::bf16, DType::bf16, legal.front().dp * legal.front().pp);
  std::vector<std::int32_t> other = c.tokens;
  other[5] = (other[5] + 1) % static_cast<std::int32_t>(c.model.vocab);
  std::vector<float> logits =
      rank.decode(legal_instance(c.model, legal.front(), shape), other, c.checkpoint).logits;
  if (logits.empty()) return;
  CHECK_FALSE(judge_text(truth, logits).ok());
  logits.front() = NAN;
  CHECK_FALSE(judge_text(truth, logits).ok());
}

TEST_CASE("an expert that rounding cannot have chosen is named, and an error at one position is found") {
  Rank rank;
  const char* const name = GENERATE("qwen3-moe", "deepseek-v3", "gpt-oss");
  const Case c(name);
  CAPTURE(name);
  const std::vector<Sharding> legal = grids_of(c, DType::bf16, DType::bf16);
  if (legal.empty()) return;
  const DecodeShape shape = shape_for(DType::bf16, DType::bf16, legal.front().dp * legal.front().pp);
  const DecodedText text = rank.decode(legal_instance(c.model, legal.front(), shape), c.tokens, c.checkpoint);
  const TextTruth truth = c.truth(DType::bf16, DType::bf16, text.choices);
  CHECK(truth.problem == "");

  // Another expert instead of the best one, at one position in the last layer.
  constexpr std::size_t position = 7;
  TextChoices other = text.choices;
  std::vector<std::int32_t>& experts = other.at(position).back().experts;
  for (std::int32_t e = 0; e < c.model.moe.experts; ++e) {
    if (std::ranges::find(experts, e) != experts.end()) continue;
    experts.front() = e;
    break;
  }
  const TextTruth elsewhere = c.truth(DType::bf16, DType::bf16, other);
  CHECK_THAT(elsewhere.problem, Catch::Matchers::StartsWith(
                                    fmt::format("position {}: layer {}: ", position, c.model.layers - 1)));
  // The same had it not been in the choice: another expert's output at one position alone.
  if (text.logits.empty()) return;
  CHECK(judge_text(truth, text.logits).ok());
  TextTruth unnoticed = elsewhere;
  unnoticed.problem.clear();
  const TextAgreement result = judge_text(unnoticed, text.logits);
  CHECK_THAT(result.failure, Catch::Matchers::Contains(fmt::format("position {}", position)));
}

}  // namespace helix
