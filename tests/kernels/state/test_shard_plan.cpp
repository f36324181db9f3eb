#include <catch2/catch.hpp>
#include <map>
#include <set>
#include <tuple>

#include "kernels/ops/backend.hpp"
#include "kernels/state/shard_plan.hpp"
#include "kernels/state/weight_plan.hpp"
#include "roofline/step/decode_ops.hpp"
#include "test_models.hpp"

namespace helix {
namespace {

constexpr std::uint64_t seed = 3;
constexpr DecodeShape any_shape{.context = 100, .batch = 12};

/// Of one stage, legal under any strategy.
std::vector<Sharding> shardings(const ModelSpec& model) {
  std::vector<Sharding> legal;
  for (int n = 1; n <= 12; ++n) {
    for (int dp = 1; dp <= n; ++dp) {
      for (int kvp = 1; dp * kvp <= n; ++kvp) {
        for (int ep = 1; ep <= n; ++ep) {
          for (int tpf = 1; tpf * ep <= n; ++tpf) {
            const Sharding s{.kvp = kvp, .tpa = n / (dp * kvp), .tpf = tpf, .ep = ep, .dp = dp};
            if (s.stage_ranks() != n) continue;
            const auto runs_as = [&](Strategy strategy) {
              return !why_illegal(model, strategy, s, any_shape);
            };
            if (runs_as(Strategy::helix) || runs_as(Strategy::tp) || runs_as(Strategy::medha) ||
                runs_as(Strategy::dp_ep)) {
              legal.push_back(s);
            }
          }
        }
      }
    }
  }
  return legal;
}

double planned_bytes(const LayerPlan& plan) {
  double bytes = 0;
  for (const MatrixPlan& matrix : plan) {
    if (!matrix.empty())
      bytes +=
          2.0 * static_cast<double>(matrix.n() * matrix.k()) * static_cast<double>(matrix.matrices.size());
  }
  return bytes;
}

double predicted_bytes(const std::vector<Op>& ops) {
  double bytes = 0;
  for (const Op& op : ops) {
    const bool norm_gain = std::holds_alternative<ElementwiseShape>(op.shape);
    if (!norm_gain) bytes += op.bytes.weights * op.count;
  }
  return bytes;
}

}  // namespace

TEST_CASE("shards cover every weight: each element on some rank, owned parts on exactly one of each group") {
  // What a KVP peer or a duplicated KV head repeats is repeated on purpose; the rest must be disjoint.
  const std::set<Weight> repeated{Weight::qkv,  Weight::q,    Weight::q_a,   Weight::q_b,
                                  Weight::kv_a, Weight::w_uk, Weight::router};
  for (const ModelSpec& model : small_models()) {
    const std::int64_t layer = model.layers - 1;
    for (const Sharding& s : shardings(model)) {
      std::map<std::uint64_t, std::int64_t> owned_elements;  // by tensor key, of weights held once
      std::map<std::uint64_t, std::set<std::pair<std::int64_t, std::int64_t>>>
          cells;  // 64-wide row, column blocks
      const Instance instance = legal_instance(model, s, any_shape, model.layers, seed);
      for (int rank = 0; rank < s.ranks(); ++rank) {
        const LayerPlan plan = plan_layer(RankPlan(instance, rank), layer);
        for (std::size_t w = 0; w < weight_kinds; ++w) {
          for (const auto& stacked : plan[w].matrices) {
            for (const WeightSlice& slice : stacked) {
              CHECK(slice.cols == plan[w].k());
              if (!repeated.contains(static_cast<Weight>(w)))
                owned_elements[slice.key] += slice.rows * slice.cols;
              for (std::int64_t r = slice.row0; r < slice.row0 + slice.rows; ++r)
                cells[slice.key].insert({r, slice.col0});
            }
          }
        }
      }
      std::vector<Tensor> tensors{Tensor::o};
      const bool moe = model.layer_kind(layer).moe();
      if (!moe) tensors.insert(tensors.end(), {Tensor::gate, Tensor::up, Tensor::down});
      if (moe && model.moe.shared_ffn > 0)
        tensors.insert(tensors.end(), {Tensor::shared_gate, Tensor::shared_up, Tensor::shared_down});
      for (Tensor t : tensors) {
        const WeightSlice whole = whole_tensor(model, seed, t, layer);
        CAPTURE(model.name, s.dp, s.kvp, s.tpa, s.tpf, s.ep, static_cast<int>(t));
        // DP groups each have attention's weights; ranks that attend whole requests the shared experts, too.
        const bool shared = t == Tensor::shared_gate || t == Tensor::shared_up || t == Tensor::shared_down;
        const int copies = t == Tensor::o || (shared && attends_whole_requests(s)) ? s.dp : 1;
        CHECK(owned_elements[whole.key] == copies * whole.rows * whole.cols);
      }
      for (std::int64_t e = 0; moe && e < model.moe.experts; ++e) {
        for (Tensor t : {Tensor::expert_gate, Tensor::expert_up, Tensor::expert_down}) {
          const WeightSlice whole = whole_tensor(model, seed, t, layer, e);
          CHECK(owned_elements[whole.key] == whole.rows * whole.cols);
        }
      }
      if (model.attention.kind == AttentionKind::gqa) {
        for (Tensor t : {Tensor::q, Tensor::k, Tensor::v}) {
          const WeightSlice whole = whole_tensor(model, seed, t, layer);
          CHECK(cells[whole.key].size() == static_cast<std::size_t>(whole.rows));
        }
      }
    }
  }
}

TEST_CASE("ranks without an FFN hold none of it") {
  const ModelSpec model = load_model("tiny-mla-lite");
  const Sharding medha{.kvp = 2, .tpa = 1, .tpf = 1};
  for (std::int64_t layer = 0; layer < model.layers; ++layer) {
    const auto plan_of = [&](int rank) {
      return plan_layer(RankPlan(legal_instance(model, medha, any_shape), rank), layer);
    };
    for (std::size_t w = static_cast<std::size_t>(Weight::gate_up); w < weight_kinds; ++w) {
      CHECK(plan_of(1)[w].empty());
    }
    CHECK_FALSE(plan_of(1)[static_cast<std::size_t>(Weight::o)].empty());
    const Weight down = model.layer_kind(layer).moe() ? Weight::expert_down : Weight::down;
    CHECK_FALSE(plan_of(0)[static_cast<std::size_t>(down)].empty());
  }
}

TEST_CASE("the model's weight bytes are those of the busiest rank's plan") {
  for (const ModelSpec& model : small_models()) {
    // So many tokens that every expert is active: then a step reads all that a rank holds.
    const DecodeShape shape{.context = 64, .batch = 100000};
    for (const Sharding& s : shardings(model)) {
      const Instance instance = legal_instance(model, s, shape);
      for (std::int64_t layer : {std::int64_t{0}, model.layers - 1}) {
        double busiest = 0;
        for (int rank = 0; rank < s.ranks(); ++rank) {
          busiest = std::max(busiest, planned_bytes(plan_layer(RankPlan(instance, rank), layer)));
        }
        const LayerKind kind = model.layer_kind(layer);
        const double predicted = predicted_bytes(attention_ops({model, s, shape}, kind)) +
                                 predicted_bytes(ffn_ops({model, s, shape}, kind));
        CAPTURE(model.name, s.kvp, s.tpa, s.tpf, s.ep, layer);
        CHECK(predicted == Approx(busiest).epsilon(1e-6));
      }
    }
  }
}

TEST_CASE("the model's KV bytes are those of the pages that the busiest rank allocates and reads") {
  const auto backend = make_cpu_backend(1);
  for (const ModelSpec& model : small_models()) {
    for (const DType dtype : {DType::bf16, DType::fp8}) {
      for (const Sharding& s : shardings(model)) {
        const DecodeShape shape{.context = 4096, .batch = 12, .tokens_per_block = 32, .kv_dtype = dtype};
        double predicted = 0;
        for (const Op& op : attention_ops({model, s, shape}, {})) {
          if (std::holds_alternative<AttentionShape>(op.shape)) predicted += op.bytes.kv * op.count;
        }
        const AttentionSpec& a = model.attention;
        const bool mla = a.kind == AttentionKind::mla;
        const KvShape kv{.kind = a.kind,
                         .kv_heads = cached_kv_heads(model, s, rank_coords(s, 0)).size(),
                         .head_dim = mla ? a.kv_lora_rank + a.qk_rope_head_dim : a.qk_head_dim,
                         .v_dim = mla ? a.kv_lora_rank : a.v_head_dim,
                         .tokens_per_page = shape.tokens_per_block,
                         .dtype = dtype};
        const Range history = history_tokens(shape.context, shape.tokens_per_block, s.kvp, 0);
        const std::int64_t attended = (shape.batch + s.dp - 1) / s.dp;
        const std::int64_t pages = attended * ((history.size() + 31) / 32);
        const double allocated = static_cast<double>(pages) * static_cast<double>(backend->kv_page_bytes(kv));
        // Of what is allocated, sparse attention reads the rank's share of the chosen tokens.
        const std::int64_t chosen = (a.indexer.top_k + s.kvp - 1) / s.kvp;
        const double part = a.indexer.heads == 0 ? 1 : real(chosen) / real(history.size());
        CAPTURE(model.name, s.kvp, s.tpa, static_cast<int>(dtype));
        CHECK(predicted == Approx(part * allocated).epsilon(1e-9));
      }
    }
  }
}

}  // namespace helix
