#include "sweeps/measure/step_record.hpp"

#include <algorithm>

#include "kernels/comm/mpi_check.hpp"

namespace helix {

void StepRecord::phase_done(Phase phase) {
  if (phase == Phase::attn_allreduce) {
    attention_ = engine_.block_output();
    attended_ = engine_.attended_positions();
    attending_ = engine_.attended_requests();
  }
  if (phase == Phase::ffn_comm) ffn_ = engine_.block_output();
}

void StepRecord::layer_done(std::int64_t layer) {
  if (engine_.instance().model().blocks == Blocks::parallel) {
    keep({layer, false}, engine_.attention_part(), engine_.attended_requests());
  } else {
    keep({layer, false}, attention_, engine_.block_requests());
  }
  keep({layer, true}, ffn_, engine_.block_requests());
  for (std::size_t r = 0; r < attended_.size(); ++r)
    positions_[{layer, attending_.begin + static_cast<std::int64_t>(r)}] = attended_[r];
}

void StepRecord::draft_done(std::int64_t run) {
  keep({layer_of(run), false}, attention_, engine_.block_requests());
  keep({layer_of(run), true}, ffn_, engine_.block_requests());
  draft_logits_.push_back(engine_.gather_draft_logits());
}

std::span<const BF16> StepRecord::draft_row(std::int64_t run, bool ffn, std::int64_t request) const {
  return row(layer_of(run), ffn, request);
}

std::span<const float> StepRecord::draft_logits(std::int64_t run, std::int64_t request) const {
  const auto vocab = static_cast<std::size_t>(engine_.instance().model().vocab);
  return std::span(draft_logits_.at(static_cast<std::size_t>(run)))
      .subspan(static_cast<std::size_t>(request) * vocab, vocab);
}

void StepRecord::clear() {
  draft_logits_.clear();
  rows_.clear();
  positions_.clear();
}

std::span<const BF16> StepRecord::row(std::int64_t layer, bool ffn, std::int64_t request) const {
  const auto found = rows_.find({{layer, ffn}, request});
  return found == rows_.end() ? std::span<const BF16>{} : found->second;
}

std::vector<bool> StepRecord::selection(std::int64_t layer, std::int64_t request, MPI_Comm instance) const {
  if (engine_.instance().model().attention.indexer.heads == 0) return {};
  const std::int64_t tokens = engine_.instance().shape().context + engine_.steps_done();
  std::vector<std::uint8_t> flags(static_cast<std::size_t>(tokens), 0);
  if (const auto found = positions_.find({layer, request}); found != positions_.end())
    for (const std::int64_t position : found->second) flags.at(static_cast<std::size_t>(position)) = 1;
  HELIX_MPI(MPI_Allreduce(MPI_IN_PLACE, flags.data(), static_cast<int>(flags.size()), MPI_UINT8_T, MPI_MAX,
                          instance));
  return {flags.begin(), flags.end()};
}

void StepRecord::sum_attention(std::span<const std::int64_t> layers, std::int64_t request,
                               MPI_Comm instance) {
  const ModelSpec& model = engine_.instance().model();
  if (model.blocks != Blocks::parallel) return;
  const std::int64_t width = model.hidden * engine_.instance().shape().query_tokens();
  std::vector<float> sums(layers.size() * static_cast<std::size_t>(width));
  for (std::size_t i = 0; i < layers.size(); ++i) {
    const std::span<const BF16> part = row(layers[i], false, request);
    std::ranges::transform(part, sums.begin() + static_cast<std::ptrdiff_t>(i) * width,
                           [](BF16 x) { return to_float(x); });
  }
  HELIX_MPI(
      MPI_Allreduce(MPI_IN_PLACE, sums.data(), static_cast<int>(sums.size()), MPI_FLOAT, MPI_SUM, instance));
  for (std::size_t i = 0; i < layers.size(); ++i) {
    const auto first = sums.begin() + static_cast<std::ptrdiff_t>(i) * width;
    std::vector<BF16>& whole = rows_[{{layers[i], false}, request}];
    whole.resize(static_cast<std::size_t>(width));
    std::transform(first, first + width, whole.begin(), [](float x) { return to_bf16(x); });
  }
}

void StepRecord::keep(const Block& block, const std::vector<BF16>& output, const Range& requests) {
  const auto width = std::ssize(output) / requests.size();
  for (std::int64_t r = 0; r < requests.size(); ++r) {
    rows_[{block, requests.begin + r}].assign(output.begin() + r * width, output.begin() + (r + 1) * width);
  }
}

namespace {

std::vector<std::int32_t> of_all_ranks(const DecodeEngine& engine, std::vector<std::int32_t> ids,
                                       MPI_Comm instance) {
  ids.resize(static_cast<std::size_t>(engine.plan().rows() * engine.instance().model().moe.top_k), -1);
  HELIX_MPI(
      MPI_Allreduce(MPI_IN_PLACE, ids.data(), static_cast<int>(ids.size()), MPI_INT32_T, MPI_MAX, instance));
  return ids;
}

}  // namespace

std::vector<std::int32_t> routing_of(const DecodeEngine& engine, std::int64_t layer, MPI_Comm instance) {
  if (!engine.instance().model().layer_kind(layer).moe()) return {};
  return of_all_ranks(engine, engine.routing(layer), instance);
}

std::vector<std::int32_t> draft_routing_of(const DecodeEngine& engine, std::int64_t run, MPI_Comm instance) {
  const ModelSpec& model = engine.instance().model();
  if (!model.layer_kind(model.layers).moe()) return {};
  return of_all_ranks(engine, engine.draft_routing(run), instance);
}

}  // namespace helix
