// What a model is: the dimensions of its layers, read from a Hugging Face config.json or
// the built-in catalogue.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "roofline/model/attention_spec.hpp"
#include "roofline/model/precision.hpp"

namespace helix {

enum class RouterKind {
  softmax_topk,  // softmax over all experts, then top-k (Mixtral, Qwen3-MoE, DeepSeek-V2, gpt-oss)
  softmax_grouped,  // softmax, bias for the choice only (ERNIE-4.5), groups of the best experts first (DeepSeek-V2)
  sigmoid_grouped,  // DeepSeek-V3: sigmoid, bias for the choice only, groups of the best pairs first
};

struct MoeSpec {
  std::int64_t experts = 0;  // 0: the model is dense
  std::int64_t top_k = 0;
  std::int64_t expert_ffn = 0;
  std::int64_t shared_experts = 0;
  std::int64_t shared_ffn = 0;          // total width of the shared experts
  std::int64_t expert_hidden = 0;       // width that routed experts work in, 0: the model's
  std::int64_t first_dense_layers = 0;  // where layer_kinds does not say it layer by layer
  RouterKind router = RouterKind::softmax_topk;
  bool normalize_top_k = false;  // weights of the chosen experts sum to 1
  double routed_scaling = 1.0;
  bool biased = false;  // the router's logits and all products of routed experts
  /// How checkpoints have the routed experts: as [experts, inputs, outputs], the outputs of gate and up in turn.
  bool stored_by_inputs = false;
  bool gated_shared = false;  // the output of the shared experts is scaled by a sigmoid of the layer's input
  bool choice_bias = false;   // a bias of each expert counts for its being chosen, not for its weight
  std::int64_t groups = 1;    // softmax_grouped, sigmoid_grouped
  std::int64_t top_groups = 1;

  bool has_router_bias() const { return biased || choice_bias; }
};

/// How gate and up of an FFN become its hidden layer.
struct GatedUnit {
  enum class Kind : std::uint8_t {
    silu,          // silu(gate) up
    clamped_silu,  // gate up to `limit`, up within +-limit: gate sigmoid(alpha gate) (up + 1)
    gelu_tanh,     // gelu(gate) up, by the approximation with tanh
  } kind = Kind::silu;
  double alpha = 1.702, limit = 7.0;  // clamped_silu
  bool operator==(const GatedUnit&) const = default;
};

enum class RopeScalingKind { none, linear, llama3, yarn, longrope };

struct RopeSpec {
  double theta = 10000.0;
  bool interleaved = false;  // pairs (2i, 2i+1) as in DeepSeek, else (i, i + d/2)
  RopeScalingKind scaling = RopeScalingKind::none;
  double factor = 1.0;
  double low_freq_factor = 1.0, high_freq_factor = 4.0;  // llama3
  double beta_fast = 32.0, beta_slow = 1.0;              // yarn
  bool truncate = true;                                  // yarn: its ramp begins and ends at whole pairs
  double mscale = 0.0, mscale_all_dim = 0.0;             // yarn, 0: not given
  std::vector<double> stretches{};                       // longrope: of each pair's wavelength
  double attention_factor = 0.0;                         // yarn, longrope: on cos and sin, 0: not given
  std::int64_t original_max_position = 0;
  /// A query at position p is multiplied by 1 + query_growth * log(1 + floor(p / original_max_position)) (Ministral 3).
  double query_growth = 0.0;
};

/// How attention and FFN of a layer join the residual stream x.
enum class Blocks : std::uint8_t {
  sequential,  // x += attention(norm x), then x += ffn(norm x)
  parallel,    // x += attention(y) + ffn(y) with one y = norm x (Command-R)
};

/// Of the residual stream.
enum class NormKind : std::uint8_t {
  rms,    // RMSNorm
  layer,  // LayerNorm without a bias
};

enum class Mixer : std::uint8_t { attention, state, none };
enum class Ffn : std::uint8_t { dense, moe, none };

/// One kind of layer; a model is a sequence of such kinds.
struct LayerKind {
  Mixer mixer = Mixer::attention;
  Ffn ffn = Ffn::dense;
  std::uint16_t attention = 0;  // 0: ModelSpec::attention, else one of other_attention
  bool moe() const { return ffn == Ffn::moe; }
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
  std::int64_t ffn = 0;    // width of the dense FFN (of the dense first layers in a MoE model)
  bool gated_ffn = true;   // SwiGLU and its like: two products in, one out; else one in, one out
  GatedUnit gated_unit{};  // of all its FFNs
  Blocks blocks = Blocks::sequential;
  NormKind norm = NormKind::rms;
  bool gains_less_one = false;  // the norms' gains are stored less 1
  bool post_norms = false;      // a norm behind attention and FFN, too
  bool ffn_bias = false;        // of the dense FFN's products
  bool tied_embeddings = false;
  double embedding_multiplier = 1.0, residual_multiplier = 1.0;  // of what enters the residual stream
  double logits_divisor = 1.0;
  double norm_eps = 1e-5;
  AttentionSpec attention;                     // of most layers, or of the first
  std::vector<AttentionSpec> other_attention;  // of layers that differ
  std::optional<StateSpec> state;
  MoeSpec moe;
  RopeSpec rope;
  std::optional<RopeSpec> window_rope{};  // of layers with a window, where they have their own
  std::int64_t max_position = 0;          // longest context the model was made for, 0: unknown
  /// One a layer. Empty: all have `attention`, and experts after the first dense layers if the model has any.
  std::vector<LayerKind> layer_kinds;
  /// As the checkpoint stores it: its quantization_config, else bf16.
  WeightPrecision weights;
  DType kv_dtype = DType::bf16;
  std::int64_t draft_layers =
      0;  // that predict further tokens (MTP); a step without drafts does not run them
  std::optional<LayerKind> draft_kind{};  // of them; none: as the last of the others
  /// An Eagle-3 head, which drafts in place of these: with_draft_head.
  std::shared_ptr<const ModelSpec> draft_head{};
  /// What the file has beside the language model and nothing here counts, e.g. "vision_config".
  std::vector<std::string> left_out;
  /// Features that the planner counts but the engine does not run, as "field = value"; empty if it runs.
  std::vector<std::string> not_runnable;

  /// A draft layer has the number behind the last of the others.
  LayerKind layer_kind(std::int64_t layer) const;
  bool has_dense_ffn() const {
    return layer_kinds.empty() ? moe.experts == 0 || moe.first_dense_layers > 0 : ffn > 0;
  }
  /// Whether it has weights of this part.
  bool has_part(WeightPart part) const;
  const AttentionSpec& attention_of(const LayerKind& kind) const {
    return kind.attention == 0 ? attention : other_attention[kind.attention - std::size_t{1}];
  }
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
