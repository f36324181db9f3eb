#include "roofline/model/attention_config.hpp"

#include <fmt/format.h>

#include <cmath>

#include "roofline/model/config_limits.hpp"

namespace helix {
namespace {

void require_pairs(const JsonFields& config, const char* key, std::int64_t width) {
  if (width % 2 != 0) config.refuse(key, "expected an even number: RoPE rotates pairs");
}

void read_indexer(const JsonFields& config, IndexerSpec& indexer) {
  indexer.heads = config.whole("index_n_heads", limits::heads);
  indexer.head_dim = config.whole("index_head_dim", limits::head_dim);
  indexer.top_k = config.whole("index_topk", limits::tokens);
}

}  // namespace

AttentionSpec gqa_attention(const JsonFields& config, std::int64_t hidden, const AttentionSpec& family,
                            const GqaKeys& keys) {
  AttentionSpec a = family;
  a.kind = AttentionKind::gqa;
  a.q_heads = family.q_heads > 0 ? config.whole_or(keys.heads, limits::heads, family.q_heads)
                                 : config.whole(keys.heads, limits::heads);
  // A null stands for as many as query heads.
  const bool by_class = !config.names(keys.kv_heads) && family.kv_heads > 0;
  a.kv_heads = config.whole_or(keys.kv_heads, limits::heads, by_class ? family.kv_heads : a.q_heads);
  if (a.q_heads % a.kv_heads != 0) {
    config.refuse(keys.kv_heads, fmt::format("expected a divisor of {} = {}", keys.heads, a.q_heads));
  }
  const bool divided = !config.has(keys.head_dim) && family.qk_head_dim == 0;
  if (divided && hidden % a.q_heads != 0) {
    config.refuse(keys.head_dim, fmt::format("expected it, as hidden_size = {} is no multiple of {} = {}",
                                             hidden, keys.heads, a.q_heads));
  }
  a.qk_head_dim = config.whole_or(keys.head_dim, limits::head_dim,
                                  family.qk_head_dim > 0 ? family.qk_head_dim : hidden / a.q_heads);
  a.v_head_dim =
      keys.v_head_dim ? config.whole_or(keys.v_head_dim, limits::head_dim, a.qk_head_dim) : a.qk_head_dim;
  require_pairs(config, keys.head_dim, a.qk_head_dim);
  return a;
}

void read_gqa(const JsonFields& config, ModelSpec& spec) {
  spec.attention = gqa_attention(config, spec.hidden, spec.attention);
}

void read_gemma3_gqa(const JsonFields& config, ModelSpec& spec) {
  read_gqa(config, spec);
  spec.attention.multiplier = 1.0 / std::sqrt(config.real_or("query_pre_attn_scalar", limits::factor, 256.0));
}

void read_sink_gqa(const JsonFields& config, ModelSpec& spec) {
  read_gqa(config, spec);
  spec.attention.sinks = true;
}

void read_step_gqa(const JsonFields& config, ModelSpec& spec) {
  const char* kv_heads = config.has("num_attention_groups") ? "num_attention_groups" : "num_key_value_heads";
  spec.attention = gqa_attention(config, spec.hidden, spec.attention, {.kv_heads = kv_heads});
}

void read_nemotron_gqa(const JsonFields& config, ModelSpec& spec) {
  const char* head_dim = config.has("attention_head_dim") ? "attention_head_dim" : "head_dim";
  spec.attention = gqa_attention(config, spec.hidden, spec.attention, {.head_dim = head_dim});
}

void read_mla(const JsonFields& config, ModelSpec& spec) {
  AttentionSpec& a = spec.attention;
  a.kind = AttentionKind::mla;
  a.q_heads = config.whole("num_attention_heads", limits::heads);
  a.kv_heads = 1;
  if (config.names("q_lora_rank"))  // a null stands for none
    a.q_lora_rank = config.whole_or("q_lora_rank", limits::or_none(limits::rank), 0);
  a.kv_lora_rank = config.whole("kv_lora_rank", limits::rank);
  a.qk_nope_head_dim = config.whole("qk_nope_head_dim", limits::head_dim);
  a.qk_rope_head_dim = config.whole("qk_rope_head_dim", limits::head_dim);
  a.qk_head_dim = a.qk_nope_head_dim + a.qk_rope_head_dim;
  a.v_head_dim = config.whole("v_head_dim", limits::head_dim);
  require_pairs(config, "qk_rope_head_dim", a.qk_rope_head_dim);
  spec.rope.interleaved = config.flag_or("rope_interleave", true);
}

void read_sparse_mla(const JsonFields& config, ModelSpec& spec) {
  read_mla(config, spec);
  AttentionSpec& a = spec.attention;
  read_indexer(config, a.indexer);
  if (a.indexer.head_dim < a.qk_rope_head_dim) {
    config.refuse("index_head_dim",
                  fmt::format("expected at least qk_rope_head_dim = {}", a.qk_rope_head_dim));
  }
  a.indexer.rope_interleaved = config.flag_or("indexer_rope_interleave", false);
  if (a.q_lora_rank == 0) spec.not_runnable.emplace_back("an indexer without q_lora_rank");
}

void read_glm_sparse_mla(const JsonFields& config, ModelSpec& spec) {
  read_sparse_mla(config, spec);
  spec.attention.indexer.rope_interleaved = config.flag_or("indexer_rope_interleave", true);
}

void read_gated_gqa(const JsonFields& config, ModelSpec& spec) {
  read_gqa(config, spec);
  if (config.flag_or("attn_output_gate", true)) {
    spec.attention.gate_width = spec.attention.v_head_dim;
    spec.not_runnable.emplace_back("gated attention output");
  }
}

void read_kimi_mla(const JsonFields& config, ModelSpec& spec) {
  read_mla(config, spec);
  if (config.flag_or("mla_use_output_gate", false)) {
    spec.attention.gate_width = spec.attention.v_head_dim;
    spec.not_runnable.emplace_back(config.show("mla_use_output_gate"));
  }
  for (const char* key : {"num_key_value_heads", "head_dim"}) config.find(key);  // not MLA's
}

void read_one_vector(const JsonFields& config, ModelSpec& spec) {
  read_gqa(config, spec);
  AttentionSpec& a = spec.attention;
  if (a.kv_heads != 1) config.refuse("num_key_value_heads", "only 1 is supported");
  a.keys_are_values = true;
  a.q_lora_rank = config.whole("q_lora_rank", limits::rank);
  a.qk_rope_head_dim = config.whole("qk_rope_head_dim", limits::head_dim);
  a.output_groups = config.whole("o_groups", limits::heads);
  a.output_rank = config.whole("o_lora_rank", limits::rank);
  if (a.q_heads % a.output_groups != 0) {
    config.refuse("o_groups", fmt::format("expected a divisor of num_attention_heads = {}", a.q_heads));
  }
  a.window = config.whole("sliding_window", limits::tokens);
  spec.not_runnable.emplace_back("compressed attention");
}

}  // namespace helix
