#include "kernels/decode_engine.hpp"

#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "kernels/rope.hpp"
#include "kernels/weight_plan.hpp"
#include "roofline/error.hpp"

namespace helix {
namespace {

// Room for whole rounds of the staggered append, and for at least this many steps.
constexpr int min_growth_steps = 32;

std::int64_t growth_rounds(const DecodeShape& shape, int kvp) {
  const std::int64_t round = std::int64_t{kvp} * shape.tokens_per_block;
  return (min_growth_steps + round - 1) / round;
}

// On each rank: one block a round.
std::int64_t growth_tokens(const DecodeShape& shape, int kvp) {
  return growth_rounds(shape, kvp) * shape.tokens_per_block;
}

KvShape kv_shape(const ModelSpec& model, const Range& kv_heads, const DecodeShape& shape) {
  const AttentionSpec& a = model.attention;
  const bool mla = a.kind == AttentionKind::mla;
  return {.kind = a.kind,
          .kv_heads = kv_heads.size(),
          .head_dim = mla ? a.kv_lora_rank + a.qk_rope_head_dim : a.qk_head_dim,
          .v_dim = mla ? a.kv_lora_rank : a.v_head_dim,
          .tokens_per_page = shape.tokens_per_block,
          .dtype = shape.kv_dtype};
}

LocalHistory local_history(const Sharding& sharding, const DecodeShape& shape, int kvp_index) {
  const Range tokens = history_tokens(shape.context, shape.tokens_per_block, sharding.kvp, kvp_index);
  return {.first_position = tokens.begin, .tokens = tokens.size()};
}

}  // namespace

void require_runnable(const ModelSpec& model) {
  if (!model.not_runnable.empty()) {
    throw UsageError("model " + model.name + ": the engine does not run " + model.not_runnable.front() +
                     "; predict counts it");
  }
}

DecodeEngine::DecodeEngine(const ModelSpec& model, const Sharding& sharding, const DecodeShape& shape,
                           std::int64_t layers, std::uint64_t seed, Backend& backend, const Groups& groups,
                           const WeightStore& weights, EngineMemory& memory)
    : model_(model),
      sharding_(sharding),
      shape_(shape),
      layers_(layers),
      seed_(seed),
      backend_(backend),
      groups_(groups),
      weights_(weights),
      at_(rank_coords(sharding, groups.stage->rank())),
      heads_(query_heads(model, sharding, at_)),
      owned_(owned_heads(model, sharding, at_)),
      kv_heads_(cached_kv_heads(model, sharding, at_)),
      kv_shape_(kv_shape(model, kv_heads_, shape)),
      partials_{
          .parts = sharding.kvp, .batch = shape.batch, .heads = owned_.size(), .v_dim = kv_shape_.v_dim},
      router_{.kind = model.moe.router,
              .experts = model.moe.experts,
              .top_k = model.moe.top_k,
              .groups = model.moe.groups,
              .top_groups = model.moe.top_groups,
              .normalize = model.moe.normalize_top_k,
              .scaling = static_cast<float>(model.moe.routed_scaling)},
      scale_(static_cast<float>(attention_scale(model))),
      kv_(backend, kv_shape_, layers, shape.batch, local_history(sharding, shape, at_.kvp),
          growth_tokens(shape, sharding.kvp), memory.kv) {
  require_runnable(model);
  if (sharding.dp != 1 || sharding.pp != 1) throw std::invalid_argument("DecodeEngine runs dp = pp = 1");
  Carver size;
  layout(size, a_);
  activation_bytes_ = size.used();
  Carver carver(ensure(backend, memory.activations, activation_bytes_));
  layout(carver, a_);

  const bool mla = model.attention.kind == AttentionKind::mla;
  const std::int64_t rope_dim = mla ? model.attention.qk_rope_head_dim : model.attention.qk_head_dim;
  const std::vector<float> frequencies = inv_frequencies(model.rope, rope_dim);
  backend.copy_to_device(a_.inv_freq, frequencies.data(), frequencies.size() * sizeof(float));
  rope_ = {.inv_freq = a_.inv_freq,
           .rope_dim = rope_dim,
           .amplitude = rope_amplitude(model.rope),
           .interleaved = model.rope.interleaved};

  kv_.fill_history(seed, kv_heads_.begin, model.attention.kv_heads);
  rewind();
}

std::size_t DecodeEngine::kv_bytes_needed(const ModelSpec& model, const Sharding& sharding,
                                          const DecodeShape& shape, std::int64_t layers, int stage_rank,
                                          Backend& backend) {
  const RankCoords at = rank_coords(sharding, stage_rank);
  return KvCache::bytes_needed(
      backend, kv_shape(model, cached_kv_heads(model, sharding, at), shape), layers, shape.batch,
      local_history(sharding, shape, at.kvp).tokens + growth_tokens(shape, sharding.kvp));
}

void DecodeEngine::layout(Carver& carver, Arrays& arrays) const {
  const AttentionSpec& a = model_.attention;
  const std::int64_t batch = shape_.batch;
  const std::int64_t hidden = model_.hidden;
  const bool mla = a.kind == AttentionKind::mla;

  arrays.positions = carver.take<std::int64_t>(batch);
  arrays.tokens = carver.take<std::int32_t>(batch);
  arrays.residual = carver.take<float>(batch * hidden);
  arrays.delta = carver.take<BF16>(batch * hidden);
  arrays.normed = carver.take<BF16>(batch * hidden);

  const std::int64_t q_width = heads_.size() * a.qk_head_dim;
  if (mla) {
    arrays.q_a = carver.take<BF16>(batch * a.q_lora_rank);
    arrays.q_heads = carver.take<BF16>(batch * q_width);            // [batch, heads, nope + rope]
    arrays.kv_row = carver.take<BF16>(batch * kv_shape_.head_dim);  // [batch, latent + rope]
    arrays.values = carver.take<BF16>(batch * owned_.size() * a.v_head_dim);
  } else {
    arrays.qkv = carver.take<BF16>(batch * (q_width + kv_heads_.size() * (a.qk_head_dim + a.v_head_dim)));
  }
  arrays.q = carver.take<BF16>(batch * heads_.size() * kv_shape_.head_dim);
  arrays.o = carver.take<BF16>(batch * heads_.size() * kv_shape_.v_dim);
  arrays.lse = carver.take<float>(batch * heads_.size());
  if (sharding_.kvp > 1) {
    const auto packed = static_cast<std::int64_t>(partials_.chunk_bytes()) * partials_.parts;
    arrays.send = carver.take<std::byte>(packed);
    arrays.recv = carver.take<std::byte>(packed);
    arrays.merged = carver.take<BF16>(batch * owned_.size() * kv_shape_.v_dim);
  }

  const int parts = sharding_.tpf * sharding_.ep;
  const std::int64_t ffn_columns =
      std::max(even_split(model_.ffn, parts, 0).size(), even_split(model_.moe.shared_ffn, parts, 0).size());
  arrays.gate_up = carver.take<BF16>(batch * 2 * ffn_columns);
  arrays.act = carver.take<BF16>(batch * ffn_columns);
  std::size_t scratch = backend_.attention_scratch_bytes(kv_shape_, batch, heads_.size());
  if (model_.moe.experts > 0) {
    arrays.shared = carver.take<BF16>(batch * hidden);
    arrays.router_logits = carver.take<float>(batch * model_.moe.experts);
    arrays.router_weights = carver.take<float>(batch * model_.moe.top_k);
    arrays.routing = carver.take<std::int32_t>(layers_ * batch * model_.moe.top_k);
    scratch = std::max(scratch,
                       backend_.moe_scratch_bytes(batch, model_.moe.top_k, hidden,
                                                  even_split(model_.moe.expert_ffn, sharding_.tpf, 0).size(),
                                                  local_experts(model_, sharding_, at_).size()));
  }

  const std::int64_t ranks = groups_.stage->size();
  arrays.logits = carver.take<float>(batch * even_split(model_.vocab, static_cast<int>(ranks), 0).size());
  arrays.top = carver.take<TopLogit>(batch);
  arrays.gathered_top = carver.take<TopLogit>(batch * ranks);
  arrays.scratch = carver.take<std::byte>(static_cast<std::int64_t>(scratch));
  arrays.inv_freq = carver.take<float>(std::max(a.qk_head_dim, a.qk_rope_head_dim));
}

std::int64_t DecodeEngine::steps_before_rewind() const {
  return growth_tokens(shape_, sharding_.kvp) * sharding_.kvp;
}

void DecodeEngine::rewind() {
  step_ = 0;
  kv_.rewind();
  const auto batch = static_cast<std::size_t>(shape_.batch);
  const std::vector<std::int64_t> before_first(batch, shape_.context - 1);
  backend_.copy_to_device(a_.positions, before_first.data(), batch * sizeof(std::int64_t));
  std::vector<std::int32_t> tokens(batch);
  for (std::size_t b = 0; b < batch; ++b)
    tokens[b] = first_token(model_, seed_, static_cast<std::int64_t>(b));
  backend_.copy_to_device(a_.tokens, tokens.data(), batch * sizeof(std::int32_t));
}

void DecodeEngine::step(StepObserver& observer, std::optional<std::int64_t> depth) {
  const bool own = append_owner(step_, shape_.tokens_per_block, sharding_.kvp) == at_.kvp;
  backend_.advance(shape_.batch, own, a_.positions, kv_.slots(), kv_.lengths());
  embed(observer);
  observer.layers_begin();
  for (std::int64_t layer = 0; layer < depth.value_or(layers_); ++layer) {
    attention_block(layer, observer);
    ffn_block(layer, observer);
    observer.layer_done(layer);
  }
  head(observer);
  ++step_;
}

void DecodeEngine::embed(StepObserver& observer) {
  const Range vocab = weights_.vocab();
  backend_.embed(shape_.batch, model_.hidden, a_.tokens, weights_.embedding(), vocab.begin, vocab.size(),
                 a_.delta);
  groups_.stage->all_reduce_sum(a_.delta, shape_.batch * model_.hidden);
  observer.phase_done(Phase::head);
}

void DecodeEngine::head(StepObserver& observer) {
  const Range vocab = weights_.vocab();
  backend_.add_rms_norm(shape_.batch, model_.hidden, a_.delta, false, a_.residual, weights_.final_norm(),
                        static_cast<float>(model_.rms_eps), a_.normed);
  backend_.linear(shape_.batch, a_.normed, model_.hidden, weights_.lm_head(), a_.logits, vocab.size());
  backend_.argmax(shape_.batch, vocab.size(), a_.logits, vocab.begin, a_.top);
  groups_.stage->all_gather(reinterpret_cast<const std::byte*>(a_.top),
                               reinterpret_cast<std::byte*>(a_.gathered_top),
                               static_cast<std::size_t>(shape_.batch) * sizeof(TopLogit));
  backend_.select_token(groups_.stage->size(), shape_.batch, a_.gathered_top, a_.tokens);
  observer.phase_done(Phase::head);
}

std::vector<std::int32_t> DecodeEngine::tokens() const {
  std::vector<std::int32_t> tokens(static_cast<std::size_t>(shape_.batch));
  backend_.copy_to_host(tokens.data(), a_.tokens, tokens.size() * sizeof(std::int32_t));
  return tokens;
}

std::vector<BF16> DecodeEngine::block_output() const {
  std::vector<BF16> delta(static_cast<std::size_t>(shape_.batch * model_.hidden));
  backend_.copy_to_host(delta.data(), a_.delta, delta.size() * sizeof(BF16));
  return delta;
}

std::vector<std::int32_t> DecodeEngine::routing(std::int64_t layer) const {
  if (!model_.layer_kind(layer).moe) return {};
  const std::int64_t count = shape_.batch * model_.moe.top_k;
  std::vector<std::int32_t> ids(static_cast<std::size_t>(count));
  backend_.copy_to_host(ids.data(), a_.routing + layer * count, ids.size() * sizeof(std::int32_t));
  return ids;
}

// Outside the timed step, so it may allocate. Ranks hold [batch, vocab part] with parts that differ by a row
// at most.
std::vector<float> DecodeEngine::gather_logits() const {
  const int ranks = groups_.stage->size();
  const auto batch = static_cast<std::size_t>(shape_.batch);
  const auto widest = static_cast<std::size_t>(even_split(model_.vocab, ranks, 0).size());
  const std::size_t chunk = batch * widest * sizeof(float);
  auto send = backend_.allocate(chunk);
  auto recv = backend_.allocate(chunk * static_cast<std::size_t>(ranks));
  std::vector<std::byte> host(recv->bytes());
  backend_.copy_to_host(host.data(), a_.logits,
                        batch * static_cast<std::size_t>(weights_.vocab().size()) * sizeof(float));
  backend_.copy_to_device(send->data(), host.data(), chunk);
  groups_.stage->all_gather(send->data(), recv->data(), chunk);
  backend_.copy_to_host(host.data(), recv->data(), chunk * static_cast<std::size_t>(ranks));

  std::vector<float> logits(batch * static_cast<std::size_t>(model_.vocab));
  for (int r = 0; r < ranks; ++r) {
    const Range part = even_split(model_.vocab, ranks, r);
    const auto width = static_cast<std::size_t>(part.size());
    for (std::size_t b = 0; b < batch; ++b) {
      std::memcpy(&logits[b * static_cast<std::size_t>(model_.vocab) + static_cast<std::size_t>(part.begin)],
                  host.data() + static_cast<std::size_t>(r) * chunk + b * width * sizeof(float),
                  width * sizeof(float));
    }
  }
  return logits;
}

}  // namespace helix
