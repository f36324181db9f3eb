#include "kernels/engine/attention_block.hpp"

#include <algorithm>
#include <vector>

#include "kernels/state/rope.hpp"
#include "roofline/base/arithmetic.hpp"

namespace helix {

namespace {

/// Norms over the heads of all TPA ranks.
bool sums_squares(const RankPlan& plan) {
  return plan.model().attention.whole_qk_norm && plan.sharding().tpa > 1;
}

/// Rows of the fullest DP group, the first: what all ranks of a stage exchange is of one size.
std::int64_t fullest_group(const RankPlan& plan) {
  return ceil_div(plan.largest().requests.size(), plan.sharding().dp) * plan.shape().query_tokens();
}

}  // namespace

AttentionBlock::Arrays::Arrays(Carver& carver, const RankPlan& plan, const Backend& backend,
                               std::int64_t steps)
    : indexer(carver, plan, backend, steps) {
  const AttentionSpec& a = plan.model().attention;
  const AttentionPart& part = plan.attention();
  const std::int64_t attended = plan.largest().attended_rows().size();
  const std::int64_t heads = part.heads.size(), owned = part.owned.size();
  if (plan.shape().query_tokens() > 1) {
    decoded = carver.take<std::int64_t>(plan.attended());
    accepted = carver.take<std::int64_t>(plan.attended());
  }
  positions = carver.take<std::int64_t>(plan.attended() * plan.shape().query_tokens());
  if (a.kind == AttentionKind::mla) {
    q_a = carver.take<BF16>(attended * a.q_lora_rank);
    q_heads = carver.take<BF16>(attended * heads * a.qk_head_dim);
    kv_row = carver.take<BF16>(attended * part.cache.head_dim);
    values = carver.take<BF16>(attended * owned * a.v_head_dim);
  } else {
    qkv = carver.take<BF16>(attended *
                            (heads * a.qk_head_dim + part.kv_heads.size() * (a.qk_head_dim + a.v_head_dim)));
    if (sums_squares(plan)) {
      squares = carver.take<float>(2 * fullest_group(plan));
      gathered_squares = carver.take<float>(2 * fullest_group(plan) * plan.sharding().stage_ranks());
    }
  }
  q = carver.take<BF16>(attended * heads * part.cache.head_dim);
  o = carver.take<BF16>(attended * heads * part.cache.v_dim);
  lse = carver.take<float>(attended * heads);
  if (part.kvp > 1) {
    const Pieces pieces = part.pieces(plan.largest().attended.size());
    const PartialShape largest = part.partials(pieces.largest() * plan.shape().query_tokens());
    const auto packed = pieces.count * static_cast<std::int64_t>(largest.chunk_bytes()) * largest.parts;
    send = carver.take<std::byte>(packed);
    recv = carver.take<std::byte>(packed);
    merged = carver.take<BF16>(attended * owned * part.cache.v_dim);
  }
  inv_freq = carver.take<float>(std::max(a.qk_head_dim, a.qk_rope_head_dim));
  if (plan.model().window_rope) window_inv_freq = carver.take<float>(a.qk_head_dim);
}

std::size_t AttentionBlock::scratch_bytes(const RankPlan& plan, const Backend& backend) {
  return backend.attention_scratch_bytes(plan.attention().cache, plan.largest().attended.size(),
                                         plan.attention().heads.size() * plan.shape().query_tokens());
}

AttentionBlock::AttentionBlock(const BlockContext& context, const Arrays& arrays, std::int64_t steps,
                               EngineMemory& memory)
    : c_(context),
      a_(arrays),
      caches_(KvCache::make(context.backend, context.plan.cache_rooms(steps), memory.kv)),
      scale_(static_cast<float>(attention_scale(context.plan.model()))) {
  const RankPlan& plan = c_.plan;
  const ModelSpec& model = plan.model();
  rope_ = make_table(model.rope, a_.inv_freq);
  if (model.window_rope) window_rope_ = make_table(*model.window_rope, a_.window_inv_freq);

  for (KvCache& cache : caches_) {
    cache.fill_history({.seed = plan.instance().seed(),
                        .requests = plan.cached_requests(),
                        .first_kv_head = plan.attention().kv_heads.begin,
                        .global_kv_heads = model.attention.kv_heads});
  }
  if (model.attention.indexer.heads > 0)
    indexer_.emplace(context, arrays.indexer, steps, caches_.front(), memory.index_keys);
}

RopeTable AttentionBlock::make_table(const RopeSpec& rope, float* inv_freq) const {
  const std::int64_t rope_dim = c_.plan.model().attention.rope_dim();
  const std::vector<float> frequencies = inv_frequencies(rope, rope_dim);
  c_.backend.copy_to_device(inv_freq, frequencies.data(), frequencies.size() * sizeof(float));
  return {.inv_freq = inv_freq,
          .rope_dim = rope_dim,
          .amplitude = static_cast<float>(rope_amplitude(rope)),
          .interleaved = rope.interleaved};
}

void AttentionBlock::rewind(std::int64_t steps, std::int64_t first_turn) {
  const RankPlan& plan = c_.plan;
  for (std::size_t i = 0; i < caches_.size(); ++i)
    caches_[i].rewind(steps - plan.caches()[i].kept.grown(steps));
  const auto set = [&](std::int64_t* array, std::int64_t value) {
    const std::vector<std::int64_t> values(static_cast<std::size_t>(plan.attended()), value);
    c_.backend.copy_to_device(array, values.data(), values.size() * sizeof(std::int64_t));
  };
  if (plan.shape().query_tokens() == 1) {
    set(a_.positions, plan.shape().context - 1);
    return;
  }
  turns_ = {.first = first_turn,
            .block = plan.shape().tokens_per_block,
            .ranks = plan.sharding().kvp,
            .rank = plan.at().kvp,
            .context = plan.shape().context,
            .history = plan.attention().history.size()};
  set(a_.decoded, -1);
  set(a_.accepted, 1);
}

void AttentionBlock::accept(std::span<const std::int64_t> tokens) {
  std::vector<std::int64_t> attended;
  for (const Range& run : c_.plan.cached_requests())
    attended.insert(attended.end(), tokens.begin() + run.begin, tokens.begin() + run.end);
  c_.backend.copy_to_device(a_.accepted, attended.data(), attended.size() * sizeof(std::int64_t));
}

void AttentionBlock::advance(const Work& work) {
  const std::int64_t requests = work.batch.attended.size(), first = work.batch.cached;
  if (work.batch.query_tokens > 1) {
    const std::int64_t row = work.batch.cached_rows();
    KvCache& cache = caches_.front();
    c_.backend.advance_rows(requests, work.batch.query_tokens, turns_,
                            {a_.decoded + first, a_.accepted + first, a_.positions + row, cache.slots() + row,
                             cache.lengths() + row});
    return;
  }
  for (std::size_t i = 0; i < caches_.size(); ++i) {
    c_.backend.advance(requests, work.appends[i], i == 0 ? a_.positions + first : nullptr,
                       caches_[i].slots() + first, caches_[i].lengths() + first);
  }
}

AttentionBlock::Target AttentionBlock::target_of(std::int64_t layer, const Work& work) {
  const std::size_t i = c_.plan.cache_of(layer);
  return {.cache = caches_[i].layer(layer).from_request(work.batch.cached),
          .slots = caches_[i].slots() + work.batch.cached_rows(),
          .appends = work.appends[i] != Append::none};
}

const BF16* AttentionBlock::normed(const Work& work) const {
  return c_.normed + work.batch.attended_rows().begin * c_.plan.model().hidden;
}

void AttentionBlock::run(std::int64_t layer, const Work& work) {
  const RankPlan& plan = c_.plan;
  const std::int64_t rows = work.attended();
  const std::int64_t hidden = plan.model().hidden;
  const LayerWeights& w = c_.weights.layer(layer);
  const Target target = target_of(layer, work);
  BF16* delta = work.stream.delta;

  c_.backend.begin_phase(Phase::attn_proj);
  // 1, 2: QKV for the full batch of the DP group, RoPE, and the append on the one KVP rank whose turn it is.
  c_.add_and_norm(work, w.input_norm, layer == 0);
  if (plan.model().attention.kind == AttentionKind::gqa) {
    project_gqa(layer, target, work);
  } else {
    project_mla(w, target, work);
  }
  if (indexer_) indexer_->project(layer, work, normed(work), a_.q_a, rope_, positions(work));
  work.observer.phase_done(Phase::attn_proj);

  if (indexer_) indexer_->choose(layer, work);
  // 3, 4, 5: flash-decode over the local shard, all-to-all over the query-head axis, exact merge.
  const BF16* merged =
      plan.sharding().kvp > 1 ? attend_shards(w, target.cache, work) : attend_whole(w, target.cache, work);

  c_.backend.begin_phase(Phase::attn_proj);
  // 6, 7: MLA's W_UV on the owned heads; output projection in TP = N / DP.
  if (plan.model().attention.kind == AttentionKind::mla) {
    const std::int64_t v_dim = plan.model().attention.v_head_dim;
    c_.backend.linear_per_head(rows, {merged, owned() * cached().v_dim, cached().v_dim}, w[Weight::w_uv],
                               {a_.values, owned() * v_dim, v_dim});
    merged = a_.values;
  }
  const bool others_rows = !plan.whole_requests() && plan.sharding().dp > 1;
  if (others_rows) {
    c_.backend.set_bytes(delta, 0, static_cast<std::size_t>(work.rows() * hidden) * sizeof(BF16));
  }
  BF16* const out = delta + work.batch.attended_rows().begin * hidden;
  c_.backend.linear(rows, merged, w[Weight::o].k, w[Weight::o], out, hidden);
  if (w.o_bias != nullptr) c_.backend.add_bias(rows, hidden, w.o_bias, out, hidden);
  work.observer.phase_done(Phase::attn_proj);
  c_.backend.begin_phase(Phase::attn_allreduce);
  // Sums the heads of a DP group and brings every group's requests to all ranks, which share the FFN.
  if (!plan.whole_requests()) c_.groups.stage->all_reduce_sum(delta, work.rows() * hidden);
  if (w.attention_out_norm != nullptr) c_.norm_output(work, w.attention_out_norm);
  work.observer.phase_done(Phase::attn_allreduce);
}

RopeTable AttentionBlock::rope_of(const AttentionSpec& attention) const {
  RopeTable table = c_.plan.model().window_rope && attention.window > 0 ? window_rope_ : rope_;
  table.rope_dim = attention.rope_dim();
  table.passed = attention.unrotated;
  return table;
}

void AttentionBlock::project_gqa(std::int64_t layer, const Target& to, const Work& work) {
  const ModelSpec& model = c_.plan.model();
  const LayerWeights& w = c_.weights.layer(layer);
  const RopeTable rope = rope_of(model.attention_of(model.layer_kind(layer)));
  const std::int64_t rows = work.attended();
  const std::int64_t dim = c_.plan.model().attention.qk_head_dim;
  const std::int64_t kv_heads = cached().kv_heads;
  const std::int64_t row = w[Weight::qkv].n;
  BF16* k = a_.qkv + heads() * dim;
  BF16* v = k + kv_heads * dim;

  c_.backend.linear(rows, normed(work), model.hidden, w[Weight::qkv], a_.qkv, row);
  if (w.qkv_bias != nullptr) c_.backend.add_bias(rows, row, w.qkv_bias, a_.qkv, row);
  if (w.q_norm != nullptr) norm_q_and_k(w, work);
  c_.backend.rope(rope, rows, heads(), positions(work), {a_.qkv, row, dim}, {a_.q, heads() * dim, dim});
  if (to.appends) {
    c_.backend.rope(rope, rows, kv_heads, positions(work), {k, row, dim}, {k, row, dim});
    c_.backend.kv_append(to.cache, work.batch.attended.size(), to.slots, k, row, v, row);
  }
}

void AttentionBlock::norm_q_and_k(const LayerWeights& w, const Work& work) {
  if (sums_squares(c_.plan)) return norm_parts(w, work);
  const std::int64_t rows = work.attended(), row = w[Weight::qkv].n;
  const std::int64_t dim = c_.plan.model().attention.qk_head_dim;
  const bool whole = c_.plan.model().attention.whole_qk_norm;
  const auto eps = static_cast<float>(c_.plan.model().rms_eps);
  const auto norm = [&](std::int64_t heads, const BF16* gain, BF16* x) {
    c_.backend.rms_norm_heads(rows, whole ? 1 : heads, whole ? heads * dim : dim, gain, eps, {x, row, dim});
  };
  norm(heads(), w.q_norm, a_.qkv);
  norm(cached().kv_heads, w.k_norm, a_.qkv + heads() * dim);
}

// Every rank of the stage gives the sums of its own heads' squares; those of the TPA ranks that share its
// requests stand side by side, as their ranks do. Where KV heads are on several of them, so are their squares.
void AttentionBlock::norm_parts(const LayerWeights& w, const Work& work) {
  const RankPlan& plan = c_.plan;
  const std::int64_t rows = work.attended(), row = w[Weight::qkv].n;
  const std::int64_t dim = plan.model().attention.qk_head_dim, most = fullest_group(plan);
  const std::int64_t q = heads() * dim, k = cached().kv_heads * dim;
  const auto eps = static_cast<float>(plan.model().rms_eps);
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

void AttentionBlock::project_mla(const LayerWeights& w, const Target& to, const Work& work) {
  const AttentionSpec& a = c_.plan.model().attention;
  const std::int64_t rows = work.attended();
  const std::int64_t hidden = c_.plan.model().hidden;
  const auto eps = static_cast<float>(AttentionSpec::latent_norm_eps);
  const std::int64_t latent = a.kv_lora_rank;
  const std::int64_t q_row = heads() * a.qk_head_dim;
  const std::int64_t absorbed_row = heads() * cached().head_dim;

  if (a.q_lora_rank > 0) {
    c_.backend.linear(rows, normed(work), hidden, w[Weight::q_a], a_.q_a, a.q_lora_rank);
    c_.backend.rms_norm_heads(rows, 1, a.q_lora_rank, w.q_a_norm, eps,
                              {a_.q_a, a.q_lora_rank, a.q_lora_rank});
    c_.backend.linear(rows, a_.q_a, a.q_lora_rank, w[Weight::q_b], a_.q_heads, q_row);
  } else {
    c_.backend.linear(rows, normed(work), hidden, w[Weight::q], a_.q_heads, q_row);
  }

  // Every rank computes the new latent row (the weights are replicated anyway); the owner keeps it.
  const std::int64_t kv_row = cached().head_dim;
  c_.backend.linear(rows, normed(work), hidden, w[Weight::kv_a], a_.kv_row, kv_row);
  if (to.appends) {
    c_.backend.rms_norm_heads(rows, 1, latent, w.kv_a_norm, eps, {a_.kv_row, kv_row, latent});
    const HeadRows<BF16> rotated{a_.kv_row + latent, kv_row, a.qk_rope_head_dim};
    c_.backend.rope(rope_, rows, 1, positions(work), rotated, rotated);
    c_.backend.kv_append(to.cache, work.batch.attended.size(), to.slots, a_.kv_row, kv_row, nullptr, 0);
  }

  // Absorbed form: the queries go to the latent space, so that the cache is read as it is.
  c_.backend.linear_per_head(rows, {a_.q_heads, q_row, a.qk_head_dim}, w[Weight::w_uk],
                             {a_.q, absorbed_row, cached().head_dim});
  c_.backend.rope(rope_, rows, heads(), positions(work),
                  {a_.q_heads + a.qk_nope_head_dim, q_row, a.qk_head_dim},
                  {a_.q + latent, absorbed_row, cached().head_dim});
}

void AttentionBlock::attend(const LayerWeights& w, const KvView& cache, Range requests) {
  const std::int64_t q_row = heads() * cached().head_dim, o_row = heads() * cached().v_dim;
  c_.backend.begin_phase(Phase::attn);
  const KvView attended = indexer_ ? indexer_->gathered(cache, requests) : cache.from_request(requests.begin);
  const Range rows = rows_of(requests);
  BF16* const o = a_.o + rows.begin * o_row;
  float* const lse = a_.lse + rows.begin * heads();
  c_.backend.attention(attended, requests.size(), heads(), scale_, a_.q + rows.begin * q_row, o, lse,
                       c_.scratch);
  // Once for all shards of a sequence.
  if (w.sinks != nullptr) c_.backend.add_sinks(rows.size(), heads(), cached().v_dim, w.sinks, o, lse);
}

const BF16* AttentionBlock::attend_whole(const LayerWeights& w, const KvView& cache, const Work& work) {
  attend(w, cache, {0, work.batch.attended.size()});
  work.observer.phase_done(Phase::attn);
  return a_.o;
}

// HOP-B: the all-to-all of a piece of the batch is on its way while the next pieces are attended. Arrivals
// are merged at the end, when no attention is left to delay and the last piece still travels. In one piece
// there is nothing to overlap with.
const BF16* AttentionBlock::attend_shards(const LayerWeights& w, const KvView& cache, const Work& work) {
  const AttentionPart& part = c_.plan.attention();
  const Pieces pieces = part.pieces(work.batch.attended.size());
  const PartialShape largest = part.partials(rows_of({0, pieces.largest()}).size());
  const auto slot_at = [&](int piece) {
    return static_cast<std::size_t>(piece * largest.parts) * largest.chunk_bytes();
  };
  for (int piece = 0; piece < pieces.count; ++piece) {
    const Range r = rows_of(pieces[piece]);
    const PartialShape shape = part.partials(r.size());
    attend(w, cache, pieces[piece]);
    work.observer.phase_done(Phase::attn);
    c_.backend.begin_phase(Phase::merge);
    c_.backend.pack_partials(shape, a_.o + r.begin * heads() * cached().v_dim, a_.lse + r.begin * heads(),
                             a_.send + slot_at(piece));
    work.observer.phase_done(Phase::merge);
    c_.backend.begin_phase(Phase::a2a);
    if (pieces.count > 1) {
      c_.groups.kvp->start_all_to_all(piece, a_.send + slot_at(piece), a_.recv + slot_at(piece),
                                      shape.chunk_bytes());
    } else {
      c_.groups.kvp->all_to_all(a_.send, a_.recv, shape.chunk_bytes());
    }
    work.observer.phase_done(Phase::a2a);
  }
  for (int piece = 0; piece < pieces.count; ++piece) {
    const Range r = rows_of(pieces[piece]);
    c_.backend.begin_phase(Phase::a2a);
    if (pieces.count > 1) c_.groups.kvp->finish_all_to_all(piece);
    work.observer.phase_done(Phase::a2a);
    c_.backend.begin_phase(Phase::merge);
    c_.backend.merge_partials(part.partials(r.size()), a_.recv + slot_at(piece),
                              a_.merged + r.begin * owned() * cached().v_dim);
    work.observer.phase_done(Phase::merge);
  }
  return a_.merged;
}

}  // namespace helix
