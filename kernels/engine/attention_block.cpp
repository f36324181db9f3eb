#include "kernels/engine/attention_block.hpp"

#include <vector>

#include "kernels/state/rope.hpp"

namespace helix {

AttentionBlock::Arrays::Arrays(Carver& carver, const RankPlan& plan, const Backend& backend,
                               std::int64_t steps)
    : inputs(carver, plan), indexer(carver, plan, backend, steps) {
  const AttentionSpec& a = plan.model().attention;
  const AttentionPart& part = plan.attention();
  const std::int64_t attended = plan.largest().attended_rows().size();
  const std::int64_t heads = part.heads.size(), owned = part.owned.size();
  if (plan.shape().query_tokens() > 1) {
    decoded = carver.take<std::int64_t>(plan.attended());
    accepted = carver.take<std::int64_t>(plan.attended());
  }
  positions = carver.take<std::int64_t>(plan.attended() * plan.shape().query_tokens());
  if (a.kind == AttentionKind::mla) values = carver.take<BF16>(attended * owned * a.v_head_dim);
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
}

std::size_t AttentionBlock::scratch_bytes(const RankPlan& plan, const Backend& backend) {
  return backend.attention_scratch_bytes(plan.attention().cache, plan.largest().attended.size(),
                                         plan.attention().heads.size() * plan.shape().query_tokens());
}

AttentionBlock::AttentionBlock(const BlockContext& context, const Arrays& arrays, std::int64_t steps,
                               EngineMemory& memory)
    : c_(context),
      a_(arrays),
      inputs_(context, arrays.inputs),
      caches_(KvCache::make(context.backend, context.plan.cache_rooms(steps), memory.kv)),
      scale_(static_cast<float>(attention_scale(context.plan.model()))) {
  const RankPlan& plan = c_.plan;
  const ModelSpec& model = plan.model();
  for (KvCache& cache : caches_) {
    cache.fill_history({.seed = plan.instance().seed(),
                        .requests = plan.cached_requests(),
                        .first_kv_head = plan.attention().kv_heads.begin,
                        .global_kv_heads = model.attention.kv_heads});
  }
  if (model.attention.indexer.heads > 0)
    indexer_.emplace(context, arrays.indexer, steps, caches_.front(), memory.index_keys);
}

void AttentionBlock::rewind(std::int64_t steps, std::int64_t first_turn) {
  const RankPlan& plan = c_.plan;
  for (std::size_t i = 0; i < caches_.size(); ++i)
    caches_[i].rewind(steps - plan.caches()[i].kept.grown(steps));
  const auto set = [&](std::int64_t* array, std::int64_t value, std::int64_t each = 1) {
    const std::vector<std::int64_t> values(static_cast<std::size_t>(plan.attended() * each), value);
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
  if (!plan.draft_layer()) return;
  // The first drafts follow on the history's last token, whose place in the draft layer's cache is taken.
  set(a_.positions, plan.shape().context - 1, plan.shape().query_tokens());
  set(caches_.front().slots(), -1, plan.shape().query_tokens());
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

AttentionInputs::Rows AttentionBlock::rows_in(std::int64_t layer, const Work& work) {
  const std::size_t i = c_.plan.cache_of(layer);
  AttentionInputs::Rows rows{.cache = caches_[i].layer(layer).from_request(work.batch.cached),
                             .slots = caches_[i].slots() + work.batch.cached_rows(),
                             .positions = a_.positions + work.batch.cached_rows(),
                             .appends = work.appends[i] != Append::none};
  if (work.draft == nullptr || work.draft->number == 0) return rows;
  rows.slots = work.draft->places.slots;
  rows.positions = work.draft->places.positions;
  rows.cache.lengths = work.draft->places.lengths;
  rows.cache.query_tokens = 1;
  return rows;
}

void AttentionBlock::run(std::int64_t layer, const Work& work) {
  const RankPlan& plan = c_.plan;
  const std::int64_t rows = work.attended();
  const std::int64_t hidden = plan.model().hidden;
  const LayerWeights& w = c_.weights.layer(layer);
  const AttentionInputs::Rows in = rows_in(layer, work);
  BF16* delta = work.stream.delta;

  c_.backend.begin_phase(Phase::attn_proj);
  // 1, 2: QKV for the full batch of the DP group, RoPE, and the append on the one KVP rank whose turn it is.
  c_.add_and_norm(work, w.input_norm, layer == 0 || work.draft != nullptr);
  inputs_.project(layer, in, work, a_.q);
  if (indexer_) indexer_->project(layer, work, inputs_.q_latent(), inputs_.rope(), in.positions);
  work.observer.phase_done(Phase::attn_proj);

  if (indexer_) indexer_->choose(layer, work);
  // 3, 4, 5: flash-decode over the local shard, all-to-all over the query-head axis, exact merge.
  const BF16* merged =
      plan.sharding().kvp > 1 ? attend_shards(w, in.cache, work) : attend_whole(w, in.cache, work);

  c_.backend.begin_phase(Phase::attn_proj);
  // 6, 7: MLA's W_UV on the owned heads; output projection in TP = N / DP.
  if (plan.model().attention.kind == AttentionKind::mla) {
    const std::int64_t v_dim = plan.model().attention.v_head_dim;
    c_.backend.linear_per_head(rows, {merged, owned() * cached().v_dim, cached().v_dim}, w[Weight::w_uv],
                               {a_.values, owned() * v_dim, v_dim});
    merged = a_.values;
  }
  const bool parallel = plan.model().blocks == Blocks::parallel;
  const bool others_rows = !parallel && !plan.whole_requests() && plan.sharding().dp > 1;
  if (others_rows) {
    c_.backend.set_bytes(delta, 0, static_cast<std::size_t>(work.rows() * hidden) * sizeof(BF16));
  }
  BF16* const out = parallel ? c_.attention_out : delta + work.batch.attended_rows().begin * hidden;
  c_.backend.linear(rows, merged, w[Weight::o].k, w[Weight::o], out, hidden);
  if (w.o_bias != nullptr) c_.backend.add_bias(rows, hidden, w.o_bias, out, hidden);
  work.observer.phase_done(Phase::attn_proj);
  if (parallel) return;
  c_.backend.begin_phase(Phase::attn_allreduce);
  // Sums the heads of a DP group and brings every group's requests to all ranks, which share the FFN.
  if (!plan.whole_requests()) c_.groups.stage->all_reduce_sum(delta, work.rows() * hidden);
  if (w.attention_out_norm != nullptr) c_.norm_output(work, w.attention_out_norm);
  work.observer.phase_done(Phase::attn_allreduce);
}

void AttentionBlock::attend(const LayerWeights& w, const KvView& cache, Range requests, const Work& work) {
  const std::int64_t q_row = heads() * cached().head_dim, o_row = heads() * cached().v_dim;
  c_.backend.begin_phase(Phase::attn);
  const KvView attended = indexer_ ? indexer_->gathered(cache, requests) : cache.from_request(requests.begin);
  const Range rows = scaled(requests, work.batch.query_tokens);
  BF16* const o = a_.o + rows.begin * o_row;
  float* const lse = a_.lse + rows.begin * heads();
  c_.backend.attention(attended, requests.size(), heads(), scale_, a_.q + rows.begin * q_row, o, lse,
                       c_.scratch);
  // Once for all shards of a sequence.
  if (w.sinks != nullptr) c_.backend.add_sinks(rows.size(), heads(), cached().v_dim, w.sinks, o, lse);
}

const BF16* AttentionBlock::attend_whole(const LayerWeights& w, const KvView& cache, const Work& work) {
  attend(w, cache, {0, work.batch.attended.size()}, work);
  work.observer.phase_done(Phase::attn);
  return a_.o;
}

// HOP-B: the all-to-all of a piece of the batch is on its way while the next pieces are attended. Arrivals
// are merged at the end, when no attention is left to delay and the last piece still travels. In one piece
// there is nothing to overlap with.
const BF16* AttentionBlock::attend_shards(const LayerWeights& w, const KvView& cache, const Work& work) {
  const AttentionPart& part = c_.plan.attention();
  const Pieces pieces = part.pieces(work.batch.attended.size());
  const auto rows_of = [&](Range requests) { return scaled(requests, work.batch.query_tokens); };
  const PartialShape largest = part.partials(rows_of({0, pieces.largest()}).size());
  const auto slot_at = [&](int piece) {
    return static_cast<std::size_t>(piece * largest.parts) * largest.chunk_bytes();
  };
  for (int piece = 0; piece < pieces.count; ++piece) {
    const Range r = rows_of(pieces[piece]);
    const PartialShape shape = part.partials(r.size());
    c_.backend.beside_exchange(piece > 0);
    attend(w, cache, pieces[piece], work);
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
  c_.backend.beside_exchange(false);  // merges are short
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
