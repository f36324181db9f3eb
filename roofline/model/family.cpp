#include "roofline/model/family.hpp"

#include <array>

#include "roofline/model/attention_config.hpp"
#include "roofline/model/ffn_config.hpp"
#include "roofline/model/layer_config.hpp"
#include "roofline/model/state_config.hpp"

namespace helix {
namespace {

constexpr std::string_view layer_norm = "LayerNorm", norm_behind = "norms behind attention and FFN",
                           l2_norm = "L2 norms of Q and K", image_positions = "rotary positions of images";

using Biased = Family::Traits::Biased;
constexpr Biased qkv = Biased::qkv, with_output = Biased::qkv_and_output;

constexpr Family::Traits qwen3(std::int64_t kv_heads) {
  return {.qk_norm = true, .attention_bias = with_output, .kv_heads = kv_heads};
}
constexpr Family::Traits gemma3{.qk_norm = true,
                                .post_norms = true,
                                .tied = true,
                                .q_heads = 8,
                                .kv_heads = 4,
                                .head_dim = 256,
                                .vocab = 262208,
                                .max_position = 131072,
                                .lacks = norm_behind};
constexpr Family::Traits cohere{.parallel_blocks = true, .tied = true, .lacks = "parallel attention and FFN"};
constexpr Family::Traits olmo{.whole_qk_norm = true, .attention_bias = with_output, .lacks = norm_behind};
constexpr Family::Traits granite{.attention_bias = with_output, .ffn_bias = true, .multipliers = true};
constexpr Family::Traits nemotron{.read_depth = read_nemotron_pattern};

constexpr auto table = std::to_array<Family>({
    // GQA and a dense FFN.
    {"llama", read_gqa, read_dense, read_no_windows, {.attention_bias = with_output, .ffn_bias = true}},
    {"mistral", read_gqa, read_dense, read_window_of_all, {.kv_heads = 8}},
    {"ministral", read_gqa, read_dense, read_window_of_all, {.kv_heads = 8}},
    {"ministral3", read_gqa, read_dense, read_window_of_all, {.kv_heads = 8}},
    {"qwen2", read_gqa, read_dense, read_qwen_windows, {.qkv_bias = true, .kv_heads = 32}},
    {"qwen2_5_vl", read_gqa, read_dense, read_qwen_windows, {.qkv_bias = true}},
    {"qwen2_5_vl_text", read_gqa, read_dense, read_qwen_windows, {.qkv_bias = true}},
    {"qwen3", read_gqa, read_dense, read_qwen_windows, qwen3(32)},
    {"qwen3_vl_text", read_gqa, read_dense, read_no_windows, qwen3(32)},
    {"mimo", read_gqa, read_dense, read_qwen_windows, {.qkv_bias = true}},
    {"phi3", read_gqa, read_dense, read_window_of_all, {.partial_rotary = 1.0}},
    {"phi4mm", read_gqa, read_dense, read_window_of_all, {.tied = true}},
    {"glm",
     read_gqa,
     read_dense,
     read_no_windows,
     {.attention_bias = qkv,
      .interleaved_rope = true,
      .partial_rotary = 0.5,
      .kv_heads = 2,
      .head_dim = 128}},
    {"glm4",
     read_gqa,
     read_dense,
     read_no_windows,
     {.attention_bias = qkv,
      .interleaved_rope = true,
      .partial_rotary = 0.5,
      .post_norms = true,
      .kv_heads = 2,
      .head_dim = 128}},
    {"glm4v_text",
     read_gqa,
     read_dense,
     read_no_windows,
     {.attention_bias = qkv,
      .interleaved_rope = true,
      .post_norms = true,
      .kv_heads = 2,
      .lacks = image_positions}},
    {"cohere", read_gqa, read_dense, read_no_windows, cohere},
    {"cohere2", read_gqa, read_dense, read_patterned_windows, cohere},
    {"ernie4_5",
     read_gqa,
     read_dense,
     read_no_windows,
     {.interleaved_rope = true, .tied = true, .kv_heads = 2, .head_dim = 128}},
    {"granite", read_gqa, read_dense, read_no_windows, granite},
    {"seed_oss",
     read_gqa,
     read_dense,
     read_no_windows,
     {.attention_bias = qkv,
      .output_bias_key = "attention_out_bias",
      .ffn_bias = true,
      .kv_heads = 8,
      .head_dim = 128}},
    {"smollm3",
     read_gqa,
     read_dense,
     read_layers_without_rope,
     {.attention_bias = with_output, .ffn_bias = true, .tied = true, .kv_heads = 4}},
    {"olmo2", read_gqa, read_dense, read_no_windows, olmo},
    {"olmo3", read_gqa, read_dense, read_patterned_windows, olmo},
    {"exaone4", read_gqa, read_dense, read_patterned_windows, {.qk_norm = true, .lacks = norm_behind}},
    {"gemma",
     read_gqa,
     read_dense,
     read_no_windows,
     {.tied = true, .kv_heads = 16, .head_dim = 256, .lacks = "scaled embeddings"}},
    {"gemma2",
     read_gqa,
     read_dense,
     read_alternate_windows,
     {.post_norms = true, .tied = true, .kv_heads = 4, .head_dim = 256, .lacks = norm_behind}},
    {"gemma3", read_gqa, read_dense, read_gemma3_windows, gemma3},
    {"gemma3_text", read_gqa, read_dense, read_gemma3_windows, gemma3},
    // GQA and experts.
    {"mixtral", read_gqa, read_mixtral_moe, read_window_of_all, {.kv_heads = 8}},
    {"phimoe", read_gqa, read_mixtral_moe, read_window_of_all, {.kv_heads = 8, .lacks = layer_norm}},
    {"qwen2_moe", read_gqa, read_qwen_moe, read_qwen_windows, {.qkv_bias = true, .kv_heads = 16}},
    {"qwen3_moe", read_gqa, read_qwen_moe, read_qwen_windows, qwen3(4)},
    {"qwen3_vl_moe_text", read_gqa, read_qwen_moe, read_no_windows, qwen3(16)},
    {"gpt_oss",
     read_gqa,
     read_gpt_oss_moe,
     read_alternate_windows,
     {.attention_bias = with_output, .kv_heads = 8}},
    {"glm4_moe",
     read_gqa,
     read_deepseek_like_moe,
     read_no_windows,
     {.attention_bias = qkv, .partial_rotary = 0.5, .kv_heads = 8, .head_dim = 128}},
    {"glm4v_moe_text",
     read_gqa,
     read_deepseek_like_moe,
     read_no_windows,
     {.attention_bias = qkv, .partial_rotary = 0.5, .kv_heads = 8, .lacks = image_positions}},
    {"dots1",
     read_gqa,
     read_deepseek_like_moe,
     read_no_windows,
     {.qk_norm = true, .attention_bias = with_output, .kv_heads = 32}},
    {"minimax_m2",
     read_gqa,
     read_minimax_moe,
     read_no_windows,
     {.whole_qk_norm = true, .partial_rotary = 1.0}},
    {"minimax_m3", read_gqa, read_minimax_moe, read_block_sparse_layers, {.qk_norm = true}},
    {"minimax_m3_vl_text", read_gqa, read_minimax_moe, read_block_sparse_layers, {.qk_norm = true}},
    {"ernie4_5_moe",
     read_gqa,
     read_ernie_moe,
     read_no_windows,
     {.interleaved_rope = true, .tied = true, .kv_heads = 4}},
    {"granitemoe", read_gqa, read_granite_moe, read_no_windows, granite},
    {"granitemoeshared", read_gqa, read_granite_moe, read_no_windows, granite},
    {"gemma4_text",
     read_gqa,
     read_gemma4_ffn,
     read_gemma4_layers,
     {.qk_norm = true,
      .post_norms = true,
      .tied = true,
      .q_heads = 8,
      .kv_heads = 4,
      .head_dim = 256,
      .vocab = 262144,
      .max_position = 131072,
      .lacks = norm_behind}},
    {"llama4_text", read_gqa, read_llama4_moe, read_llama4_layers, {.kv_heads = 8, .lacks = l2_norm}},
    {"exaone_moe",
     read_gqa,
     read_deepseek_like_moe,
     read_patterned_windows,
     {.qk_norm = true, .kv_heads = 8, .head_dim = 128}},
    {"mimo_v2_flash", read_gqa, read_deepseek_like_moe, read_mimo_v2_layers},
    {"mimo_v2", read_gqa, read_deepseek_like_moe, read_mimo_v2_layers},
    {"step3p5", read_step_gqa, read_step_moe, read_step_layers, {.qk_norm = true, .head_dim = 128}},
    {"step3p7", read_step_gqa, read_step_moe, read_step_layers, {.qk_norm = true, .head_dim = 128}},
    // Latent attention.
    {"deepseek_v2", read_mla, read_deepseek_v2_moe, read_no_windows},
    {"deepseek_v3", read_mla, read_deepseek_v3_moe, read_no_windows},
    {"kimi_k2", read_mla, read_deepseek_v3_moe, read_no_windows},
    {"mistral4", read_mla, read_deepseek_like_moe, read_no_windows},
    {"glm4_moe_lite", read_mla, read_deepseek_like_moe, read_no_windows},
    {"deepseek_v32", read_sparse_mla, read_deepseek_v3_moe, read_indexer_layers},
    {"glm_moe_dsa", read_sparse_mla, read_deepseek_v3_moe, read_indexer_layers},
    {"deepseek_v4", read_one_vector, read_deepseek_v4_moe, read_compressed_layers},
    // States.
    {"qwen3_next", read_gated_gqa, read_qwen_moe, read_gated_delta_layers, qwen3(2)},
    {"qwen3_5_text", read_gated_gqa, read_dense, read_gated_delta_layers, qwen3(2)},
    {"qwen3_5_moe_text", read_gated_gqa, read_qwen_moe, read_gated_delta_layers, qwen3(2)},
    {"kimi_linear", read_kimi_mla, read_kimi_linear_moe, read_kimi_linear_layers},
    {"granitemoehybrid", read_gqa, read_granite_moe, read_granite_layers},
    {"nemotron_h", read_nemotron_gqa, read_nemotron_ffn, read_no_windows, nemotron},
});

}  // namespace

std::span<const Family> families() {
  return table;
}

}  // namespace helix
