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

Range scaled(Range range, std::int64_t factor) {
  return {range.begin * factor, range.end * factor};
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
  put(Weight::o, {cols_of(whole(Tensor::o), scaled(owned, a.v_head_dim))});

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
  return plan;
}

}  // namespace helix
