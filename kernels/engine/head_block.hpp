// Both ends of the model, where tokens become rows of the residual stream and rows become tokens: the embedding
// on the first stage, final norm, LM head and the choice of the token on the last. Each rank has a part of the
// vocabulary.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/engine/block_context.hpp"
#include "kernels/ops/memory.hpp"

namespace helix {

class HeadBlock {
 public:
  /// None on stages before the last.
  struct Arrays {
    Arrays(Carver& carver, const RankPlan& plan);

    float* logits = nullptr;           // [rows of a step, the rank's part of the vocabulary]
    TopLogit* top = nullptr;           // [rows] of the largest micro-batch
    TopLogit* gathered_top = nullptr;  // [ranks of the stage, rows]
  };

  HeadBlock(const BlockContext& context, const Arrays& arrays);

  /// `tokens`: those of the micro-batch, in and out.
  void embed(const Work& work, const std::int32_t* tokens);
  void choose(const Work& work, std::int32_t* tokens);
  /// The same from normed rows of all requests.
  void choose(const Work& work, const BF16* normed, std::int32_t* tokens);
  /// Logits of the last choice of so many rows over the whole vocabulary, [rows, vocab]; collective over the last stage.
  std::vector<float> gather_logits(std::int64_t rows) const;

 private:
  BlockContext c_;
  Arrays a_;
};

}  // namespace helix
