// The FFN phase of a layer: the ranks that shared the sequence a moment ago are now a TPF x EP grid (step 8).
// Every rank of it works on all requests. Where ranks attend whole requests alone, each holds the residual
// stream of its own only: their normed rows are gathered before, and the sums scattered after the FFN.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/engine/block_context.hpp"
#include "kernels/ops/memory.hpp"

namespace helix {

class FfnBlock {
 public:
  /// Of the largest micro-batch, but for the routing; null where there is no use for them.
  struct Arrays {
    Arrays(Carver& carver, const RankPlan& plan);

    BF16 *gate_up, *act;              // [rows, columns]
    BF16* shared = nullptr;           // [rows, hidden], of the shared experts
    float* shared_gate = nullptr;     // [rows], of their output
    float* router_logits = nullptr;   // [rows, experts]
    float* router_weights = nullptr;  // [rows, top_k]
    std::int32_t* routing =
        nullptr;  // [layers of the stage and runs of a draft layer, rows of a step, top_k]
  };
  static std::size_t scratch_bytes(const RankPlan& plan, const Backend& backend);

  FfnBlock(const BlockContext& context, const Arrays& arrays);

  /// Leaves in the stream's delta what the block adds to it; of parallel blocks that of attention, too.
  void run(std::int64_t layer, const Work& work);
  /// Experts chosen in a MoE layer of the stage by the last step, [rows, top_k]; of a draft layer by its run `draft`.
  std::vector<std::int32_t> routing(std::int64_t layer, std::int64_t draft = 0) const;

 private:
  void experts(std::int64_t layer, const Work& work);
  void dense(const LayerWeights& w, const Work& work);
  void shared_experts(const LayerWeights& w, const Work& work);
  /// The hidden layer of some rows.
  void activate(const PackedWeight& gate_up, const BF16* bias, Range rows);
  /// Of all requests in a layer.
  std::int32_t* choices(std::int64_t layer, std::int64_t draft) const;

  BlockContext c_;
  Arrays a_;
  RouterShape router_;
};

}  // namespace helix
