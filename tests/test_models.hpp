// Small models whose widths divide by 1, 2, 3 and 4, so that every grid of so many ranks is legal.
#pragma once

#include <stdexcept>
#include <vector>

#include "roofline/model/model_spec.hpp"
#include "roofline/step/instance.hpp"

namespace helix {

inline ModelSpec divisible(ModelSpec model, std::int64_t kv_heads) {
  model.attention.q_heads = 12;
  model.attention.kv_heads = kv_heads;
  model.ffn = 480;
  if (model.moe.experts > 0) {
    model.moe.experts = 12;
    model.moe.expert_ffn = 96;
    if (model.moe.shared_ffn > 0) model.moe.shared_ffn = 96;
  }
  return model;
}

/// Queries that grow with their positions, as Ministral 3's.
inline ModelSpec with_query_growth(ModelSpec model) {
  model.rope.query_growth = 0.1;
  model.rope.original_max_position = 32;
  return model;
}

/// Biases everywhere, halves of heads rotated and in the last layer none, norms over all heads, Granite's factors.
inline ModelSpec with_biases(ModelSpec model) {
  model.name = "tiny-biases";
  AttentionSpec& a = model.attention;
  a.qkv_bias = a.output_bias = model.ffn_bias = true;
  a.qk_norm = QkNorm::whole;
  a.unrotated = a.qk_head_dim / 2;
  a.multiplier = 0.1;
  model.embedding_multiplier = 1.5;
  model.logits_divisor = 3.0;
  model.other_attention = {a};
  model.other_attention[0].unrotated = a.qk_head_dim;
  model.layer_kinds.assign(static_cast<std::size_t>(model.layers), {});
  model.layer_kinds.back().attention = 1;
  return model;
}

/// Every other layer with a window, the first one included.
inline ModelSpec with_windows(ModelSpec model, std::int64_t window) {
  model.name += "-windows";
  model.other_attention = {model.attention};
  model.other_attention[0].window = window;
  model.layer_kinds.clear();
  for (std::int64_t layer = 0; layer < model.layers; ++layer)
    model.layer_kinds.push_back({.attention = static_cast<std::uint16_t>(layer % 2 == 0)});
  return model;
}

/// Windows of the model's own layers shorter than its file says, that short contexts fill them.
inline ModelSpec with_window(ModelSpec model, std::int64_t window) {
  for (AttentionSpec& other : model.other_attention) other.window = window;
  return model;
}

/// A gate on the shared experts, blocks that are scaled and normed behind, ERNIE-4.5's router.
inline ModelSpec with_gated_shared(ModelSpec model) {
  model.name = "tiny-gated-shared";
  model.moe.shared_experts = 1;
  model.moe.shared_ffn = 96;
  model.moe.gated_shared = true;
  model.moe.router = RouterKind::softmax_grouped;
  model.moe.choice_bias = true;
  model.residual_multiplier = 0.75;
  model.post_norms = true;
  return model;
}

/// Sparse attention that leaves tokens out of short contexts, too.
inline ModelSpec with_top_k(ModelSpec model, std::int64_t top_k) {
  model.attention.indexer.top_k = top_k;
  return model;
}

/// Group sizes 3 and 4 (no power of two, TPA = K = 3), MQA, query/key norms with softmax routing, MLA with
/// and without a low-rank Q, sigmoid group-limited routing, YaRN, llama3 RoPE scaling, dense first layers,
/// shared experts, sparse attention, a window of no whole pages, gpt-oss's sinks, biases and
/// clamps, Gemma's norms and rotations, queries that grow, Command-R's parallel blocks and LayerNorms.
inline std::vector<ModelSpec> small_models() {
  ModelSpec gqa3 = divisible(load_model("tiny-gqa"), 3);
  gqa3.name = "tiny-gqa-k3";
  ModelSpec mqa = divisible(load_model("tiny-gqa"), 1);
  mqa.name = "tiny-mqa";
  return {divisible(load_model("tiny-gqa"), 4),
          with_windows(gqa3, 11),
          mqa,
          with_query_growth(with_biases(divisible(load_model("tiny-gqa"), 4))),
          divisible(load_model("tiny-qwen3-moe"), 2),
          with_gated_shared(divisible(load_model("tiny-qwen3-moe"), 4)),
          with_window(load_model("tiny-gpt-oss"), 6),
          with_window(load_model("tiny-gemma3"), 6),
          load_model("tiny-command-r"),
          divisible(load_model("tiny-mla"), 1),
          divisible(load_model("tiny-mla-lite"), 1),
          with_top_k(divisible(load_model("tiny-dsa"), 1), 13)};
}

/// With a draft layer: latent attention and shared experts, as DeepSeek-V3, and KV heads, as GLM-4.5.
inline std::vector<ModelSpec> drafting_models() {
  ModelSpec gqa = divisible(load_model("tiny-qwen3-moe"), 4);
  gqa.name = "tiny-gqa-mtp";
  gqa.draft_layers = 1;
  return {divisible(load_model("tiny-mtp"), 1), gqa};
}

/// Under whatever strategy it is legal; the reason of the last is thrown where it is under none. `model` must
/// outlive it.
inline Instance legal_instance(const ModelSpec& model, const Sharding& sharding, const DecodeShape& shape,
                               std::int64_t layers, std::uint64_t seed = 5) {
  std::string reason;
  for (const StrategyTraits& row : strategies()) {
    auto made = Instance::make({.model = model,
                                .strategy = row.strategy,
                                .sharding = sharding,
                                .shape = shape,
                                .layers = layers,
                                .seed = seed});
    if (const auto* instance = std::get_if<Instance>(&made)) return *instance;
    reason = std::get<std::string>(made);
  }
  throw std::logic_error(reason);
}
inline Instance legal_instance(const ModelSpec& model, const Sharding& sharding, const DecodeShape& shape) {
  return legal_instance(model, sharding, shape, model.layers);
}

}  // namespace helix
