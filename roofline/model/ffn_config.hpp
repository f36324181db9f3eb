// The feed-forward part of a Hugging Face config.json: which layers have experts, and how wide they are. All of
// these write spec.ffn, spec.moe and the kinds of spec.layer_kinds, which has an entry for each layer.
#pragma once

#include "roofline/base/json_fields.hpp"
#include "roofline/model/model_spec.hpp"

namespace helix {

void read_dense(const JsonFields& config, ModelSpec& spec);
/// Gemma-3's GeGLU, and what else is Gemma's: gains less 1, scaled embeddings.
void read_gemma3_ffn(const JsonFields& config, ModelSpec& spec);
void read_mixtral_moe(const JsonFields& config, ModelSpec& spec);
/// Qwen2-MoE to Qwen3.5-MoE: perhaps shared experts, dense layers by several fields.
void read_qwen_moe(const JsonFields& config, ModelSpec& spec);
void read_gpt_oss_moe(const JsonFields& config, ModelSpec& spec);
void read_deepseek_v2_moe(const JsonFields& config, ModelSpec& spec);
void read_deepseek_v3_moe(const JsonFields& config, ModelSpec& spec);
void read_deepseek_v4_moe(const JsonFields& config, ModelSpec& spec);
/// DeepSeek's router and shared experts in other models; where the file leaves something out, these differ.
void read_glm_moe(const JsonFields& config, ModelSpec& spec);
void read_glm_lite_moe(const JsonFields& config, ModelSpec& spec);
void read_mistral4_moe(const JsonFields& config, ModelSpec& spec);
void read_dots_moe(const JsonFields& config, ModelSpec& spec);
void read_deepseek_like_moe(const JsonFields& config, ModelSpec& spec);
void read_minimax_moe(const JsonFields& config, ModelSpec& spec);
void read_ernie_moe(const JsonFields& config, ModelSpec& spec);
void read_granite_moe(const JsonFields& config, ModelSpec& spec);
/// Dense, or a dense FFN beside experts in every layer.
void read_gemma4_ffn(const JsonFields& config, ModelSpec& spec);
void read_llama4_moe(const JsonFields& config, ModelSpec& spec);
void read_step_moe(const JsonFields& config, ModelSpec& spec);
void read_kimi_linear_moe(const JsonFields& config, ModelSpec& spec);
/// Not gated; which layers have which comes from their pattern.
void read_nemotron_ffn(const JsonFields& config, ModelSpec& spec);

}  // namespace helix
