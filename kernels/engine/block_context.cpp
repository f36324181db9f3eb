#include "kernels/engine/block_context.hpp"

namespace helix {

void BlockContext::add_and_norm(const Work& work, const BF16* gain, bool replace) const {
  const std::int64_t hidden = plan.model().hidden;
  const Range kept = plan.kept_rows(work.batch);
  const std::int64_t at = kept.begin * hidden;
  const auto op =
      plan.model().norm == NormKind::layer ? &DecodeOps::add_layer_norm : &DecodeOps::add_rms_norm;
  (backend.*op)(kept.size(), hidden, work.stream.delta + at, replace, work.stream.residual + at, gain,
                static_cast<float>(plan.model().norm_eps), normed + at);
}

void BlockContext::norm_output(const Work& work, const BF16* gain) const {
  const std::int64_t hidden = plan.model().hidden;
  const Range kept = plan.kept_rows(work.batch);
  backend.rms_norm_heads(kept.size(), 1, hidden, gain, static_cast<float>(plan.model().norm_eps),
                         {work.stream.delta + kept.begin * hidden, hidden, hidden});
}

void BlockContext::gather_rows(const Work& work, void* data, std::size_t row_bytes) const {
  groups.stage->all_gather_rows(static_cast<std::byte*>(data), work.batch.requests.size(),
                                row_bytes * static_cast<std::size_t>(work.batch.query_tokens));
}

void BlockContext::gather_normed(const Work& work) const {
  gather_rows(work, normed, static_cast<std::size_t>(plan.model().hidden) * sizeof(BF16));
}

const BF16* BlockContext::normed_attended(const Work& work) const {
  return normed + work.batch.attended_rows().begin * plan.model().hidden;
}

}  // namespace helix
