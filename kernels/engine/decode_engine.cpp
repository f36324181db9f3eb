#include "kernels/engine/decode_engine.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <utility>

#include "kernels/state/rope.hpp"
#include "kernels/state/weight_plan.hpp"
#include "roofline/base/error.hpp"

namespace helix {
namespace {

// Appended tokens on each rank: whole rounds of the staggered append, one block a round. That holds these
// many steps whatever rank has the first turn.
std::int64_t growth_tokens(const DecodeShape& shape, int kvp, std::int64_t steps) {
  const std::int64_t round = std::int64_t{kvp} * shape.tokens_per_block;
  return (steps + round - 1) / round * shape.tokens_per_block;
}

std::int64_t attended_requests(const std::vector<MicroBatch>& micro_batches) {
  return micro_batches.back().cached + micro_batches.back().attended.size();
}

LocalHistory local_history(const Sharding& sharding, const DecodeShape& shape, int kvp_index) {
  const Range tokens = history_tokens(shape.context, shape.tokens_per_block, sharding.kvp, kvp_index);
  return {.first_position = tokens.begin, .tokens = tokens.size()};
}

void require_runnable(const ModelSpec& model) {
  if (!model.not_runnable.empty()) {
    throw UsageError("model " + model.name + ": the engine does not run " + model.not_runnable.front() +
                     "; predict counts it");
  }
}

}  // namespace

DecodeEngine::DecodeEngine(const ModelSpec& model, const Sharding& sharding, const DecodeShape& shape,
                           std::int64_t layers, std::int64_t steps, std::uint64_t seed, Backend& backend,
                           const Groups& groups, const WeightStore& weights, EngineMemory& memory)
    : model_(model),
      sharding_(sharding),
      shape_(shape),
      seed_(seed),
      backend_(backend),
      groups_(groups),
      weights_(weights),
      at_(rank_coords(sharding, groups.rank())),
      whole_requests_(attends_whole_requests(sharding)),
      stage_layers_(helix::stage_layers(layers, sharding, at_.pp)),
      micro_batches_(micro_batches(sharding, shape.batch, at_.dp)),
      heads_(query_heads(model, sharding, at_)),
      owned_(owned_heads(model, sharding, at_)),
      kv_heads_(cached_kv_heads(model, sharding, at_)),
      kv_shape_(cached_shape(model, sharding, at_, shape)),
      router_{.kind = model.moe.router,
              .experts = model.moe.experts,
              .top_k = model.moe.top_k,
              .groups = model.moe.groups,
              .top_groups = model.moe.top_groups,
              .normalize = model.moe.normalize_top_k,
              .scaling = static_cast<float>(model.moe.routed_scaling)},
      scale_(static_cast<float>(attention_scale(model))),
      kv_(backend, kv_shape_, stage_layers_.size(), attended_requests(micro_batches_),
          local_history(sharding, shape, at_.kvp), growth_tokens(shape, sharding.kvp, steps), memory.kv),
      growth_tokens_(growth_tokens(shape, sharding.kvp, steps)),
      now_(micro_batches_.front()) {
  require_runnable(model);
  if (now_.attended.size() == 0 || micro_batches_.back().requests.size() < sharding.dp) {
    throw std::invalid_argument("a DP group without a request");
  }
  Carver size(backend);
  layout(size, a_);
  activation_bytes_ = size.used();
  ensure(backend, memory.activations, activation_bytes_, &Backend::allocate_exchanged);
  Carver carver(backend, *memory.activations);
  layout(carver, a_);
  for (Communicator* const group : {groups.stage.get(), groups.kvp.get(), groups.pipeline.get()})
    exposures_.push_back(group->expose(memory.activations->data(), activation_bytes_));

  const bool mla = model.attention.kind == AttentionKind::mla;
  const std::int64_t rope_dim = mla ? model.attention.qk_rope_head_dim : model.attention.qk_head_dim;
  const std::vector<float> frequencies = inv_frequencies(model.rope, rope_dim);
  backend.copy_to_device(a_.inv_freq, frequencies.data(), frequencies.size() * sizeof(float));
  rope_ = {.inv_freq = a_.inv_freq,
           .rope_dim = rope_dim,
           .amplitude = static_cast<float>(rope_amplitude(model.rope)),
           .interleaved = model.rope.interleaved};

  std::vector<Range> cached;
  for (const MicroBatch& m : micro_batches_) {
    cached.push_back({m.requests.begin + m.attended.begin, m.requests.begin + m.attended.end});
  }
  kv_.fill_history(seed, stage_layers_.begin, cached, kv_heads_.begin, model.attention.kv_heads);
  rewind();
}

std::size_t DecodeEngine::kv_bytes_needed(const ModelSpec& model, const Sharding& sharding,
                                          const DecodeShape& shape, std::int64_t layers, std::int64_t steps,
                                          int rank, Backend& backend) {
  const RankCoords at = rank_coords(sharding, rank);
  return KvCache::bytes_needed(
      backend, cached_shape(model, sharding, at, shape), stage_layers(layers, sharding, at.pp).size(),
      attended_requests(micro_batches(sharding, shape.batch, at.dp)),
      local_history(sharding, shape, at.kvp).tokens + growth_tokens(shape, sharding.kvp, steps));
}

// Rows are those of the largest micro-batch: all of its requests, or those that the rank attends.
void DecodeEngine::layout(Carver& carver, Arrays& arrays) {
  const AttentionSpec& a = model_.attention;
  const std::int64_t rows = micro_batches_.front().requests.size();
  const std::int64_t attended = micro_batches_.front().attended.size();
  const std::int64_t hidden = model_.hidden;
  const bool mla = a.kind == AttentionKind::mla;

  arrays.positions = carver.take<std::int64_t>(attended_requests(micro_batches_));
  arrays.tokens = carver.take<std::int32_t>(shape_.batch);
  const auto stream = [&] {
    // One array: a stage hands both on in one message.
    const std::size_t delta_at = (static_cast<std::size_t>(rows * hidden) * sizeof(float) + 63) / 64 * 64;
    stream_bytes_ = delta_at + static_cast<std::size_t>(rows * hidden) * sizeof(BF16);
    auto* const data = carver.take<std::byte>(static_cast<std::int64_t>(stream_bytes_));
    if (data == nullptr) return Stream{};
    return Stream{reinterpret_cast<float*>(data), reinterpret_cast<BF16*>(data + delta_at)};
  };
  arrays.stream = stream();
  if (sharding_.pp > 1) arrays.incoming = stream();
  arrays.normed = carver.take<BF16>(rows * hidden);

  const std::int64_t q_width = heads_.size() * a.qk_head_dim;
  if (mla) {
    arrays.q_a = carver.take<BF16>(attended * a.q_lora_rank);
    arrays.q_heads = carver.take<BF16>(attended * q_width);            // [attended, heads, nope + rope]
    arrays.kv_row = carver.take<BF16>(attended * kv_shape_.head_dim);  // [attended, latent + rope]
    arrays.values = carver.take<BF16>(attended * owned_.size() * a.v_head_dim);
  } else {
    arrays.qkv = carver.take<BF16>(attended * (q_width + kv_heads_.size() * (a.qk_head_dim + a.v_head_dim)));
  }
  arrays.q = carver.take<BF16>(attended * heads_.size() * kv_shape_.head_dim);
  arrays.o = carver.take<BF16>(attended * heads_.size() * kv_shape_.v_dim);
  arrays.lse = carver.take<float>(attended * heads_.size());
  if (sharding_.kvp > 1) {
    const int pieces = hop_pieces(attended);
    const PartialShape largest = partials(even_split(attended, pieces, 0).size());
    const auto packed = pieces * static_cast<std::int64_t>(largest.chunk_bytes()) * largest.parts;
    arrays.send = carver.take<std::byte>(packed);
    arrays.recv = carver.take<std::byte>(packed);
    arrays.merged = carver.take<BF16>(attended * owned_.size() * kv_shape_.v_dim);
  }

  const int parts = sharding_.tpf * sharding_.ep;
  const std::int64_t ffn_columns = std::max(even_split(model_.ffn, parts, 0).size(),
                                            even_split(model_.moe.shared_ffn, shared_parts(), 0).size());
  arrays.gate_up = carver.take<BF16>(rows * 2 * ffn_columns);
  arrays.act = carver.take<BF16>(rows * ffn_columns);
  std::size_t scratch = backend_.attention_scratch_bytes(kv_shape_, attended, heads_.size());
  if (model_.moe.experts > 0) {
    arrays.shared = carver.take<BF16>(rows * hidden);
    arrays.router_logits = carver.take<float>(rows * model_.moe.experts);
    arrays.router_weights = carver.take<float>(rows * model_.moe.top_k);
    arrays.routing = carver.take<std::int32_t>(stage_layers_.size() * shape_.batch * model_.moe.top_k);
    scratch = std::max(scratch,
                       backend_.moe_scratch_bytes(rows, model_.moe.top_k, hidden,
                                                  even_split(model_.moe.expert_ffn, sharding_.tpf, 0).size(),
                                                  even_split(model_.moe.experts, sharding_.ep, 0).size()));
  }

  if (last_stage()) {
    const int ranks = groups_.stage->size();
    arrays.logits = carver.take<float>(shape_.batch * even_split(model_.vocab, ranks, 0).size());
    arrays.top = carver.take<TopLogit>(rows);
    arrays.gathered_top = carver.take<TopLogit>(rows * ranks);
  }
  arrays.scratch = {carver.take<std::byte>(static_cast<std::int64_t>(scratch)), scratch};
  arrays.inv_freq = carver.take<float>(std::max(a.qk_head_dim, a.qk_rope_head_dim));
}

std::int64_t DecodeEngine::steps_before_rewind() const {
  return growth_tokens_ * sharding_.kvp;
}

void DecodeEngine::rewind(std::int64_t first_turn) {
  settle();
  first_turn_ = first_turn;
  step_ = 0;
  kv_.rewind();
  const std::vector<std::int64_t> before_first(static_cast<std::size_t>(attended_requests(micro_batches_)),
                                               shape_.context - 1);
  backend_.copy_to_device(a_.positions, before_first.data(), before_first.size() * sizeof(std::int64_t));
  std::vector<std::int32_t> tokens(static_cast<std::size_t>(shape_.batch));
  for (std::size_t b = 0; b < tokens.size(); ++b)
    tokens[b] = first_token(model_, seed_, static_cast<std::int64_t>(b));
  backend_.copy_to_device(a_.tokens, tokens.data(), tokens.size() * sizeof(std::int32_t));
}

void DecodeEngine::give_tokens(std::span<const std::int32_t> tokens) {
  settle();  // or the last stage's would arrive over them
  backend_.copy_to_device(a_.tokens, tokens.data(), tokens.size_bytes());
}

DecodeEngine::StepKind DecodeEngine::next_kind() const {
  if (step_ >= steps_before_rewind()) {
    throw OutOfRoom(
        fmt::format("the KV cache has room for {} steps since its rewind, and step {} was asked for",
                    steps_before_rewind(), step_ + 1));
  }
  const int owner = append_owner(first_turn_ + step_, shape_.tokens_per_block, sharding_.kvp);
  return {.appends = owner == at_.kvp, .receives_tokens = tokens_on_way_, .residual = a_.stream.residual};
}

void DecodeEngine::skip_step() {
  // hand_over turns to the other input with each micro-batch that it receives.
  if (!first_stage() && micro_batches_.size() % 2 != 0) std::swap(a_.stream, a_.incoming);
  tokens_on_way_ = first_stage() && !last_stage();
  ++step_;
}

void DecodeEngine::step(StepObserver& observer, std::optional<std::span<const std::int64_t>> only) {
  const bool own = next_kind().appends;
  observer.step_begin();
  hand_over(0, observer);
  for (std::size_t m = 0; m < micro_batches_.size(); ++m) {
    now_ = micro_batches_[m];
    backend_.advance(now_.attended.size(), own, a_.positions + now_.cached, kv_.slots() + now_.cached,
                     kv_.lengths() + now_.cached);
    if (first_stage()) embed(observer);
    observer.layers_begin();
    for (std::int64_t layer = stage_layers_.begin; layer < stage_layers_.end; ++layer) {
      if (only && std::ranges::find(*only, layer) == only->end()) continue;
      attention_block(layer, own, observer);
      ffn_block(layer, observer);
      observer.layer_done(layer);
    }
    if (last_stage()) head(observer);
    hand_over(m + 1, observer);
  }
  observer.step_end();
  tokens_on_way_ = first_stage() && !last_stage();
  ++step_;
}

void DecodeEngine::embed(StepObserver& observer) {
  const Range vocab = weights_.vocab();
  backend_.embed(rows(), model_.hidden, a_.tokens + now_.requests.begin, weights_.embedding(), vocab.begin,
                 vocab.size(), a_.stream.delta);
  groups_.stage->all_reduce_sum(a_.stream.delta, rows() * model_.hidden);
  observer.phase_done(Phase::head);
}

void DecodeEngine::head(StepObserver& observer) {
  const Range vocab = weights_.vocab();
  const Range kept = kept_rows();
  const std::int64_t at = kept.begin * model_.hidden;
  float* logits = a_.logits + now_.requests.begin * vocab.size();
  backend_.add_rms_norm(kept.size(), model_.hidden, a_.stream.delta + at, false, a_.stream.residual + at,
                        weights_.final_norm(), static_cast<float>(model_.rms_eps), a_.normed + at);
  if (whole_requests_) gather_rows(a_.normed, static_cast<std::size_t>(model_.hidden) * sizeof(BF16));
  backend_.linear(rows(), a_.normed, model_.hidden, weights_.lm_head(), logits, vocab.size());
  backend_.argmax(rows(), vocab.size(), logits, vocab.begin, a_.top);
  groups_.stage->all_gather(reinterpret_cast<const std::byte*>(a_.top),
                            reinterpret_cast<std::byte*>(a_.gathered_top),
                            static_cast<std::size_t>(rows()) * sizeof(TopLogit));
  backend_.select_token(groups_.stage->size(), rows(), a_.gathered_top, a_.tokens + now_.requests.begin);
  observer.phase_done(Phase::head);
}

// Every rank's rows of the micro-batch, to all ranks.
void DecodeEngine::gather_rows(void* data, std::size_t row_bytes) {
  groups_.stage->all_gather_rows(static_cast<std::byte*>(data), rows(), row_bytes);
}

std::vector<std::int32_t> DecodeEngine::tokens() const {
  std::vector<std::int32_t> tokens(static_cast<std::size_t>(shape_.batch));
  backend_.copy_to_host(tokens.data(), a_.tokens, tokens.size() * sizeof(std::int32_t));
  return tokens;
}

std::vector<BF16> DecodeEngine::block_output() const {
  const Range kept = kept_rows();
  std::vector<BF16> delta(static_cast<std::size_t>(kept.size() * model_.hidden));
  backend_.copy_to_host(delta.data(), a_.stream.delta + kept.begin * model_.hidden,
                        delta.size() * sizeof(BF16));
  return delta;
}

Range DecodeEngine::block_requests() const {
  const Range kept = kept_rows();
  return {now_.requests.begin + kept.begin, now_.requests.begin + kept.end};
}

std::vector<std::int32_t> DecodeEngine::routing(std::int64_t layer) const {
  const bool here = layer >= stage_layers_.begin && layer < stage_layers_.end && has_ffn(sharding_, at_);
  if (!here || !model_.layer_kind(layer).moe()) return {};
  const std::int64_t count = shape_.batch * model_.moe.top_k;
  std::vector<std::int32_t> ids(static_cast<std::size_t>(count));
  backend_.copy_to_host(ids.data(), a_.routing + (layer - stage_layers_.begin) * count,
                        ids.size() * sizeof(std::int32_t));
  return ids;
}

// Outside the timed step, so it may allocate. Ranks hold [batch, vocab part] with parts that differ by a row
// at most.
std::vector<float> DecodeEngine::gather_logits() const {
  if (!last_stage()) return {};
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
