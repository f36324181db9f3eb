#include "kernels/engine/attention_inputs.hpp"

#include <algorithm>
#include <vector>

#include "kernels/state/rope.hpp"
#include "roofline/base/arithmetic.hpp"

namespace helix {

namespace {

/// Norms over the heads of all TPA ranks.
bool sums_squares(const RankPlan& plan) {
  return plan.model().attention.qk_norm == QkNorm::whole && plan.sharding().tpa > 1;
}

/// Rows of the fullest DP group, the first: what all ranks of a stage exchange is of one size.
std::int64_t fullest_group(const RankPlan& plan, const MicroBatch& batch) {
  return ceil_div(plan.largest().requests.size(), plan.sharding().dp) * batch.query_tokens;
}

}  // namespace

AttentionInputs::Arrays::Arrays(Carver& carver, const RankPlan& plan) {
  const AttentionSpec& a = plan.model().attention;
  const AttentionPart& part = plan.attention();
  const std::int64_t attended = plan.largest().attended_rows().size(), heads = part.heads.size();
  if (a.kind == AttentionKind::mla) {
    q_a = carver.take<BF16>(attended * a.q_lora_rank);
    q_heads = carver.take<BF16>(attended * heads * a.qk_head_dim);
    kv_row = carver.take<BF16>(attended * part.cache.head_dim);
  } else {
    qkv = carver.take<BF16>(attended *
                            (heads * a.qk_head_dim + part.kv_heads.size() * (a.qk_head_dim + a.v_head_dim)));
    if (sums_squares(plan)) {
      const std::int64_t sums = 2 * fullest_group(plan, plan.largest());
      squares = carver.take<float>(sums);
      gathered_squares = carver.take<float>(sums * plan.sharding().stage_ranks());
    }
  }
  inv_freq = carver.take<float>(std::max(a.qk_head_dim, a.qk_rope_head_dim));
  if (plan.model().window_rope) window_inv_freq = carver.take<float>(a.qk_head_dim);
}

AttentionInputs::AttentionInputs(const BlockContext& context, const Arrays& arrays)
    : c_(context), a_(arrays) {
  const ModelSpec& model = c_.plan.model();
  rope_ = make_table(model.rope, a_.inv_freq);
  if (model.window_rope) window_rope_ = make_table(*model.window_rope, a_.window_inv_freq);
}

RopeTable AttentionInputs::make_table(const RopeSpec& rope, float* inv_freq) const {
  const std::int64_t rope_dim = c_.plan.model().attention.rope_dim();
  const std::vector<float> frequencies = inv_frequencies(rope, rope_dim);
  c_.backend.copy_to_device(inv_freq, frequencies.data(), frequencies.size() * sizeof(float));
  return {.inv_freq = inv_freq,
          .rope_dim = rope_dim,
          .amplitude = static_cast<float>(rope_amplitude(rope)),
          .interleaved = rope.interleaved};
}

void AttentionInputs::project(std::int64_t layer, const Rows& to, const Work& work, BF16* q) {
  if (c_.plan.model().attention.kind == AttentionKind::gqa) {
    project_gqa(layer, to, work, q);
  } else {
    project_mla(c_.weights.layer(layer), to, work, q);
  }
}

RopeTable AttentionInputs::rope_of(const AttentionSpec& attention) const {
  RopeTable table = c_.plan.model().window_rope && attention.window > 0 ? window_rope_ : rope_;
  table.rope_dim = attention.rope_dim();
  table.passed = attention.unrotated;
  return table;
}

void AttentionInputs::project_gqa(std::int64_t layer, const Rows& to, const Work& work, BF16* q) {
  const ModelSpec& model = c_.plan.model();
  const LayerWeights& w = c_.weights.layer(layer);
  const RopeTable rope = rope_of(model.attention_of(model.layer_kind(layer)));
  const std::int64_t rows = work.attended();
  const std::int64_t dim = c_.plan.model().attention.qk_head_dim;
  const std::int64_t kv_heads = cached().kv_heads;
  const std::int64_t row = w[Weight::qkv].n;
  BF16* k = a_.qkv + heads() * dim;
  BF16* v = k + kv_heads * dim;

  c_.backend.linear(rows, c_.normed_attended(work), model.hidden, w[Weight::qkv], a_.qkv, row);
  if (w.qkv_bias != nullptr) c_.backend.add_bias(rows, row, w.qkv_bias, a_.qkv, row);
  if (w.q_norm != nullptr) norm_q_and_k(w, work);
  grow_queries(to, work, row, a_.qkv);
  c_.backend.rope(rope, rows, heads(), to.positions, {a_.qkv, row, dim}, {q, heads() * dim, dim});
  if (to.appends) {
    c_.backend.kv_append_new(
        to.cache, work.batch.attended.size(),
        {.positions = to.positions, .slots = to.slots, .k = k, .ldk = row, .v = v, .ldv = row, .rope = rope});
  }
}

void AttentionInputs::grow_queries(const Rows& to, const Work& work, std::int64_t row, BF16* q) {
  const RopeSpec& rope = c_.plan.model().rope;
  if (rope.query_growth == 0.0) return;
  const PositionGrowth growth{.rate = static_cast<float>(rope.query_growth),
                              .period = rope.original_max_position};
  const std::int64_t values = heads() * c_.plan.model().attention.qk_head_dim;
  c_.backend.scale_by_position(work.attended(), values, growth, to.positions, q, row);
}

void AttentionInputs::norm_q_and_k(const LayerWeights& w, const Work& work) {
  if (sums_squares(c_.plan)) return norm_parts(w, work);
  const std::int64_t rows = work.attended(), row = w[Weight::qkv].n;
  const std::int64_t dim = c_.plan.model().attention.qk_head_dim;
  const QkNorm kind = c_.plan.model().attention.qk_norm;
  const bool whole = kind == QkNorm::whole;
  const auto eps = static_cast<float>(c_.plan.model().norm_eps);
  const auto norm = [&](std::int64_t heads, const BF16* gain, BF16* x) {
    if (kind == QkNorm::layer_heads)
      return c_.backend.layer_norm_heads(rows, heads, dim, gain, nullptr, eps, {x, row, dim});
    c_.backend.rms_norm_heads(rows, whole ? 1 : heads, whole ? heads * dim : dim, gain, eps, {x, row, dim});
  };
  norm(heads(), w.q_norm, a_.qkv);
  norm(cached().kv_heads, w.k_norm, a_.qkv + heads() * dim);
}

// Every rank of the stage gives the sums of its own heads' squares; those of the TPA ranks that share its
// requests stand side by side, as their ranks do. Where KV heads are on several of them, so are their squares.
void AttentionInputs::norm_parts(const LayerWeights& w, const Work& work) {
  const RankPlan& plan = c_.plan;
  const std::int64_t rows = work.attended(), row = w[Weight::qkv].n;
  const std::int64_t dim = plan.model().attention.qk_head_dim, most = fullest_group(plan, work.batch);
  const std::int64_t q = heads() * dim, k = cached().kv_heads * dim;
  const auto eps = static_cast<float>(plan.model().norm_eps);
  c_.backend.square_sums(rows, q, a_.qkv, row, a_.squares);
  c_.backend.square_sums(rows, k, a_.qkv + q, row, a_.squares + most);
  c_.groups.stage->all_gather(reinterpret_cast<const std::byte*>(a_.squares),
                              reinterpret_cast<std::byte*>(a_.gathered_squares),
                              static_cast<std::size_t>(2 * most) * sizeof(float));
  const int tpa = plan.sharding().tpa, first = c_.groups.stage->rank() - plan.at().tpa;
  SquareSums sums{.sums = a_.gathered_squares + first * 2 * most,
                  .parts = tpa,
                  .stride = 2 * most,
                  .values = plan.model().attention.q_heads * dim};
  c_.backend.rms_norm_part(rows, q, w.q_norm, eps, sums, a_.qkv, row);
  sums.sums += most;
  sums.values = k * tpa;
  c_.backend.rms_norm_part(rows, k, w.k_norm, eps, sums, a_.qkv + q, row);
}

void AttentionInputs::project_mla(const LayerWeights& w, const Rows& to, const Work& work, BF16* q) {
  const AttentionSpec& a = c_.plan.model().attention;
  const std::int64_t rows = work.attended();
  const std::int64_t hidden = c_.plan.model().hidden;
  const auto eps = static_cast<float>(AttentionSpec::latent_norm_eps);
  const std::int64_t latent = a.kv_lora_rank;
  const std::int64_t q_row = heads() * a.qk_head_dim;
  const std::int64_t absorbed_row = heads() * cached().head_dim;

  if (a.q_lora_rank > 0) {
    c_.backend.linear(rows, c_.normed_attended(work), hidden, w[Weight::q_a], a_.q_a, a.q_lora_rank);
    c_.backend.rms_norm_heads(rows, 1, a.q_lora_rank, w.q_a_norm, eps,
                              {a_.q_a, a.q_lora_rank, a.q_lora_rank});
    c_.backend.linear(rows, a_.q_a, a.q_lora_rank, w[Weight::q_b], a_.q_heads, q_row);
  } else {
    c_.backend.linear(rows, c_.normed_attended(work), hidden, w[Weight::q], a_.q_heads, q_row);
  }
  grow_queries(to, work, q_row, a_.q_heads);

  // Every rank computes the new latent row (the weights are replicated anyway); the owner keeps it.
  const std::int64_t kv_row = cached().head_dim;
  c_.backend.linear(rows, c_.normed_attended(work), hidden, w[Weight::kv_a], a_.kv_row, kv_row);
  if (to.appends) {
    c_.backend.kv_append_new(to.cache, work.batch.attended.size(),
                             {.positions = to.positions,
                              .slots = to.slots,
                              .k = a_.kv_row,
                              .ldk = kv_row,
                              .gain = w.kv_a_norm,
                              .normed = latent,
                              .eps = eps,
                              .rope = rope_,
                              .rotated = latent});
  }

  // Absorbed form: the queries go to the latent space, so that the cache is read as it is.
  c_.backend.linear_per_head(rows, {a_.q_heads, q_row, a.qk_head_dim}, w[Weight::w_uk],
                             {q, absorbed_row, cached().head_dim});
  c_.backend.rope(rope_, rows, heads(), to.positions, {a_.q_heads + a.qk_nope_head_dim, q_row, a.qk_head_dim},
                  {q + latent, absorbed_row, cached().head_dim});
}

}  // namespace helix
