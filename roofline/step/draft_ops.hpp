// Drafts: the model's own draft layer (multi-token prediction, DeepSeek-V3 2024, section 2.2), or an Eagle-3 head in its
// place, run once for each drafted token: first over all tokens of the last step, whose residual streams are known now,
// with the token that was chosen behind each; then on one token of each request, over what it drafted itself.
#pragma once

#include <vector>

#include "roofline/step/decode_ops.hpp"

namespace helix {

/// Whether the step runs it; drafts of other models are not counted.
inline bool drafts(const ModelSpec& model, const DecodeShape& shape) {
  return shape.draft_tokens > 0 && (model.draft_layers > 0 || model.draft_head);
}
/// Whether the engine runs it: one draft layer, of blocks behind each other, which it has on one pipeline stage.
inline bool runs_drafts(const DecodeStep& step) {
  const auto& [model, sharding, shape] = step;
  return drafts(model, shape) && model.draft_layers == 1 && model.blocks == Blocks::sequential &&
         sharding.pp == 1;
}
/// Whose dimensions the layer has, and which layer it is: the head's only one, or one like the model's last.
inline const ModelSpec& drafter(const ModelSpec& model) {
  return model.draft_head ? *model.draft_head : model;
}
inline LayerKind draft_layer(const ModelSpec& model) {
  return model.draft_head ? model.draft_head->layer_kind(0) : model.layer_kind(model.layers);
}
/// The shape of a run over one token of each request.
inline DecodeShape drafting(DecodeShape shape) {
  shape.draft_tokens = 0;
  return shape;
}

/// How the layer is spread over the ranks, and what its attention sees of a request there (DraftKv); a head's weights are
/// as its own file has them.
struct DraftLayout {
  Sharding sharding;
  DecodeShape shape;
};
DraftLayout draft_layout(const DecodeStep& step);

/// Runs of a step on rows of one shape. Every micro-batch passes through the last stage, which has the layer.
struct DraftRuns {
  Sharding sharding;
  DecodeShape shape;
  double times = 1;
};
std::vector<DraftRuns> draft_runs(const DecodeStep& step);
/// What is before the layer in a run on this shape: the embedding, which it sees beside the residual stream. A head's first
/// run fuses the residual streams behind three of the model's layers to one.
std::vector<Op> draft_input_ops(const DecodeStep& step);
/// And behind it: the choice of one token for each request.
std::vector<Op> draft_head_ops(const DecodeStep& step);

/// Of a head: embedding and LM head of its own, which engines hold beside the model's. `run`: its draft_layout.
double head_table_bytes(const DecodeStep& step);

}  // namespace helix
