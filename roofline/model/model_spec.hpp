// What a model is: the dimensions of its layers, read from a Hugging Face config.json or
// the built-in catalogue.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "roofline/model/precision.hpp"

namespace helix {

enum class AttentionKind { gqa, mla };  // gqa covers MQA (kv_heads = 1) and MHA (kv_heads = q_heads)

struct AttentionSpec {
  AttentionKind kind = AttentionKind::gqa;
  std::int64_t q_heads = 0;
  std::int64_t kv_heads = 0;     // MLA: 1, the latent is shared by all heads
  std::int64_t qk_head_dim = 0;  // per-head width of Q and K; MLA: nope + rope
  std::int64_t v_head_dim = 0;
  bool qk_norm = false;  // RMSNorm per head on Q and K before RoPE (Qwen3)
  bool qkv_bias = false;
  // MLA only.
  std::int64_t q_lora_rank = 0;  // 0: Q is projected in one product
  std::int64_t kv_lora_rank = 0;
  std::int64_t qk_nope_head_dim = 0;
  std::int64_t qk_rope_head_dim = 0;
  /// Of the norms of the low-rank Q and of the latent: whatever rms_norm_eps says, as in DeepSeek's own code.
  static constexpr double latent_norm_eps = 1e-6;

  /// Values cached per token and KV head: 2 * head_dim for GQA (K and V), latent + rope for MLA.
  std::int64_t kv_values_per_token() const;
};

enum class RouterKind {
  softmax_topk,     // softmax over all experts, then top-k (Mixtral, Qwen3-MoE, DeepSeek-V2, gpt-oss)
  sigmoid_grouped,  // DeepSeek-V3: sigmoid, bias for the choice only, best groups first
};

struct MoeSpec {
  std::int64_t experts = 0;  // 0: the model is dense
  std::int64_t top_k = 0;
  std::int64_t expert_ffn = 0;
  std::int64_t shared_experts = 0;
  std::int64_t shared_ffn = 0;  // total width of the shared experts
  std::int64_t first_dense_layers = 0;
  RouterKind router = RouterKind::softmax_topk;
  bool normalize_top_k = false;  // weights of the chosen experts sum to 1
  double routed_scaling = 1.0;
  std::int64_t groups = 1;  // sigmoid_grouped
  std::int64_t top_groups = 1;
};

enum class RopeScalingKind { none, linear, llama3, yarn };

struct RopeSpec {
  double theta = 10000.0;
  bool interleaved = false;  // pairs (2i, 2i+1) as in DeepSeek, else (i, i + d/2)
  RopeScalingKind scaling = RopeScalingKind::none;
  double factor = 1.0;
  double low_freq_factor = 1.0, high_freq_factor = 4.0;  // llama3
  double beta_fast = 32.0, beta_slow = 1.0;              // yarn
  double mscale = 0.0, mscale_all_dim = 0.0;             // yarn, 0: not given
  std::int64_t original_max_position = 0;
};

/// One kind of layer; a model is a sequence of such kinds.
struct LayerKind {
  bool moe = false;
  std::int64_t window = 0;  // sliding-window length in tokens, 0: full attention
  bool operator==(const LayerKind&) const = default;
};

struct LayerGroup {
  LayerKind kind;
  std::int64_t count = 0;
};

struct ModelSpec {
  std::string name;
  std::int64_t hidden = 0;
  std::int64_t layers = 0;
  std::int64_t vocab = 0;
  std::int64_t ffn = 0;  // width of the dense FFN (of the dense first layers in a MoE model)
  bool tied_embeddings = false;
  double rms_eps = 1e-5;
  AttentionSpec attention;
  MoeSpec moe;
  RopeSpec rope;
  std::int64_t max_position = 0;            // longest context the model was made for, 0: unknown
  std::vector<std::int64_t> layer_windows;  // empty: full attention in every layer; else one entry per layer
  /// As the checkpoint stores it: its quantization_config, else bf16.
  WeightPrecision weights;
  DType kv_dtype = DType::bf16;
  /// What the file has beside the language model and nothing here counts, e.g. "vision_config".
  std::vector<std::string> left_out;
  /// Features that the planner counts but the engine does not run, as "field = value"; empty if it runs.
  std::vector<std::string> not_runnable;

  LayerKind layer_kind(std::int64_t layer) const;
  /// Kinds in order of first appearance, with how many of the first `depth` layers are of each kind.
  std::vector<LayerGroup> layer_groups(std::int64_t depth) const;
  std::vector<LayerGroup> layer_groups() const { return layer_groups(layers); }
};

/// `name_or_path`: a built-in name (case-insensitive), a Hugging Face name of such a model
/// ("Qwen/Qwen3-235B-A22B"), a path to a config.json or to a directory with one.
/// Throws UsageError: unknown name (lists the known ones), unreadable file, malformed JSON, a missing or
/// absurd field, an architecture or a field that is not supported (named exactly).
ModelSpec load_model(const std::string& name_or_path);

/// The same from JSON text; `origin` names it in errors.
ModelSpec parse_model(std::string_view json_text, const std::string& origin);

std::vector<std::string> built_in_models();

}  // namespace helix
