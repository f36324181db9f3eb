// Steps that check drafted tokens: every sharding against the fp64 reference, which decodes token by token, and
// against decoding without drafts.
#include <catch2/catch.hpp>
#include <map>

#include "mpi/grids.hpp"
#include "mpi/rank.hpp"
#include "sweeps/measure/acceptance.hpp"

namespace helix {
namespace {

std::vector<ModelSpec> drafted_models(const DecodeShape& shape) {
  std::vector<ModelSpec> models;
  for (const ModelSpec& model : small_models())
    if (why_no_drafts(model, shape).empty()) models.push_back(model);
  std::ranges::copy(drafting_models(), std::back_inserter(models));
  return models;
}

void check_drafts(Rank& rank, const ModelSpec& model, const Sharding& sharding, const DecodeShape& shape,
                  double acceptance = 0) {
  const Instance instance = legal_instance(model, sharding, shape);
  const OwnerChange change = steps_to_owner_change(shape.tokens_per_block, shape.query_tokens());
  const Verification result = rank.verify_instance(instance, {.steps = change.steps,
                                                              .first_turn = change.first_turn,
                                                              .acceptance = acceptance,
                                                              .layers = telling_layers(instance)});
  CAPTURE(describe(instance), shape.draft_tokens, acceptance, result.rel_error, result.failure);
  CHECK(result.ok());
  CHECK(result.rel_error > 0);
}

}  // namespace

TEST_CASE("steps with drafts decode as the reference does token by token, in every grid") {
  Rank rank;
  int checked = 0, turn = 0;
  // Contexts around the borders of blocks, shards that are empty and those that stay so.
  for (const auto& [context, batch, block, drafts] :
       {std::tuple{1, 2, 4, 3}, std::tuple{3, 1, 1, 7}, std::tuple{31, 2, 32, 1}, std::tuple{33, 3, 32, 7},
        std::tuple{16, 5, 4, 1}}) {
    DecodeShape shape{.context = context, .batch = batch, .tokens_per_block = block, .draft_tokens = drafts};
    for (const ModelSpec& model : drafted_models(shape)) {
      ++turn;
      shape.kv_dtype = turn % 2 == 0 ? DType::fp8 : DType::bf16;
      shape.hop_b = turn % 3 == 0 ? 2 : 1;
      for (const Sharding& sharding : grids(model, shape)) {
        if (!every_group_attends(sharding, batch)) continue;
        if (!every_shape() && (checked++ + turn) % (sanitized ? 4 : 2) != 0) continue;
        check_drafts(rank, model, sharding, shape);
      }
    }
  }
}

TEST_CASE("any number of drafts may be accepted, in the mean or always") {
  Rank rank;
  for (const char* name : {"tiny-gqa", "tiny-mla", "tiny-mtp"}) {
    const ModelSpec model = load_model(name);
    const DecodeShape shape{.context = 15, .batch = world_size(), .tokens_per_block = 4, .draft_tokens = 3};
    const Sharding sharding = {.kvp = world_size(),
                               .tpf = model.moe.experts > 0 ? 1 : world_size(),
                               .ep = model.moe.experts > 0 ? world_size() : 1};
    for (const double acceptance : {1.0, 1.5, 2.75, 4.0})
      if (!why_illegal(model, Strategy::helix, sharding, shape))
        check_drafts(rank, model, sharding, shape, acceptance);
  }
}

TEST_CASE("tokens that a step yields in the mean") {
  for (const double acceptance : {1.0, 1.3, 2.5, 8.0}) {
    std::int64_t sum = 0;
    for (std::int64_t step = 0; step < 1000; ++step) {
      const std::int64_t tokens = accepted_tokens(acceptance, 8, step);
      CHECK((tokens >= 1 && tokens <= 8));
      sum += tokens;
    }
    CHECK(std::fabs(static_cast<double>(sum) / 1000 - acceptance) <= 1e-3);
  }
  CHECK(accepted_tokens(0, 3, 2) == 3);
  CHECK(accepted_tokens(0, 3, 3) == 1);
}

namespace {

/// Where both of the best tokens are about as good, any rounding may choose.
bool tells(const std::vector<float>& logits, std::int64_t row, std::int64_t vocab) {
  const std::span<const float> of_row(logits.data() + row * vocab, static_cast<std::size_t>(vocab));
  std::vector<float> best(of_row.begin(), of_row.end());
  std::ranges::partial_sort(best, best.begin() + 2, std::greater<>());
  return best[0] - best[1] > 0.05f;
}

}  // namespace

TEST_CASE("drafts that are accepted where they match leave the greedy tokens as they are") {
  const auto backend = make_cpu_backend(1);
  const int ranks = world_size();
  const ModelSpec model = load_model("tiny-gqa");
  const std::int64_t batch = 2, tokens = 20, drafts = 3, query_tokens = 1 + drafts;
  const Sharding sharding{.kvp = ranks, .tpf = ranks};
  const DecodeShape plain{.context = 21, .batch = batch, .tokens_per_block = 2};
  if (why_illegal(model, Strategy::helix, sharding, plain)) return;
  DecodeShape drafted = plain;
  drafted.draft_tokens = drafts;
  const Groups groups = make_groups(*backend, MPI_COMM_WORLD, sharding);
  WeightStore weights(*backend);
  StepObserver observer;

  // Token by token: greedy[request] begins with the token that is decoded first.
  std::vector<std::vector<std::int32_t>> greedy(batch);
  std::vector<std::vector<bool>> certain(batch);  // of the token behind
  const auto decode_plainly = [&] {
    const Instance instance = legal_instance(model, sharding, plain);
    weights.load(RankPlan(instance, groups.rank()));
    EngineMemory memory;
    DecodeEngine engine(instance, tokens, *backend, groups, weights, memory);
    for (std::int64_t t = 0; t <= tokens; ++t) {
      const std::vector<std::int32_t> now = engine.tokens();
      for (std::int64_t b = 0; b < batch; ++b) greedy[b].push_back(now[b]);
      if (t == tokens) return;
      engine.step(observer);
      const std::vector<float> logits = engine.gather_logits();
      for (std::int64_t b = 0; b < batch; ++b) certain[b].push_back(tells(logits, b, model.vocab));
    }
  };
  decode_plainly();

  const Instance instance = legal_instance(model, sharding, drafted);
  weights.load(RankPlan(instance, groups.rank()));
  EngineMemory memory;
  DecodeEngine engine(instance, tokens, *backend, groups, weights, memory);
  std::vector<std::int64_t> at(batch, 0);
  for (std::int64_t step = 0; *std::ranges::max_element(at) + query_tokens <= tokens; ++step) {
    std::vector<std::int32_t> input;
    for (std::int64_t b = 0; b < batch; ++b)
      for (std::int64_t j = 0; j < query_tokens; ++j) {
        const bool miss = j > 0 && j == 1 + (step + b) % query_tokens;
        const std::int32_t right = greedy[b][at[b] + j];
        input.push_back(miss ? (right + 1) % static_cast<std::int32_t>(model.vocab) : right);
      }
    engine.give_tokens(input);
    engine.step(observer);
    const std::vector<std::int32_t> chosen = engine.tokens();
    std::vector<std::int64_t> accepted;
    for (std::int64_t b = 0; b < batch; ++b) {
      std::int64_t count = 1;
      for (std::int64_t j = 0; j < query_tokens; ++j) {
        if (certain[b][at[b] + j]) CHECK(chosen[b * query_tokens + j] == greedy[b][at[b] + j + 1]);
        if (j == drafts || input[b * query_tokens + j + 1] != greedy[b][at[b] + j + 1]) break;
        ++count;
      }
      accepted.push_back(count);
      at[b] += count;
    }
    engine.accept(accepted);
  }
}

}  // namespace helix
