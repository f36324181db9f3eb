// Greedy speculation as an engine is deployed with it: drafts are checked, the matching ones are accepted, the others
// leave the cache. Its tokens are those of plain greedy decoding.
#include <algorithm>
#include <catch2/catch.hpp>

#include "mpi/grids.hpp"
#include "mpi/rank.hpp"
#include "roofline/step/draft_ops.hpp"
#include "sweeps/measure/step_record.hpp"

namespace helix {
namespace {

constexpr std::int64_t few_tokens = 12;  // of a vocabulary in which guesses and drafts often match

/// What plain decoding gives each request: token 0 is decoded first. Behind each token:
struct GreedyText {
  std::vector<std::vector<std::int32_t>> tokens;
  std::vector<std::vector<bool>> certain;  // of the choice: by more than rounding
  std::vector<std::vector<std::vector<std::int32_t>>> experts;
};

/// Experts that each row of the last step went to, in all layers.
std::vector<std::vector<std::int32_t>> experts_of(const DecodeEngine& engine, std::int64_t rows) {
  std::vector<std::vector<std::int32_t>> of_row(static_cast<std::size_t>(rows));
  const ModelSpec& model = engine.instance().model();
  for (const std::int64_t layer : all_layers(model)) {
    if (!model.layer_kind(layer).moe()) continue;
    const std::vector<std::int32_t> ids = routing_of(engine, layer, MPI_COMM_WORLD);
    for (std::size_t row = 0; row < of_row.size(); ++row) {
      std::vector<std::int32_t>& all = of_row[row];
      const auto from = ids.begin() + static_cast<std::ptrdiff_t>(row) * model.moe.top_k;
      all.insert(all.end(), from, from + model.moe.top_k);
      std::sort(all.end() - model.moe.top_k, all.end());
    }
  }
  return of_row;
}

bool leads(std::span<const float> logits) {
  std::vector<float> best(logits.begin(), logits.end());
  std::ranges::partial_sort(best, best.begin() + 2, std::greater<>());
  return best[0] - best[1] > 0.05f;
}

class Speculation {
 public:
  Speculation(Backend& backend, const ModelSpec& model, const Sharding& sharding, const DecodeShape& shape)
      : backend_(backend),
        model_(model),
        sharding_(sharding),
        shape_(shape),
        groups_(make_groups(backend, MPI_COMM_WORLD, sharding)),
        weights_(backend) {}

  GreedyText decode(std::int64_t tokens) {
    DecodeShape plain = shape_;
    plain.draft_tokens = 0;
    const Instance instance = legal_instance(model_, sharding_, plain);
    weights_.load(RankPlan(instance, groups_.rank()));
    DecodeEngine engine(instance, tokens, backend_, groups_, weights_, memory_);
    GreedyText text;
    text.tokens.resize(requests());
    text.certain.resize(requests());
    text.experts.resize(requests());
    for (std::int64_t t = 0; t <= tokens; ++t) {
      const std::vector<std::int32_t> now = everywhere(engine.tokens());
      for (std::size_t b = 0; b < requests(); ++b) text.tokens[b].push_back(now[b]);
      if (t == tokens) return text;
      engine.step(observer_);
      engine.settle();
      std::vector<float> logits = engine.gather_logits();
      logits.resize(requests() * static_cast<std::size_t>(model_.vocab));
      MPI_Bcast(logits.data(), static_cast<int>(logits.size()), MPI_FLOAT, world_size() - 1, MPI_COMM_WORLD);
      const auto experts = experts_of(engine, shape_.batch);
      for (std::size_t b = 0; b < requests(); ++b) {
        text.certain[b].push_back(leads(std::span(logits).subspan(b * few_tokens, few_tokens)));
        text.experts[b].push_back(experts[b]);
      }
    }
    return text;
  }

  struct Outcome {
    std::int64_t compared = 0, accepted = 0;  // tokens; drafts
    bool same = true;
  };
  /// Speculates until each request has so many tokens, and compares them as far as rounding has no say in them.
  Outcome speculate(const GreedyText& greedy, std::int64_t tokens) {
    const auto query_tokens = static_cast<std::size_t>(shape_.query_tokens());
    const Instance instance = legal_instance(model_, sharding_, shape_);
    weights_.load(RankPlan(instance, groups_.rank()));
    DecodeEngine engine(instance, tokens, backend_, groups_, weights_, memory_);
    std::vector<std::vector<std::int32_t>> said(requests());
    std::vector<bool> compared(requests(), true);
    std::vector<std::int32_t> next(requests() * query_tokens);
    for (std::size_t b = 0; b < requests(); ++b) said[b] = {next[b * query_tokens] = greedy.tokens[b][0]};
    if (engine.drafts()) engine.give_tokens(next);  // the first draft follows on row 0 of each request
    Outcome outcome;
    for (int step = 0; std::ranges::any_of(said, [&](const auto& s) { return std::ssize(s) <= tokens; });
         ++step) {
      if (!engine.drafts()) {
        for (std::size_t b = 0; b < requests(); ++b) {
          next[b * query_tokens] = said[b].back();
          for (std::size_t j = 1; j < query_tokens; ++j) next[b * query_tokens + j] = guess(said[b], step, j);
        }
        engine.give_tokens(next);
      }
      if (engine.steps_done() == engine.steps_before_rewind()) return outcome;
      engine.step(observer_);
      engine.settle();
      const std::vector<std::int32_t> chosen = everywhere(engine.tokens());
      const std::vector<std::int32_t> checked = engine.drafts() ? engine.checked_tokens() : next;
      const auto experts = experts_of(engine, std::ssize(chosen));
      std::vector<std::int64_t> accepted;
      for (std::size_t b = 0; b < requests(); ++b) {
        const std::size_t first = b * query_tokens;
        CHECK(checked[first] == said[b].back());
        std::size_t count = 1;
        while (count < query_tokens && checked[first + count] == chosen[first + count - 1]) ++count;
        for (std::size_t j = 0; j < count; ++j) {
          const std::size_t at = said[b].size() - 1;
          said[b].push_back(chosen[first + j]);
          if (at >= greedy.certain[b].size() || !compared[b]) continue;
          const bool same = said[b].back() == greedy.tokens[b][at + 1];
          // The texts part where tokens or experts are about as good as others.
          const bool parts = !same && !greedy.certain[b][at];
          if (parts || experts[first + j] != greedy.experts[b][at]) compared[b] = false;
          if (!compared[b]) continue;
          outcome.same = outcome.same && same;
          ++outcome.compared;
        }
        outcome.accepted += static_cast<std::int64_t>(count) - 1;
        accepted.push_back(static_cast<std::int64_t>(count));
      }
      engine.accept(accepted);
    }
    return outcome;
  }

 private:
  std::size_t requests() const { return static_cast<std::size_t>(shape_.batch); }
  /// Anything, now and then what was said before.
  static std::int32_t guess(const std::vector<std::int32_t>& said, int step, std::size_t j) {
    const std::size_t noise = said.size() * 7 + static_cast<std::size_t>(step) * 5 + j * 3;
    return noise % 3 == 0 ? said[noise % said.size()] : static_cast<std::int32_t>(noise % few_tokens);
  }
  /// Rank 0's, which is one of the first stage.
  static std::vector<std::int32_t> everywhere(std::vector<std::int32_t> tokens) {
    MPI_Bcast(tokens.data(), static_cast<int>(tokens.size()), MPI_INT32_T, 0, MPI_COMM_WORLD);
    return tokens;
  }

  Backend& backend_;
  const ModelSpec& model_;
  Sharding sharding_;
  DecodeShape shape_;
  Groups groups_;
  WeightStore weights_;
  EngineMemory memory_;
  StepObserver observer_;
};

ModelSpec with_few_tokens(ModelSpec model) {
  model.vocab = few_tokens;
  return model;
}

}  // namespace

TEST_CASE("greedy speculation says what greedy decoding says, with guesses and with the model's own drafts") {
  const auto backend = make_cpu_backend(1);
  std::int64_t guesses = 0, drafts = 0, compared = 0;
  int found = 0, run = 0;
  // Contexts around the borders of blocks; texts that pass several of them.
  for (const auto& [context, block, tokens] :
       {std::tuple{1, 1, 1}, std::tuple{5, 1, 7}, std::tuple{3, 4, 3}, std::tuple{4, 4, 7},
        std::tuple{5, 4, 1}, std::tuple{31, 32, 7}, std::tuple{32, 32, 1}, std::tuple{33, 32, 3}}) {
    for (const ModelSpec& model :
         {with_few_tokens(divisible(load_model("tiny-gqa"), 4)), with_few_tokens(drafting_models()[0]),
          with_few_tokens(drafting_models()[1])}) {
      const DecodeShape shape{
          .context = context, .batch = world_size(), .tokens_per_block = block, .draft_tokens = tokens};
      for (const Sharding& sharding : grids(model, shape)) {
        if (!every_group_attends(sharding, shape.batch)) continue;
        if (!every_shape() && found++ % (sanitized ? 6 : 4) != 0) continue;
        ++run;
        CAPTURE(model.name, context, block, tokens, sharding.dp, sharding.kvp, sharding.tpa, sharding.tpf,
                sharding.ep, sharding.pp);
        Speculation speculation(*backend, model, sharding, shape);
        const GreedyText greedy = speculation.decode(12);
        const Speculation::Outcome outcome = speculation.speculate(greedy, 12);
        CHECK(outcome.same);
        compared += outcome.compared;
        (runs_drafts({model, sharding, shape}) ? drafts : guesses) += outcome.accepted;
      }
    }
  }
  CHECK(compared > 4 * run);
  CHECK(guesses > 0);
  CHECK(drafts > 0);
}

}  // namespace helix
