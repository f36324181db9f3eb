// How the layers of a model mix tokens: attention over a cache that grows, or a state of constant size.
#pragma once

#include <cstdint>

namespace helix {

enum class AttentionKind { gqa, mla };  // gqa covers MQA (kv_heads = 1) and MHA (kv_heads = q_heads)

/// Sparse attention: a scorer with one narrow key per token, which it reads all of, picks what is attended.
struct IndexerSpec {
  std::int64_t heads = 0;         // of its queries; 0: all is attended
  std::int64_t head_dim = 0;      // of its queries and its keys
  std::int64_t top_k = 0;         // cached entries that a query attends
  bool reused = false;            // the choice of an earlier layer serves this one, too: no scorer here
  bool rope_interleaved = false;  // whatever that of the attention is
  static constexpr double key_norm_eps = 1e-6;  // of its keys' LayerNorm, in no file
  bool operator==(const IndexerSpec&) const = default;
};

/// What norms Q and K before RoPE.
enum class QkNorm : std::uint8_t {
  none,
  heads,        // RMSNorm of each head, with the same gains (Qwen3)
  whole,        // RMSNorm of all heads together (MiniMax-M2)
  layer_heads,  // LayerNorm of each head, with gains of its own (Command-R+)
};

struct AttentionSpec {
  AttentionKind kind = AttentionKind::gqa;
  std::int64_t q_heads = 0;
  std::int64_t kv_heads = 0;     // MLA: 1, the latent is shared by all heads
  std::int64_t qk_head_dim = 0;  // per-head width of Q and K; MLA: nope + rope
  std::int64_t v_head_dim = 0;
  QkNorm qk_norm = QkNorm::none;
  bool qkv_bias = false, output_bias = false;
  bool sinks = false;  // a score of each query head, learned, that joins its softmax with no value (gpt-oss)
  std::int64_t unrotated = 0;  // values of a head, the last ones, that RoPE leaves as they are: GQA only
  double multiplier = 0.0;     // of the scores, 0: 1 / sqrt(qk_head_dim)
  // MLA only.
  std::int64_t q_lora_rank = 0;  // 0: Q is projected in one product; of compressed attention, too
  std::int64_t kv_lora_rank = 0;
  std::int64_t qk_nope_head_dim = 0;
  std::int64_t qk_rope_head_dim = 0;
  /// Of the norms of the low-rank Q and of the latent: whatever rms_norm_eps says, as in DeepSeek's own code.
  static constexpr double latent_norm_eps = 1e-6;

  // What is cached and attended.
  std::int64_t window = 0;       // tokens that are looked back on, 0: all
  bool chunked = false;          // the window does not slide: it begins anew after every `window` tokens
  std::int64_t compression = 0;  // beyond the window one cached entry stands for so many tokens, 0: none
  bool borrows_kv = false;       // attends over the cache of an earlier layer
  bool keys_are_values = false;  // one cached vector is both
  IndexerSpec indexer{};

  // Further projections.
  std::int64_t input_width = 0;    // of what Q, K and V are made of, 0: the model's hidden size
  bool values_from_keys = false;   // V is what W_K gives, cached apart
  std::int64_t gate_width = 0;     // values per head that gate its output, projected from the layer's input
  std::int64_t output_groups = 0;  // the output is projected per group of heads first, to output_rank each
  std::int64_t output_rank = 0;

  /// Values cached per token and KV head: 2 * head_dim for GQA (K and V), latent + rope for MLA.
  std::int64_t kv_values_per_token() const {
    if (kind == AttentionKind::mla) return kv_lora_rank + qk_rope_head_dim;
    return keys_are_values ? qk_head_dim : qk_head_dim + v_head_dim;
  }
  /// Values of a head of Q and K that RoPE turns.
  std::int64_t rope_dim() const {
    return kind == AttentionKind::mla ? qk_rope_head_dim : qk_head_dim - unrotated;
  }
  /// Gains of the norm of Q, or of K, that has so many heads.
  std::int64_t qk_gains(std::int64_t heads) const {
    return (qk_norm == QkNorm::heads ? 1 : heads) * qk_head_dim;
  }
  bool operator==(const AttentionSpec&) const = default;
};

enum class StateKind { gated_delta_net, kimi_delta_attention, mamba2 };

/// A state of [heads, key_dim, value_dim] per request, read and written by each step, and the last inputs of
/// a short convolution over time.
struct StateSpec {
  StateKind kind = StateKind::gated_delta_net;
  std::int64_t heads = 0;
  std::int64_t key_heads = 0;  // heads of queries and keys (Mamba-2: groups of B and C)
  std::int64_t key_dim = 0;
  std::int64_t value_dim = 0;
  std::int64_t conv_kernel = 0;    // steps that the convolution sees, this one included
  bool full_rank_gate = false;     // kimi_delta_attention: its output gate is one product
  double state_value_bytes = 4.0;  // fp32, but for files that say otherwise
  bool operator==(const StateSpec&) const = default;
};

}  // namespace helix
