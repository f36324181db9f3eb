// Drafts: a model's own draft layer (multi-token prediction; DeepSeek-V3 2024, section 2.2) says, before a step, which
// tokens the step checks behind each request's next one. As deployed with one such layer, it is run once for each
// drafted token:
//
//   first over all tokens of the last step, whose residual streams are known now: each of them with the token that was
//   chosen behind it; then, one token a request, over what it drafted itself and its own residual stream.
//
// Its cache is one more layer of the model's: what it held of tokens that were rejected, or that were drafted only, is
// written over. Embedding and head are the model's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "kernels/engine/attention_block.hpp"
#include "kernels/engine/block_context.hpp"
#include "kernels/engine/ffn_block.hpp"
#include "kernels/engine/head_block.hpp"
#include "kernels/ops/memory.hpp"

namespace helix {

class DraftBlock {
 public:
  /// None where the rank's plan has no draft layer.
  struct Arrays {
    Arrays(Carver& carver, const RankPlan& plan);

    std::int32_t* checked = nullptr;   // [rows of a step]
    std::int32_t* next = nullptr;      // [requests], behind the last accepted one
    std::int32_t* drafted = nullptr;   // [runs, requests]
    std::int64_t* accepted = nullptr;  // [requests], of the last step's tokens
    BF16* pairs = nullptr;             // [rows, 2 hidden], of embedding and residual stream
    BF16* stream = nullptr;            // [requests, hidden], normed, of the last accepted token
    RowPlaces places;                  // of a row a request
  };

  static std::size_t array_bytes(const Backend& backend, const RankPlan& plan);

  DraftBlock(const BlockContext& context, const Arrays& arrays, AttentionBlock& attention, FfnBlock& ffn,
             HeadBlock& head);

  /// The residual stream behind the history is not known, and taken as 0.
  void rewind();
  void accept(std::span<const std::int64_t> tokens);
  /// Drafts for the next step, and advances the caches to it. `chosen`: by the last step, [rows]; its final norm's
  /// output is what it left in the context's `normed`.
  void run(const Work& work, const std::int32_t* chosen);

  /// What the step checks: [rows], each request's next token and its drafts.
  const std::int32_t* checked() const { return a_.checked; }
  /// While a run is on its way, what it works on.
  const MicroBatch* batch() const { return running_ ? &*running_ : nullptr; }

 private:
  /// The draft layer over tokens and what was normed before them; leaves its own, normed, in the context's.
  void run_layer(const Work& work, const std::int32_t* tokens, const BF16* before);
  void choose(const Work& work, BF16* stream);
  void take_places(const Work& step, std::int64_t row);
  std::int32_t* drafted(std::int64_t run) const { return a_.drafted + run * c_.plan.shape().batch; }

  BlockContext c_;
  Arrays a_;
  AttentionBlock& attention_;
  FfnBlock& ffn_;
  HeadBlock& head_;
  std::optional<MicroBatch> running_;
};

}  // namespace helix
