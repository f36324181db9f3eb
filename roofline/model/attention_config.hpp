// The attention of a Hugging Face config.json.
#pragma once

#include "roofline/base/json_fields.hpp"
#include "roofline/model/model_spec.hpp"

namespace helix {

/// What the fields are called.
struct GqaKeys {
  const char* heads = "num_attention_heads";
  const char* kv_heads = "num_key_value_heads";
  const char* head_dim = "head_dim";
  const char* v_head_dim = nullptr;  // null: as head_dim
};
/// `family` has the values of fields that are absent; 0: the file must have them, but for kv_heads (as many as
/// query heads) and head_dim (hidden / heads).
AttentionSpec gqa_attention(const JsonFields& config, std::int64_t hidden, const AttentionSpec& family,
                            const GqaKeys& keys = {});

/// All of these write spec.attention, which holds the family's traits.
void read_gqa(const JsonFields& config, ModelSpec& spec);
/// The same, with KV heads that may be called num_attention_groups (Step).
/// Gemma-3: query_pre_attn_scalar.
void read_gemma3_gqa(const JsonFields& config, ModelSpec& spec);
/// gpt-oss.
void read_sink_gqa(const JsonFields& config, ModelSpec& spec);
void read_step_gqa(const JsonFields& config, ModelSpec& spec);
/// The same, with a head_dim that may be called attention_head_dim (Nemotron-H).
void read_nemotron_gqa(const JsonFields& config, ModelSpec& spec);
void read_mla(const JsonFields& config, ModelSpec& spec);
/// MLA with an indexer (DeepSeek-V3.2, GLM-5).
void read_sparse_mla(const JsonFields& config, ModelSpec& spec);
void read_glm_sparse_mla(const JsonFields& config, ModelSpec& spec);
/// GQA whose outputs are gated by as many values, where attn_output_gate does not say otherwise (Qwen3-Next).
void read_gated_gqa(const JsonFields& config, ModelSpec& spec);
/// MLA as in Kimi Linear: perhaps gated.
void read_kimi_mla(const JsonFields& config, ModelSpec& spec);
/// DeepSeek-V4: one vector a token is key and value, of low rank are queries and output.
void read_one_vector(const JsonFields& config, ModelSpec& spec);

}  // namespace helix
