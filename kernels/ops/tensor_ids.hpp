// Which synthetic tensor a key belongs to: the `tensor` argument of synthetic::tensor_key. The numbers are
// part of what a seed means, so they are never re-used or re-ordered.
#pragma once

#include <compare>
#include <cstdint>

namespace helix {

enum class Tensor : std::uint32_t {
  history_k = 1,  // key indices: layer, request * global_kv_heads + head
  history_v = 2,
  first_tokens = 3,     // the token each request starts with
  history_index_k = 4,  // keys of an indexer; key indices: layer, request

  // Weights y = W x, [outputs, inputs]. Key indices: layer, and head or expert where the tensor is one per
  // head or expert. Rows of q, k, v and q_b are head * head_dim + d; columns of o are head * v_head_dim + d.
  embedding = 16,    // [vocab, hidden]
  q = 17,            // [q_heads * qk_head_dim, hidden]; MLA: only without q_lora, nope then rope in each head
  k = 18,            // [kv_heads * qk_head_dim, hidden]
  v = 19,            // [kv_heads * v_head_dim, hidden]
  q_a = 20,          // [q_lora_rank, hidden]
  q_b = 21,          // [q_heads * qk_head_dim, q_lora_rank]
  kv_a = 22,         // [kv_lora_rank + qk_rope_head_dim, hidden]
  w_uk = 23,         // per head, [kv_lora_rank, qk_nope_head_dim]: q_latent = w_uk q_nope, k_nope = w_uk^T c
  w_uv = 24,         // per head, [v_head_dim, kv_lora_rank]: v = w_uv c
  o = 25,            // [hidden, q_heads * v_head_dim]
  gate = 26,         // dense FFN: [ffn, hidden]
  up = 27,           // [ffn, hidden]
  down = 28,         // [hidden, ffn]
  router = 29,       // [experts, hidden]
  router_bias = 30,  // [experts], fp32
  expert_gate = 31,  // per expert, [expert_ffn, hidden]
  expert_up = 32,    // per expert, [expert_ffn, hidden]
  expert_down = 33,  // per expert, [hidden, expert_ffn]
  shared_gate = 34,  // [shared_ffn, hidden]
  shared_up = 35,    // [shared_ffn, hidden]
  shared_down = 36,  // [hidden, shared_ffn]
  lm_head = 37,      // [vocab, hidden]; models with tied embeddings use `embedding` instead
  shared_expert_gate = 38,  // [1, hidden]: its sigmoid scales what the shared experts give

  // The indexer of sparse attention. Rows of index_q are head * index_head_dim + d.
  index_q = 41,        // [index_heads * index_head_dim, q_lora_rank]
  index_k = 42,        // [index_head_dim, hidden]
  index_weights = 43,  // [index_heads, hidden]

  // A draft layer has what other layers have, and before them:
  draft_input =
      45,  // [hidden, 2 hidden]: of a token's embedding and, behind it, the residual stream, both normed

  // Gains of norms.
  input_norm = 48,          // [hidden], before the attention
  post_norm = 49,           // [hidden], before the FFN
  final_norm = 50,          // [hidden], layer 0
  q_norm = 51,              // [qk_head_dim], or that of all heads
  k_norm = 52,              // likewise
  q_a_norm = 53,            // [q_lora_rank]
  kv_a_norm = 54,           // [kv_lora_rank]
  index_k_norm = 56,        // [index_head_dim], of a LayerNorm, as the next
  index_k_bias = 57,        // [index_head_dim]
  attention_out_norm = 60,  // [hidden], behind the attention
  ffn_out_norm = 61,        // [hidden], behind the FFN
  draft_token_norm = 84,    // [hidden], of the embedding that a draft layer sees
  draft_stream_norm = 85,   // [hidden], of the residual stream that it sees
  draft_out_norm = 86,      // [hidden], behind it, before the head

  // What is added to the products of these names.
  q_bias = 64,
  k_bias = 65,
  v_bias = 66,
  o_bias = 67,
  gate_bias = 68,
  up_bias = 69,
  down_bias = 70,
  expert_gate_bias = 71,  // [experts, expert_ffn], all in one tensor, as the next
  expert_up_bias = 72,    // [experts, expert_ffn]
  expert_down_bias = 73,  // [experts, hidden]

  sinks = 80,  // [q_heads], fp32
};

/// One tensor of a model: which, of which layer, and of which head or expert where there is one for each.
struct TensorId {
  Tensor tensor{};
  std::int64_t layer = 0, index = 0;
  auto operator<=>(const TensorId&) const = default;
};

}  // namespace helix
