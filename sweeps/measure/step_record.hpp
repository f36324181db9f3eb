// What a step's blocks gave and chose, as far as this rank knows it, and from all ranks of the instance.
#pragma once

#include <mpi.h>

#include <cstdint>
#include <map>
#include <span>
#include <utility>
#include <vector>

#include "kernels/engine/decode_engine.hpp"

namespace helix {

class StepRecord final : public StepObserver {
 public:
  explicit StepRecord(const DecodeEngine& engine) : engine_(engine) {}
  void phase_done(Phase phase) override;
  void layer_done(std::int64_t layer) override;
  /// Collective.
  void draft_done(std::int64_t run) override;
  void clear();
  /// Of parallel blocks, what attention adds to a request's rows in these layers: the sum of its ranks' parts, which a
  /// step takes only together with the FFN's. Collective; nothing to do for other models.
  void sum_attention(std::span<const std::int64_t> layers, std::int64_t request, MPI_Comm instance);

  /// What a block adds to the residual stream in a request's rows; empty where it is not on this rank.
  std::span<const BF16> row(std::int64_t layer, bool ffn, std::int64_t request) const;
  /// The same of a run of the draft layer, and its logits of a request.
  std::span<const BF16> draft_row(std::int64_t run, bool ffn, std::int64_t request) const;
  std::span<const float> draft_logits(std::int64_t run, std::int64_t request) const;
  /// Sparse attention: the tokens that a request attends in a layer, on whatever ranks; empty where all are.
  /// Collective.
  std::vector<bool> selection(std::int64_t layer, std::int64_t request, MPI_Comm instance) const;

 private:
  using Block = std::pair<std::int64_t, bool>;  // layer, FFN or attention
  void keep(const Block& block, const std::vector<BF16>& output, const Range& requests);

  /// Runs of the draft layer pass for layers behind it.
  std::int64_t layer_of(std::int64_t run) const { return engine_.instance().model().layers + run; }

  const DecodeEngine& engine_;
  std::vector<std::vector<float>> draft_logits_;
  std::vector<BF16> attention_, ffn_;  // of the layer that runs, as the rest of it
  std::vector<std::vector<std::int64_t>> attended_;
  Range attending_;
  std::map<std::pair<std::int64_t, std::int64_t>, std::vector<std::int64_t>> positions_;  // layer, request
  std::map<std::pair<Block, std::int64_t>, std::vector<BF16>> rows_;
};

/// The experts chosen in a layer by the last step, [rows, top_k]; empty for a dense layer. Collective.
std::vector<std::int32_t> routing_of(const DecodeEngine& engine, std::int64_t layer, MPI_Comm instance);
/// By a run of the draft layer.
std::vector<std::int32_t> draft_routing_of(const DecodeEngine& engine, std::int64_t run, MPI_Comm instance);

}  // namespace helix
