#include "kernels/engine/draft_block.hpp"

#include <utility>
#include <vector>

namespace helix {
namespace {

std::size_t bytes_of(std::int64_t values, std::size_t each) {
  return static_cast<std::size_t>(values) * each;
}

}  // namespace

DraftBlock::Arrays::Arrays(Carver& carver, const RankPlan& plan) {
  if (!plan.draft_layer()) return;
  const std::int64_t requests = plan.shape().batch, rows = plan.rows(), hidden = plan.model().hidden;
  checked = carver.take<std::int32_t>(rows);
  next = carver.take<std::int32_t>(requests);
  drafted = carver.take<std::int32_t>(plan.shape().draft_tokens * requests);
  accepted = carver.take<std::int64_t>(requests);
  pairs = carver.take<BF16>(rows * 2 * hidden);
  stream = carver.take<BF16>(requests * hidden);
  places = {carver.take<std::int64_t>(plan.attended()), carver.take<std::int64_t>(plan.attended()),
            carver.take<std::int64_t>(plan.attended())};
}

std::size_t DraftBlock::array_bytes(const Backend& backend, const RankPlan& plan) {
  return carved_bytes<Arrays>(Carver(backend), plan);
}

DraftBlock::DraftBlock(const BlockContext& context, const Arrays& arrays, AttentionBlock& attention,
                       FfnBlock& ffn, HeadBlock& head)
    : c_(context), a_(arrays), attention_(attention), ffn_(ffn), head_(head) {}

void DraftBlock::rewind() {
  c_.backend.set_bytes(c_.normed, 0, bytes_of(c_.plan.rows() * c_.plan.model().hidden, sizeof(BF16)));
  accept(std::vector<std::int64_t>(static_cast<std::size_t>(c_.plan.shape().batch), 1));
}

void DraftBlock::accept(std::span<const std::int64_t> tokens) {
  c_.backend.copy_to_device(a_.accepted, tokens.data(), tokens.size_bytes());
}

void DraftBlock::run(const Work& work, const std::int32_t* chosen) {
  const std::int64_t tokens = work.batch.query_tokens, requests = work.batch.requests.size();
  const std::int64_t hidden = c_.plan.model().hidden;
  MicroBatch single = work.batch;
  single.query_tokens = 1;
  DraftRun run;
  Work now{work.batch, work.stream, work.appends, work.observer, &run};
  const Work one{single, work.stream, work.appends, work.observer, &run};

  running_ = work.batch;
  run_layer(now, chosen, c_.normed);
  // Of its rows only those of the last accepted tokens are followed by a draft.
  const Range kept = c_.plan.kept_requests(work.batch);
  c_.backend.copy_rows({.rows = kept.size(),
                        .bytes = bytes_of(hidden, sizeof(BF16)),
                        .from = c_.normed + kept.begin * tokens * hidden,
                        .from_stride = bytes_of(tokens * hidden, sizeof(BF16)),
                        .to = a_.stream + kept.begin * hidden,
                        .to_stride = bytes_of(hidden, sizeof(BF16)),
                        .counts = a_.accepted + kept.begin});
  choose(one, a_.stream);
  c_.backend.copy_rows({.rows = requests,
                        .bytes = sizeof(std::int32_t),
                        .from = chosen,
                        .from_stride = bytes_of(tokens, sizeof(std::int32_t)),
                        .to = a_.next,
                        .to_stride = sizeof(std::int32_t),
                        .counts = a_.accepted});
  attention_.advance(work);

  running_ = single;
  run.places = a_.places;
  for (run.number = 1; run.number < c_.plan.shape().draft_tokens; ++run.number) {
    take_places(work, run.number - 1);
    run_layer(one, drafted(run.number - 1), run.number == 1 ? a_.stream : c_.normed);
    choose(one, c_.normed);
  }
  running_.reset();

  for (std::int64_t row = 0; row < tokens; ++row) {
    c_.backend.copy_rows({.rows = requests,
                          .bytes = sizeof(std::int32_t),
                          .from = row == 0 ? a_.next : drafted(row - 1),
                          .from_stride = sizeof(std::int32_t),
                          .to = a_.checked + row,
                          .to_stride = bytes_of(tokens, sizeof(std::int32_t))});
  }
}

// A run over a drafted token stands where the step has its row of it.
void DraftBlock::take_places(const Work& step, std::int64_t row) {
  const RowPlaces all = attention_.places();
  const std::int64_t tokens = step.batch.query_tokens;
  for (const auto& [from, to] : {std::pair{all.positions, a_.places.positions},
                                 {all.slots, a_.places.slots},
                                 {all.lengths, a_.places.lengths}}) {
    c_.backend.copy_rows({.rows = step.batch.attended.size(),
                          .bytes = sizeof(std::int64_t),
                          .from = from + row,
                          .from_stride = bytes_of(tokens, sizeof(std::int64_t)),
                          .to = to,
                          .to_stride = sizeof(std::int64_t)});
  }
}

void DraftBlock::run_layer(const Work& work, const std::int32_t* tokens, const BF16* before) {
  const std::int64_t layer = *c_.plan.draft_layer(), hidden = c_.plan.model().hidden;
  const LayerWeights& w = c_.weights.layer(layer);
  const Range kept = c_.plan.kept_rows(work.batch);
  head_.embed(work, tokens);
  c_.backend.begin_phase(Phase::head);
  BF16* const delta = work.stream.delta + kept.begin * hidden;
  const auto norm = [&](const BF16* x, const BF16* gain, BF16* out) {
    c_.backend.copy_rows({.rows = kept.size(),
                          .bytes = bytes_of(hidden, sizeof(BF16)),
                          .from = x,
                          .from_stride = bytes_of(hidden, sizeof(BF16)),
                          .to = out,
                          .to_stride = bytes_of(2 * hidden, sizeof(BF16))});
    c_.backend.rms_norm_heads(kept.size(), 1, hidden, gain, static_cast<float>(c_.plan.model().norm_eps),
                              {out, 2 * hidden, hidden});
  };
  norm(delta, w.draft_token_norm, a_.pairs);
  norm(before + kept.begin * hidden, w.draft_stream_norm, a_.pairs + hidden);
  c_.backend.linear(kept.size(), a_.pairs, 2 * hidden, w[Weight::draft_input], delta, hidden);
  work.observer.phase_done(Phase::head);
  attention_.run(layer, work);
  ffn_.run(layer, work);
  c_.backend.begin_phase(Phase::head);
  c_.add_and_norm(work, w.draft_out_norm);
}

void DraftBlock::choose(const Work& work, BF16* stream) {
  if (c_.plan.whole_requests()) c_.gather_rows(work, stream, bytes_of(c_.plan.model().hidden, sizeof(BF16)));
  head_.choose(work, stream, drafted(work.draft->number));
  work.observer.draft_done(work.draft->number);
}

}  // namespace helix
