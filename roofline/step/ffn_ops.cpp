#include "roofline/step/expert_load.hpp"
#include "roofline/step/op_list.hpp"
#include "roofline/step/rank_plan.hpp"

namespace helix {
namespace {

using OpNames = std::array<std::string_view, 3>;

}  // namespace

std::vector<Op> ffn_ops(const DecodeStep& step, const LayerKind& kind) {
  const auto& [model, sharding, shape] = step;
  if (kind.ffn == Ffn::none) return {};
  const bool moe = kind.moe();
  // Data-parallel ranks keep router and shared experts of a MoE layer to their own requests.
  const bool own_requests = moe && attends_whole_requests(sharding);
  const std::int64_t all = stage_rows(sharding, shape);
  const std::int64_t b = own_requests ? computed_rows(sharding, shape) : all;
  const std::int64_t h = model.hidden;
  const FfnPart part = ffn_part(model, sharding, {});
  const bool follows_all_reduce = all_reduces(sharding);
  OpList ops;
  const bool beside_mixer = model.blocks == Blocks::parallel && kind.mixer != Mixer::none;
  if (!beside_mixer)
    ops.elementwise("ffn norm", Phase::ffn, add_norm_bytes(kept_rows(sharding, shape), h),
                    follows_all_reduce);
  if (moe) {
    const MoeSpec& m = model.moe;
    ops.gemm("router", Phase::ffn, {.m = b, .n = m.experts, .k = h}, weight_format(shape, WeightPart::router),
             fp32_bytes);
    ops.elementwise("top-k", Phase::ffn, real(b * m.experts) * fp32_bytes, fused_on_gpu);
    if (m.shared_experts > 0) {
      ops.beside_routed(true);
      ops.ffn(model.gated_ffn ? OpNames{"shared gate and up", "shared swiglu", "shared down"}
                              : OpNames{"shared up", "shared activation", "shared down"},
              b, h, part.shared.size(), model.gated_ffn, weight_format(shape, WeightPart::shared_experts));
      if (m.gated_shared) {
        ops.gemm("shared expert gate", Phase::ffn, {.m = b, .n = 1, .k = h},
                 weight_format(shape, WeightPart::router), fp32_bytes);
        ops.elementwise("shared expert scale", Phase::ffn, norm_bytes(b, h), fused_on_gpu);
      }
      ops.beside_routed(false);
    }
    const std::int64_t width = m.expert_hidden > 0 ? m.expert_hidden : h;
    if (width != h) {
      ops.gemm("expert input projection", Phase::ffn, {.m = b, .n = width, .k = h},
               weight_format(shape, WeightPart::shared_experts));
    }
    // Copies of experts are predicted, not held by our engine: its parts know the experts alone.
    const std::int64_t redundant = shape.redundant_experts;
    const std::int64_t local =
        redundant > 0 ? ceil_div(m.experts + redundant, sharding.ep) : part.experts.size();
    const std::int64_t f = part.expert_columns.size();
    const WeightFormat experts = weight_format(shape, WeightPart::routed_experts);
    const std::int64_t matrices = model.gated_ffn ? 3 : 2;
    const auto [active, pairs] =
        redundant > 0 ? balanced_load(local, m.experts, redundant, m.top_k, all, shape.expert_skew)
                      : routed_load(local, m.experts, m.top_k, all, shape.expert_skew);
    ops.add({.name = "routed experts",
             .phase = Phase::ffn,
             .shape = MoeShape{.tokens = all,
                               .hidden = width,
                               .ffn = f,
                               .local_experts = local,
                               .top_k = m.top_k,
                               .active_experts = active,
                               .pairs = pairs,
                               .matrices = matrices,
                               .experts = m.experts},
             .dtype = experts.dtype,
             .bytes = {.weights = active * real(matrices * width * f) * experts.bytes,
                       .activations = pairs * real(2 * width + matrices * f) * bf16_bytes},
             .flops = 2 * pairs * real(matrices * width * f),
             .block_scaled = has_block_scales(experts)});
    if (width != h) {
      ops.gemm("expert output projection", Phase::ffn, {.m = b, .n = h, .k = width},
               weight_format(shape, WeightPart::shared_experts));
    }
  } else {
    ops.ffn(model.gated_ffn ? OpNames{"gate and up", "swiglu", "down"} : OpNames{"up", "activation", "down"},
            b, h, part.dense.size(), model.gated_ffn, weight_format(shape, WeightPart::dense_ffn),
            model.ffn_bias);
  }
  if (beside_mixer)  // attention's part joins that of the FFN; GPU: a product adds to what is there
    ops.elementwise("sum of blocks", Phase::ffn, real(computed_rows(sharding, shape) * h) * 3 * bf16_bytes,
                    fused_on_gpu);
  if (model.post_norms) {
    ops.elementwise("ffn output norm", Phase::ffn_comm, norm_bytes(kept_rows(sharding, shape), h),
                    follows_all_reduce);
  }
  return ops.take();
}

std::vector<Op> exchange_ops(const DecodeStep& step, const LayerKind& kind) {
  const auto& [model, sharding, shape] = step;
  const int n = sharding.stage_ranks();
  const double hidden_bytes = real(model.hidden) * bf16_bytes;
  const double all_bytes = real(stage_rows(sharding, shape)) * hidden_bytes;
  OpList ops;
  if (shape.sums_in_group) {
    const CollectiveShape group{.op = Collective::all_reduce,
                                .group = sharding.kvp * sharding.tpa,
                                .payload_bytes = real(computed_rows(sharding, shape)) * hidden_bytes};
    if (kind.mixer != Mixer::none) ops.collective("attention all-reduce", Phase::attn_allreduce, group);
    if (kind.ffn == Ffn::none) return ops.take();
    // Each rank sends its share of the group's rows to all and gets their sums; then the group has all of its own.
    CollectiveShape rows{.op = Collective::all_gather, .group = n, .payload_bytes = all_bytes};
    ops.collective("token all-gather", Phase::ffn_comm, rows);
    rows.op = Collective::reduce_scatter;
    ops.collective("token reduce-scatter", Phase::ffn_comm, rows);
    CollectiveShape back = group;
    back.op = Collective::all_gather;
    ops.collective("group all-gather", Phase::ffn_comm, back);
    return ops.take();
  }
  if (!attends_whole_requests(sharding)) {
    const CollectiveShape sum{.op = Collective::all_reduce, .group = n, .payload_bytes = all_bytes};
    const bool mixes = kind.mixer != Mixer::none, has_ffn = kind.ffn != Ffn::none;
    if (mixes && !(has_ffn && model.blocks == Blocks::parallel))
      ops.collective("attention all-reduce", Phase::attn_allreduce, sum);
    if (has_ffn) ops.collective("ffn all-reduce", Phase::ffn_comm, sum);
    return ops.take();
  }
  if (kind.ffn == Ffn::none) return {};
  const CollectiveShape gathered{.op = Collective::all_gather, .group = n, .payload_bytes = all_bytes};
  const CollectiveShape scattered{.op = Collective::reduce_scatter, .group = n, .payload_bytes = all_bytes};
  if (kind.moe()) {
    // A token goes once to each of the ranks that hold some of its experts.
    const double ranks_per_token = expected_active_experts(n, n, 1, model.moe.top_k);
    const std::int64_t own = computed_rows(sharding, shape);
    CollectiveShape tokens{
        .op = Collective::all_to_all,
        .group = n,
        .payload_bytes = real(own) * ranks_per_token * hidden_bytes,
        .routed = {
            .tokens = own, .top_k = model.moe.top_k, .hidden = model.hidden, .bytes_per_value = bf16_bytes}};
    ops.only_if(Way::sends);
    ops.collective("expert dispatch", Phase::ffn_comm, tokens);
    tokens.routed.combine = true;
    ops.collective("expert combine", Phase::ffn_comm, tokens);
    ops.only_if(Way::gathers);
    CollectiveShape chosen = gathered;
    chosen.grouped_on_gpu = true;
    chosen.payload_bytes = real(stage_rows(sharding, shape) * model.moe.top_k) * fp32_bytes;
    ops.collective("expert id all-gather", Phase::ffn_comm, chosen);
    ops.collective("expert weight all-gather", Phase::ffn_comm, chosen);
  }
  ops.collective("token all-gather", Phase::ffn_comm, gathered);
  ops.collective("token reduce-scatter", Phase::ffn_comm, scattered);
  return ops.take();
}

}  // namespace helix
