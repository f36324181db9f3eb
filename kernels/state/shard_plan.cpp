#include "kernels/state/shard_plan.hpp"

#include "kernels/state/weight_plan.hpp"

namespace helix {
namespace {

WeightSlice rows_of(WeightSlice whole, Range rows) {
  whole.row0 += rows.begin;
  whole.rows = rows.size();
  return whole;
}

WeightSlice cols_of(WeightSlice whole, Range cols) {
  whole.col0 += cols.begin;
  whole.cols = cols.size();
  return whole;
}

}  // namespace

std::int64_t MatrixPlan::n() const {
  std::int64_t sum = 0;
  for (const WeightSlice& slice : matrices.front()) sum += slice.rows;
  return sum;
}

std::int64_t MatrixPlan::k() const {
  return matrices.front().front().cols;
}

LayerPlan plan_layer(const RankPlan& rank, std::int64_t layer) {
  const ModelSpec& model = rank.model();
  const AttentionSpec& a = model.attention;
  const AttentionPart& attention = rank.attention();
  const Range heads = attention.heads, owned = attention.owned, kv_heads = attention.kv_heads;
  const auto whole = [&](Tensor tensor, std::int64_t index = 0) {
    return whole_tensor(model, rank.instance().seed(), tensor, layer, index);
  };

  LayerPlan plan;
  const auto put = [&](Weight weight, std::vector<WeightSlice> stacked) {
    plan[static_cast<std::size_t>(weight)].matrices.push_back(std::move(stacked));
  };

  if (a.kind == AttentionKind::gqa) {
    put(Weight::qkv, {rows_of(whole(Tensor::q), scaled(heads, a.qk_head_dim)),
                      rows_of(whole(Tensor::k), scaled(kv_heads, a.qk_head_dim)),
                      rows_of(whole(Tensor::v), scaled(kv_heads, a.v_head_dim))});
  } else {
    if (a.q_lora_rank > 0) {
      put(Weight::q_a, {whole(Tensor::q_a)});
      put(Weight::q_b, {rows_of(whole(Tensor::q_b), scaled(heads, a.qk_head_dim))});
    } else {
      put(Weight::q, {rows_of(whole(Tensor::q), scaled(heads, a.qk_head_dim))});
    }
    put(Weight::kv_a, {whole(Tensor::kv_a)});
    for (std::int64_t h = heads.begin; h < heads.end; ++h) put(Weight::w_uk, {whole(Tensor::w_uk, h)});
    for (std::int64_t h = owned.begin; h < owned.end; ++h) put(Weight::w_uv, {whole(Tensor::w_uv, h)});
  }
  if (a.indexer.heads > 0) {
    put(Weight::index_q, {whole(Tensor::index_q)});
    put(Weight::index_k, {whole(Tensor::index_k)});
    put(Weight::index_weights, {whole(Tensor::index_weights)});
  }
  put(Weight::o, {cols_of(whole(Tensor::o), scaled(owned, a.v_head_dim))});
  if (rank.draft_layer() == layer) put(Weight::draft_input, {whole(Tensor::draft_input)});

  if (!rank.has_ffn()) return plan;
  const FfnPart& ffn = rank.ffn();
  const auto put_ffn = [&](Weight gate_up, Weight down, std::array<WeightSlice, 3> gud, Range columns) {
    put(gate_up, {rows_of(gud[0], columns), rows_of(gud[1], columns)});
    put(down, {cols_of(gud[2], columns)});
  };
  if (!model.layer_kind(layer).moe()) {
    put_ffn(Weight::gate_up, Weight::down, {whole(Tensor::gate), whole(Tensor::up), whole(Tensor::down)},
            ffn.dense);
    return plan;
  }
  put(Weight::router, {whole(Tensor::router)});
  for (std::int64_t e = ffn.experts.begin; e < ffn.experts.end; ++e) {
    put_ffn(Weight::expert_gate_up, Weight::expert_down,
            {whole(Tensor::expert_gate, e), whole(Tensor::expert_up, e), whole(Tensor::expert_down, e)},
            ffn.expert_columns);
  }
  if (model.moe.shared_ffn > 0) {
    put_ffn(Weight::shared_gate_up, Weight::shared_down,
            {whole(Tensor::shared_gate), whole(Tensor::shared_up), whole(Tensor::shared_down)}, ffn.shared);
  }
  if (model.moe.gated_shared) put(Weight::shared_expert_gate, {whole(Tensor::shared_expert_gate)});
  return plan;
}

BiasPlan plan_biases(const RankPlan& rank, std::int64_t layer) {
  const ModelSpec& model = rank.model();
  const AttentionSpec& a = model.attention;
  const AttentionPart& attention = rank.attention();
  const RankCoords& at = rank.at();
  BiasPlan plan;
  if (a.qkv_bias) {
    plan.qkv = {{Tensor::q_bias, scaled(attention.heads, a.qk_head_dim)},
                {Tensor::k_bias, scaled(attention.kv_heads, a.qk_head_dim)},
                {Tensor::v_bias, scaled(attention.kv_heads, a.v_head_dim)}};
  }
  if (a.output_bias && at.kvp == 0 && at.tpa == 0) plan.o = {{Tensor::o_bias, {0, model.hidden}}};
  if (model.ffn_bias && rank.has_ffn() && !model.layer_kind(layer).moe()) {
    plan.gate_up = {{Tensor::gate_bias, rank.ffn().dense}, {Tensor::up_bias, rank.ffn().dense}};
    if (at.tpf == 0 && at.ep == 0) plan.down = {{Tensor::down_bias, {0, model.hidden}}};
  }
  if (model.moe.biased && rank.has_ffn() && model.layer_kind(layer).moe()) {
    const auto of_expert = [](Range values, std::int64_t expert, std::int64_t width) {
      return Range{expert * width + values.begin, expert * width + values.end};
    };
    const FfnPart& ffn = rank.ffn();
    for (std::int64_t e = ffn.experts.begin; e < ffn.experts.end; ++e) {
      for (const Tensor tensor : {Tensor::expert_gate_bias, Tensor::expert_up_bias})
        plan.expert_gate_up.push_back({tensor, of_expert(ffn.expert_columns, e, model.moe.expert_ffn)});
      if (at.tpf == 0)
        plan.expert_down.push_back({Tensor::expert_down_bias, of_expert({0, model.hidden}, e, model.hidden)});
    }
  }
  return plan;
}

Range sink_heads(const RankPlan& rank) {
  const bool adds = rank.model().attention.sinks && rank.at().kvp == 0;
  return adds ? rank.attention().heads : Range{};
}

Range norm_values(const RankPlan& rank, Tensor tensor) {
  const AttentionSpec& a = rank.model().attention;
  const bool of_heads = a.qk_norm != QkNorm::heads && (tensor == Tensor::q_norm || tensor == Tensor::k_norm);
  if (!of_heads) return {0, vector_length(rank.model(), tensor)};
  const AttentionPart& part = rank.attention();
  return scaled(tensor == Tensor::q_norm ? part.heads : part.kv_heads, a.qk_head_dim);
}

}  // namespace helix
