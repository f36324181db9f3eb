#include "kernels/engine/decode_engine.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "kernels/state/weight_plan.hpp"
#include "roofline/base/error.hpp"
#include "roofline/step/draft_ops.hpp"

namespace helix {

namespace {

void require_runnable(const ModelSpec& model, const DecodeShape& shape) {
  if (!model.not_runnable.empty()) {
    throw UsageError("model " + model.name + ": the engine does not run " + model.not_runnable.front() +
                     "; predict counts it");
  }
  if (const std::string reason = why_no_drafts(model, shape); !reason.empty())
    throw UsageError(fmt::format("model {}: {}; predict counts them", model.name, reason));
}

}  // namespace

std::string why_no_drafts(const ModelSpec& model, const DecodeShape& shape) {
  if (shape.draft_tokens == 0) return {};
  if (model.draft_head) return "the engine does not run Eagle-3 heads (--draft-model)";
  const auto windowed = [](const AttentionSpec& attention) { return attention.window > 0; };
  const bool windows = windowed(model.attention) || std::ranges::any_of(model.other_attention, windowed);
  if (!windows && model.attention.indexer.heads == 0) {
    if (!drafts(model, shape) || shape.draft_kv == DraftKv::sharded) return {};
    return "the engine's draft layer attends over all KVP ranks (--draft-kv sharded), not local drafts";
  }
  return fmt::format("the engine does not check drafted tokens in {}, and the step has {}",
                     windows ? "layers with a window" : "sparse attention", shape.draft_tokens);
}

DecodeEngine::Activations::Activations(Carver& carver, const RankPlan& plan, const Backend& backend,
                                       std::int64_t steps)
    : pipeline(carver, plan),
      normed(carver.take<BF16>(plan.largest().rows().size() * plan.model().hidden)),
      attention_out(plan.model().blocks == Blocks::parallel
                        ? carver.take<BF16>(plan.largest().attended_rows().size() * plan.model().hidden)
                        : nullptr),
      attention(carver, plan, backend, steps),
      ffn(carver, plan),
      head(carver, plan),
      draft(carver, plan) {
  const std::size_t scratch_bytes =
      std::max(AttentionBlock::scratch_bytes(plan, backend), FfnBlock::scratch_bytes(plan, backend));
  scratch = {carver.take<std::byte>(static_cast<std::int64_t>(scratch_bytes)), scratch_bytes};
  layout = carver.layout();
}

DecodeEngine::Activations DecodeEngine::carve(const RankPlan& plan, Backend& backend, std::int64_t steps,
                                              std::unique_ptr<Buffer>& memory) {
  require_runnable(plan.model(), plan.shape());
  if (!every_group_attends(plan.sharding(), plan.shape().batch)) {
    throw std::invalid_argument("a DP group without a request");
  }
  ensure(backend, memory, carved_bytes<Activations>(Carver(backend), plan, backend, steps),
         &Backend::allocate_exchanged);
  Carver carver(backend, *memory);
  return Activations(carver, plan, backend, steps);
}

CacheBytes DecodeEngine::cache_bytes(const RankPlan& plan, std::int64_t steps, const Backend& backend) {
  return {.kv = KvCache::bytes_needed(backend, plan.cache_rooms(steps)),
          .index_keys = Indexer::key_bytes(backend, plan, steps)};
}

DecodeEngine::DecodeEngine(const Instance& instance, std::int64_t steps, Backend& backend,
                           const Groups& groups, const WeightStore& weights, EngineMemory& memory)
    : plan_(instance, groups.rank()),
      backend_(backend),
      activations_(carve(plan_, backend, steps, memory.activations)),
      context_{plan_,
               backend,
               groups,
               weights,
               activations_.normed,
               activations_.attention_out,
               activations_.scratch},
      pipeline_(plan_, groups, activations_.pipeline),
      attention_(context_, activations_.attention, steps, memory),
      ffn_(context_, activations_.ffn),
      head_(context_, activations_.head),
      room_(plan_.tokens_with_room(steps)) {
  if (plan_.draft_layer()) draft_.emplace(context_, activations_.draft, attention_, ffn_, head_);
  Buffer& activations = *memory.activations;
  const ExchangedMemory exchanged{.data = activations.data(),
                                  .bytes = activations.bytes(),
                                  .shareable = activations.shareable(),
                                  .layout = activations_.layout};
  for (Communicator* const group : {groups.stage.get(), groups.kvp.get(), groups.pipeline.get()}) {
    const bool in_flight = group == groups.kvp.get() && plan_.attention().hop_b > 1;
    exposures_.push_back(group->expose(exchanged, in_flight));
  }
  rewind();
}

void DecodeEngine::rewind(std::int64_t first_turn) {
  settle();
  attention_.rewind(step_, first_turn);
  if (draft_) draft_->rewind();
  first_turn_ = first_turn;
  step_ = decoded_ = 0;
  accepted_ = 1;
  std::vector<std::int32_t> tokens(static_cast<std::size_t>(plan_.rows()));
  for (std::size_t row = 0; row < tokens.size(); ++row)
    tokens[row] = first_token(plan_.model(), instance().seed(), static_cast<std::int64_t>(row));
  backend_.copy_to_device(pipeline_.tokens(), tokens.data(), tokens.size() * sizeof(std::int32_t));
}

void DecodeEngine::give_tokens(std::span<const std::int32_t> tokens) {
  settle();  // or the last stage's would arrive over them
  backend_.copy_to_device(pipeline_.tokens(), tokens.data(), tokens.size_bytes());
}

void DecodeEngine::accept(std::span<const std::int64_t> tokens) {
  if (step_ == 0) throw std::logic_error("no step whose tokens could be accepted");
  accepted_ = std::ranges::max(tokens);
  attention_.accept(tokens);
  if (draft_) draft_->accept(tokens);
}

DecodeEngine::StepKind DecodeEngine::next_kind() const {
  const std::int64_t tokens = plan_.shape().query_tokens();
  if (decoded_next() + tokens > room_) {
    throw OutOfRoom(fmt::format(
        "the KV cache has room for {} tokens since its rewind, and step {} was asked for behind {}", room_,
        step_ + 1, decoded_next()));
  }
  StepKind kind{.receives_tokens = pipeline_.state().tokens_on_way, .residual = pipeline_.stream().residual};
  for (const CachedLayers& cache : plan_.caches()) {
    kind.appends.push_back(tokens > 1 ? Append::grows
                                      : cache.kept.append(step_, first_turn_, plan_.at().kvp));
  }
  return kind;
}

void DecodeEngine::skip_step() {
  pipeline_.skip_step();
  decoded_ = decoded_next();
  ++step_;
}

void DecodeEngine::restore(const HostState& state) {
  step_ = state.step;
  decoded_ = state.decoded;
  pipeline_.restore(state.pipeline);
}

void DecodeEngine::step(StepObserver& observer, std::optional<std::span<const std::int64_t>> only) {
  const std::vector<Append> appends = next_kind().appends;
  const std::vector<MicroBatch>& micro_batches = plan_.micro_batches();
  observer.step_begin();
  backend_.begin_phase(Phase::head);
  pipeline_.hand_over(0, observer);
  for (now_ = 0; now_ < micro_batches.size(); ++now_) {
    const Work work{micro_batches[now_], pipeline_.stream(), appends, observer};
    if (draft_) {
      draft_->run(work, pipeline_.tokens(work.batch));
    } else {
      attention_.advance(work);
    }
    if (plan_.first_stage()) head_.embed(work, draft_ ? draft_->checked() : pipeline_.tokens(work.batch));
    observer.layers_begin();
    for (std::int64_t layer = plan_.layers().begin; layer < plan_.layers().end; ++layer) {
      if (only && std::ranges::find(*only, layer) == only->end()) continue;
      attention_.run(layer, work);
      ffn_.run(layer, work);
      observer.layer_done(layer);
    }
    if (plan_.last_stage()) head_.choose(work, pipeline_.tokens(work.batch));
    backend_.begin_phase(Phase::head);
    pipeline_.hand_over(now_ + 1, observer);
  }
  backend_.begin_phase({});
  now_ = micro_batches.size() - 1;
  observer.step_end();
  pipeline_.step_done();
  decoded_ = decoded_next();
  ++step_;
}

std::vector<std::int32_t> DecodeEngine::to_host(const std::int32_t* tokens) const {
  std::vector<std::int32_t> copy(static_cast<std::size_t>(plan_.rows()));
  backend_.copy_to_host(copy.data(), tokens, copy.size() * sizeof(std::int32_t));
  return copy;
}

std::vector<std::int32_t> DecodeEngine::tokens() const {
  return to_host(pipeline_.tokens());
}

std::vector<std::int32_t> DecodeEngine::checked_tokens() const {
  return to_host(draft_.value().checked());
}

const MicroBatch& DecodeEngine::current() const {
  const MicroBatch* const drafting = draft_ ? draft_->batch() : nullptr;
  return drafting != nullptr ? *drafting : plan_.micro_batches()[now_];
}

std::vector<BF16> DecodeEngine::block_output() const {
  const std::int64_t hidden = plan_.model().hidden;
  const Range kept = plan_.kept_rows(current());
  std::vector<BF16> delta(static_cast<std::size_t>(kept.size() * hidden));
  backend_.copy_to_host(delta.data(), pipeline_.stream().delta + kept.begin * hidden,
                        delta.size() * sizeof(BF16));
  return delta;
}

std::vector<BF16> DecodeEngine::attention_part() const {
  if (plan_.model().blocks != Blocks::parallel) return {};
  const std::int64_t rows = plan_.micro_batches()[now_].attended_rows().size();
  std::vector<BF16> part(static_cast<std::size_t>(rows * plan_.model().hidden));
  backend_.copy_to_host(part.data(), activations_.attention_out, part.size() * sizeof(BF16));
  return part;
}

Range DecodeEngine::block_requests() const {
  const MicroBatch& batch = current();
  const Range kept = plan_.kept_requests(batch);
  return {batch.requests.begin + kept.begin, batch.requests.begin + kept.end};
}

std::vector<std::int32_t> DecodeEngine::routing(std::int64_t layer) const {
  const bool here = plan_.has_layer(layer) && plan_.has_ffn() && plan_.model().layer_kind(layer).moe();
  return here ? ffn_.routing(layer) : std::vector<std::int32_t>{};
}

std::vector<std::int32_t> DecodeEngine::draft_routing(std::int64_t run) const {
  const std::int64_t layer = plan_.draft_layer().value();
  const bool here = plan_.has_ffn() && plan_.model().layer_kind(layer).moe();
  return here ? ffn_.routing(layer, run) : std::vector<std::int32_t>{};
}

std::vector<std::vector<std::int64_t>> DecodeEngine::attended_positions() const {
  if (!attention_.indexer()) return {};
  const std::int64_t history = plan_.attention().history.size();
  std::vector<std::int64_t> appended;
  for (std::int64_t step = 0; step <= step_; ++step)
    if (append_owner(first_turn_ + step, plan_.shape().tokens_per_block, plan_.sharding().kvp) ==
        plan_.at().kvp)
      appended.push_back(plan_.shape().context + step);
  std::vector<std::vector<std::int64_t>> positions;
  for (const auto& tokens : attention_.indexer()->chosen(plan_.micro_batches()[now_].attended.size())) {
    positions.emplace_back();
    for (const std::int64_t t : tokens)
      positions.back().push_back(t < history ? plan_.attention().history.begin + t
                                             : appended.at(static_cast<std::size_t>(t - history)));
  }
  return positions;
}

Range DecodeEngine::attended_requests() const {
  const MicroBatch& batch = plan_.micro_batches()[now_];
  return {batch.requests.begin + batch.attended.begin, batch.requests.begin + batch.attended.end};
}

std::vector<float> DecodeEngine::gather_logits() const {
  return plan_.last_stage() ? head_.gather_logits(plan_.rows()) : std::vector<float>{};
}

}  // namespace helix
