// The engine and the model tell one step: the ops that the engine issues, their bytes and the messages of its ranks
// against the model's list, for every strategy and kind of model.
#include <fmt/format.h>

#include <catch2/catch.hpp>
#include <map>
#include <string>
#include <vector>

#include "kernels/engine/decode_engine.hpp"
#include "recording_backend.hpp"
#include "roofline/step/draft_ops.hpp"
#include "test_models.hpp"

namespace helix::testing {
namespace {

/// The engine's op of an elementwise op of the model.
std::string engine_op(std::string_view name) {
  static const std::map<std::string_view, std::string> ops{{"embedding", "embed"},
                                                           {"attention norm", "norm"},
                                                           {"ffn norm", "norm"},
                                                           {"final norm", "norm"},
                                                           {"q and k norm", "norm of heads"},
                                                           {"q and k layer norm", "layer norm"},
                                                           {"sum of blocks", "add"},
                                                           {"q and k square sums", "square sums"},
                                                           {"qkv bias", "bias"},
                                                           {"query growth", "query growth"},
                                                           {"output bias", "bias"},
                                                           {"attention output norm", "norm of heads"},
                                                           {"ffn output norm", "norm of heads"},
                                                           {"ffn bias", "bias"},
                                                           {"shared expert scale", "gate"},
                                                           {"q_a norm", "norm of heads"},
                                                           {"kv_a norm", "norm of heads"},
                                                           {"rope", "rope"},
                                                           {"kv append", "append"},
                                                           {"index key norm", "layer norm"},
                                                           {"index rope", "rope"},
                                                           {"index key append", "append"},
                                                           {"index choice", "choose"},
                                                           {"gather chosen", "gather"},
                                                           {"pack", "pack"},
                                                           {"merge", "merge"},
                                                           {"attention sinks", "sinks"},
                                                           {"swiglu", "gated"},
                                                           {"shared swiglu", "gated"},
                                                           {"top-k", "route"},
                                                           {"draft input", "copy"},
                                                           {"accepted rows", "copy"},
                                                           {"draft norms", "norm of heads"},
                                                           {"draft output norm", "norm"},
                                                           {"argmax", "argmax"}};
  const auto found = ops.find(name);
  return found == ops.end() ? fmt::format("unknown to this test: {}", name) : found->second;
}

Noted noted(const Op& op) {
  const double bytes = op.bytes.total();
  Noted n;
  if (const auto* product = std::get_if<GemmShape>(&op.shape)) {
    n = gemm(product->m, product->n, product->k, product->matrices, bytes);
  } else if (const auto* a = std::get_if<AttentionShape>(&op.shape)) {
    const KvShape cache{.kind = a->kind, .kv_heads = a->kv_heads, .head_dim = a->head_dim, .v_dim = a->v_dim};
    n = attention_of(cache, a->batch, a->q_heads, a->picked > 0 ? a->picked : a->tokens, op.bytes.kv);
  } else if (const auto* index = std::get_if<IndexerShape>(&op.shape)) {
    n = index_of(index->batch, index->heads, index->head_dim, index->keys, bytes);
  } else if (const auto* moe = std::get_if<MoeShape>(&op.shape)) {
    n = experts_of(moe->tokens, moe->hidden, moe->ffn, moe->local_experts, moe->top_k,
                   op.bytes.weights / moe->active_experts);
  } else if (const auto* collective = std::get_if<CollectiveShape>(&op.shape)) {
    n = message(collective->op, collective->group, collective->payload_bytes);
  } else {
    n = elementwise(engine_op(op.name), bytes);
  }
  n.times = op.count;
  n.bytes *= op.count;
  n.phase = op.phase;
  return n;
}

/// One line for each kind of op or message in the order of their first.
std::vector<std::string> lines(const std::vector<Noted>& notes) {
  std::vector<Noted> kinds;
  for (const Noted& n : notes) {
    const auto same = [&](const Noted& other) { return other.what == n.what && other.phase == n.phase; };
    const auto found = std::ranges::find_if(kinds, same);
    if (found == kinds.end()) {
      kinds.push_back(n);
    } else {
      found->bytes += n.bytes;
      found->times += n.times;
    }
  }
  std::vector<std::string> text;
  for (const Noted& n : kinds) {
    const std::string times = n.shapeless ? "" : fmt::format(", {:g} times", n.times);
    text.push_back(fmt::format("{}: {}, {:.2f} bytes{}", phase_names[static_cast<std::size_t>(n.phase)],
                               n.what, n.bytes, times));
  }
  return text;
}

/// As the engine does it, which gathers tokens instead of sending each to its experts.
std::vector<Noted> of_model(const std::vector<Op>& ops) {
  std::vector<Noted> notes;
  for (const Op& op : ops) {
    if (op.way != Way::sends) notes.push_back(noted(op));
  }
  return notes;
}

/// What a rank does in a step: for each micro-batch its layers, what is before and what is behind them.
class StepRecorder final : public StepObserver {
 public:
  explicit StepRecorder(Notes& notes) : notes_(notes) {}
  void phase_done(Phase phase) override { notes_.phase_done(phase); }
  void layers_begin() override { between.push_back(notes_.take()); }
  void layer_done(std::int64_t) override { layers.push_back(notes_.take()); }
  void step_end() override { between.push_back(notes_.take()); }

  std::vector<std::vector<Noted>> layers;   // micro-batch by micro-batch
  std::vector<std::vector<Noted>> between;  // before the layers of each micro-batch, and behind the last

 private:
  Notes& notes_;
};

StepRecorder record_step(const Instance& instance, int rank) {
  static Notes notes;
  RecordingBackend backend(notes);
  const Groups groups = counting_groups(notes, instance.sharding(), rank);
  WeightStore weights(backend);
  EngineMemory memory;
  weights.load(RankPlan(instance, rank));
  DecodeEngine engine(instance, 1, backend, groups, weights, memory);
  notes = {};
  StepRecorder recorder(notes);
  engine.step(recorder);
  CHECK(static_cast<const CountingCommunicator&>(*groups.kvp).all_finished());
  return recorder;
}

struct Case {
  Strategy strategy;
  Sharding sharding;
};

/// Of every strategy all grids of at most so many ranks that cut the batch evenly.
std::vector<Case> cases(const ModelSpec& model, const DecodeShape& shape, int most_ranks) {
  std::vector<Case> found;
  for (const StrategyTraits& row : strategies()) {
    for (int n = 1; n <= most_ranks; ++n) {
      for (int pp = 1; pp <= n; ++pp) {
        for (int dp = 1; pp * dp <= n; ++dp) {
          for (int kvp = 1; pp * dp * kvp <= n; ++kvp) {
            for (int ep = 1; ep <= n; ++ep) {
              for (int tpf = 1; tpf * ep <= n; ++tpf) {
                const Sharding s{
                    .kvp = kvp, .tpa = n / (pp * dp * kvp), .tpf = tpf, .ep = ep, .pp = pp, .dp = dp};
                if (s.ranks() != n || shape.batch % (pp * dp * shape.hop_b) != 0) continue;
                if (!why_illegal(model, row.strategy, s, shape)) found.push_back({row.strategy, s});
              }
            }
          }
        }
      }
    }
  }
  return found;
}

void check_step(const Instance& instance) {
  const ModelSpec& model = instance.model();
  const Sharding& s = instance.sharding();
  CAPTURE(model.name, name(instance.strategy()), s.kvp, s.tpa, s.tpf, s.ep, s.pp, s.dp,
          instance.shape().hop_b, instance.shape().draft_tokens);
  std::vector<Noted> first, last, handed_over;
  if (runs_drafts({model, s, instance.shape()})) {
    for (const auto& [layout, run, times] : draft_runs({model, s, instance.shape()})) {
      for (const std::vector<Op>& ops :
           {draft_input_ops({model, layout, run}), layer_ops({model, layout, run}, draft_layer(model)),
            draft_head_ops({model, layout, run})}) {
        for (Noted& n : of_model(ops)) {
          n.bytes *= times;
          n.times *= times;
          first.push_back(std::move(n));
        }
      }
    }
  }
  for (const Op& op : head_ops({model, s, instance.shape()})) {
    Noted n = noted(op);
    n.bytes /= op.count;
    n.times = 1;
    const auto* collective = std::get_if<CollectiveShape>(&op.shape);
    const bool send = collective != nullptr && collective->op == Collective::send;
    (send ? handed_over : op.name.starts_with("embedding") ? first : last).push_back(std::move(n));
  }
  for (int stage = 0; stage < s.pp; ++stage) {
    CAPTURE(stage);
    const RankPlan busiest(instance, stage * s.stage_ranks());
    const StepRecorder step = record_step(instance, stage * s.stage_ranks());
    const auto passes = busiest.micro_batches().size();
    REQUIRE(step.layers.size() == passes * static_cast<std::size_t>(busiest.layers().size()));
    for (std::size_t i = 0; i < step.layers.size(); ++i) {
      const std::int64_t layer =
          busiest.layers().begin + static_cast<std::int64_t>(i) % busiest.layers().size();
      CAPTURE(layer);
      CHECK(lines(step.layers[i]) ==
            lines(of_model(layer_ops({model, s, instance.shape()}, model.layer_kind(layer)))));
    }
    REQUIRE(step.between.size() == passes + 1);
    for (std::size_t i = 0; i <= passes; ++i) {
      CAPTURE(i);
      std::vector<Noted> expected;
      const auto append = [&](const std::vector<Noted>& notes) {
        expected.insert(expected.end(), notes.begin(), notes.end());
      };
      if (i > 0 && busiest.last_stage()) append(last);
      if (i > 0 && s.pp > 1) {
        // The tokens that go back are few bytes, which the model prices as one more hand-over.
        const std::int64_t rows = busiest.micro_batches()[i - 1].rows().size();
        append(busiest.last_stage()
                   ? std::vector{message(Collective::send, 2, 4.0 * static_cast<double>(rows))}
                   : handed_over);
      }
      if (i < passes && busiest.first_stage()) append(first);
      CHECK(lines(step.between[i]) == lines(expected));
    }
  }
}

}  // namespace

TEST_CASE("the engine issues the ops, bytes and messages of the model's list, for every strategy and model") {
  std::map<Strategy, int> checked;
  int drafted = 0;
  std::vector<ModelSpec> models = small_models();
  std::ranges::copy(drafting_models(), std::back_inserter(models));
  models.push_back(with_query_growth(divisible(load_model("tiny-mla-lite"), 1)));
  for (ModelSpec& model : models) {
    for (const auto& [hop_b, drafts, weights, kv] :
         {std::tuple{1, 0, DType::bf16, DType::bf16}, std::tuple{2, 0, DType::fp8, DType::fp8},
          std::tuple{1, 3, DType::fp8, DType::bf16}, std::tuple{2, 1, DType::bf16, DType::fp8}}) {
      const DecodeShape shape{.context = 1000,
                              .batch = 24,
                              .tokens_per_block = 32,
                              .hop_b = hop_b,
                              .weight_dtype = weights,
                              .kv_dtype = kv,
                              .draft_tokens = drafts};
      if (!why_no_drafts(model, shape).empty()) continue;
      for (const auto& [strategy, sharding] : cases(model, shape, 6)) {
        const auto made = Instance::make({.model = model,
                                          .strategy = strategy,
                                          .sharding = sharding,
                                          .shape = shape,
                                          .layers = model.layers,
                                          .seed = 5});
        check_step(std::get<Instance>(made));
        drafted += runs_drafts({model, sharding, shape}) ? 1 : 0;
        ++checked[strategy];
      }
    }
  }
  CHECK(drafted > 20);
  for (const StrategyTraits& row : strategies()) {
    CAPTURE(row.name);
    CHECK(checked[row.strategy] >= 4);
  }
}

}  // namespace helix::testing
