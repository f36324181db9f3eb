#include "kernels/engine/head_block.hpp"

#include <cstring>

namespace helix {
namespace {

/// Of the parts of the vocabulary.
std::int64_t widest_part(const RankPlan& plan) {
  return even_split(plan.model().vocab, plan.sharding().stage_ranks(), 0).size();
}

}  // namespace

HeadBlock::Arrays::Arrays(Carver& carver, const RankPlan& plan) {
  if (!plan.last_stage()) return;
  const std::int64_t rows = plan.largest().rows().size();
  logits = carver.take<float>(plan.rows() * widest_part(plan));
  top = carver.take<TopLogit>(rows);
  gathered_top = carver.take<TopLogit>(rows * plan.sharding().stage_ranks());
}

HeadBlock::HeadBlock(const BlockContext& context, const Arrays& arrays) : c_(context), a_(arrays) {}

void HeadBlock::embed(const Work& work, const std::int32_t* tokens) {
  const Range vocab = c_.plan.vocab();
  const std::int64_t hidden = c_.plan.model().hidden;
  c_.backend.begin_phase(Phase::head);
  c_.backend.embed(work.rows(), hidden, tokens, c_.weights.embedding(), vocab.begin, vocab.size(),
                   work.stream.delta);
  c_.groups.stage->all_reduce_sum(work.stream.delta, work.rows() * hidden);
  work.observer.phase_done(Phase::head);
}

void HeadBlock::choose(const Work& work, std::int32_t* tokens) {
  c_.backend.begin_phase(Phase::head);
  c_.add_and_norm(work, c_.weights.final_norm());
  if (c_.plan.whole_requests()) c_.gather_normed(work);
  choose(work, c_.normed, tokens);
}

void HeadBlock::choose(const Work& work, const BF16* normed, std::int32_t* tokens) {
  const Range vocab = c_.plan.vocab();
  float* logits = a_.logits + work.batch.rows().begin * vocab.size();
  c_.backend.linear(work.rows(), normed, c_.plan.model().hidden, c_.weights.lm_head(), logits, vocab.size());
  c_.backend.argmax(work.rows(), vocab.size(), logits, vocab.begin, a_.top);
  c_.groups.stage->all_gather(reinterpret_cast<const std::byte*>(a_.top),
                              reinterpret_cast<std::byte*>(a_.gathered_top),
                              static_cast<std::size_t>(work.rows()) * sizeof(TopLogit));
  c_.backend.select_token(c_.groups.stage->size(), work.rows(), a_.gathered_top, tokens);
  work.observer.phase_done(Phase::head);
}

// Outside the timed step, so it may allocate. Ranks hold [rows, vocab part] with parts that differ by a row
// at most.
std::vector<float> HeadBlock::gather_logits(std::int64_t of_rows) const {
  const RankPlan& plan = c_.plan;
  const int ranks = c_.groups.stage->size();
  const auto rows = static_cast<std::size_t>(of_rows);
  const auto vocab = static_cast<std::size_t>(plan.model().vocab);
  const std::size_t chunk = rows * static_cast<std::size_t>(widest_part(plan)) * sizeof(float);
  auto send = c_.backend.allocate(chunk);
  auto recv = c_.backend.allocate(chunk * static_cast<std::size_t>(ranks));
  std::vector<std::byte> host(recv->bytes());
  c_.backend.copy_to_host(host.data(), a_.logits,
                          rows * static_cast<std::size_t>(plan.vocab().size()) * sizeof(float));
  c_.backend.copy_to_device(send->data(), host.data(), chunk);
  c_.groups.stage->all_gather(send->data(), recv->data(), chunk);
  c_.backend.copy_to_host(host.data(), recv->data(), chunk * static_cast<std::size_t>(ranks));

  std::vector<float> logits(rows * vocab);
  for (int r = 0; r < ranks; ++r) {
    const Range part = even_split(plan.model().vocab, ranks, r);
    const auto width = static_cast<std::size_t>(part.size());
    for (std::size_t b = 0; b < rows; ++b) {
      std::memcpy(&logits[b * vocab + static_cast<std::size_t>(part.begin)],
                  host.data() + static_cast<std::size_t>(r) * chunk + b * width * sizeof(float),
                  width * sizeof(float));
    }
  }
  return logits;
}

}  // namespace helix
