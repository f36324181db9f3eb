// The engine with real checkpoints, token by token from an empty cache, against what Hugging Face transformers computes
// with them: every architecture, every sharding of the launch.
#include <catch2/catch.hpp>

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

  TextTruth truth(DType weights, DType cache) const {
    return text_truth({.model = model,
                       .layers = all_layers(model),
                       .weight_dtype = weights,
                       .kv_dtype = cache,
                       .weights = &checkpoint},
                      tokens, MPI_COMM_WORLD);
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

/// Holds every legal grid to the truth; returns how many there are.
int check_grids(Rank& rank, const Case& c, const TextTruth& truth, DType weights, DType cache) {
  int checked = 0;
  for (const Sharding& sharding : grids_of(c, weights, cache)) {
    const DecodeShape shape = shape_for(weights, cache, sharding.dp > 1 ? sharding.dp * sharding.pp : 1);
    const std::vector<float> logits =
        rank.decode(legal_instance(c.model, sharding, shape), c.tokens, c.checkpoint);
    ++checked;
    TextAgreement result;
    if (!logits.empty()) result = judge_text(truth, logits, c.model);
    if (result.ok() && !logits.empty() && result.rel_error == 0)
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
    TextTruth truth = c.truth(DType::bf16, DType::bf16);
    truth.exact = c.golden.logits;
    CHECK((check_grids(rank, c, truth, DType::bf16, DType::bf16) > 0 || world_size() > 2));
  }
}

TEST_CASE("checkpoints decode in fp8, weights and cache, as the reference with the same values") {
  Rank rank;
  for (const char* name : {"llama-tied", "deepseek-v3-fp8"}) {
    const Case c(name);
    check_grids(rank, c, c.truth(DType::fp8, DType::fp8), DType::fp8, DType::fp8);
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
  std::vector<float> logits = rank.decode(legal_instance(c.model, legal.front(), shape), other, c.checkpoint);
  if (logits.empty()) return;
  CHECK_FALSE(judge_text(truth, logits, c.model).ok());
  logits.front() = NAN;
  CHECK_FALSE(judge_text(truth, logits, c.model).ok());
}

}  // namespace helix
