#include "roofline/model/model_keys.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace helix {
namespace {

using namespace std::string_view_literals;

constexpr auto harmless = std::to_array<std::string_view>({
    "architectures",
    "auto_map",
    "attribute_map",
    "torch_dtype",
    "dtype",
    "transformers_version",
    "use_cache",
    "name",
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
    "sep_token_id",
    "decoder_start_token_id",
    "unk_token_id",
    "mask_token_id",
    "initializer_range",
    "initializer_factor",
    "init_method",
    "init_std",
    "attention_dropout",
    "hidden_dropout",
    "embedding_dropout",
    "embd_pdrop",
    "resid_pdrop",
    "attn_pdrop",
    "residual_dropout",
    "classifier_dropout",
    "dropout",
    "pretraining_tp",
    "moe_capacity",
    "router_aux_loss_coef",
    "router_z_loss_coef",
    "router_jitter_noise",
    "output_router_logits",
    "aux_loss_alpha",
    "seq_aux",
    "ep_size",
    "max_window_layers",
    "initial_context_length",
    "experts_per_token",
    "use_flash_attention",
    "chat_template",
    "tokenizer_class",
    "id2label",
    "label2id",
    "language",
    "languages",
    "problem_type",
    "return_dict",
    "return_dict_in_generate",
    "output_attentions",
    "output_hidden_states",
    "output_scores",
    "temperature",
    "top_p",
    "top_k",
    "do_sample",
    "max_length",
    "min_length",
    "max_new_tokens",
    "num_beams",
    "num_return_sequences",
    "repetition_penalty",
    "length_penalty",
    "no_repeat_ngram_size",
    "bad_words_ids",
    "task_specific_params",
    "finetuning_task",
    "gradient_checkpointing",
    "is_decoder",
    "model_max_length",
    "torchscript",
    "unsloth_version",
    "unsloth_fixed",
    "use_bfloat16",
    "rms_norm_eps",
    "max_sequence_length",
    "seq_length",
    "vocab_size",
    "pruned_heads",
    "chunk_size_feed_forward",
    "num_key_value_heads",
    "head_dim",
    "qk_head_dim",
    "topk_group",
    "n_group",
    "hidden_act",
    "tie_word_embeddings",
    "quantization",
    "mlp_bias",
    "attn_implementation",
    "cache_implementation",
    "use_mla",
    "model_type",
    "use_qk_norm",
    "image_token_id",
    "video_token_id",
    "vision_start_token_id",
    "vision_end_token_id",
    "intermediate_size",
    "num_beam_groups",
    "typical_p",
    "diversity_penalty",
    "early_stopping",
    "encoder_no_repeat_ngram_size",
    "exponential_decay_length_penalty",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "begin_suppress_tokens",
    "suppress_tokens",
    "remove_invalid_values",
    "prefix",
    "cross_attention_hidden_size",
    "add_cross_attention",
    "tf_legacy_loss",
    "tie_encoder_decoder",
    "ignore_index",
    "use_unified_vision_chunk",
    "video_placeholder",
    "image_token_index",
    "media_placeholder_token_id",
    "rescale_prenorm_residual",
    "residual_in_fp32",
    "max_seq_len",
    "router_dtype",
    "moe_router_dtype",
    "need_fp32_gate",
    "mtp_use_dedicated_embeddings",
    "use_mtp",
    "num_logits_to_keep",
});

/// Not of the language model's own step.
constexpr auto of_other_parts = std::to_array<std::string_view>({
    "vision_config",
    "audio_config",
    "num_nextn_predict_layers",
    "mtp_num_hidden_layers",
    "num_mtp_layers",
    "mtp_config",
    "num_mtp_modules",
    "mtp_transformer_layers",
    "mtp_hybrid_override_pattern",
    "mtp_layers_block_type",
    "mtp_loss_scaling_factor",
    "eagle_config",
});

/// Those of them that count draft layers.
constexpr auto draft_depths = std::to_array<std::string_view>(
    {"num_nextn_predict_layers", "mtp_num_hidden_layers", "num_mtp_layers", "num_mtp_modules"});

/// What a step reads, or how much of it, depends on them.
constexpr auto not_counted = std::to_array<std::string_view>({
    "attention_chunk_size",
    "block_configs",
    "cross_attention_layers",
    "num_local_experts",
    "num_experts",
    "n_routed_experts",
    "draft_vocab_size",
    "index_topk",
    "index_n_heads",
    "index_head_dim",
    "layers_block_type",
    "hybrid_override_pattern",
    "hybrid_layer_pattern",
    "num_kv_shared_layers",
    "hidden_size_per_layer_input",
    "global_head_dim",
    "num_global_key_value_heads",
    "kv_lora_rank",
    "compress_ratios",
    "interleave_moe_layer_step",
    "moe_layers",
    "full_attention_interval",
    "linear_num_value_heads",
    "mamba_num_heads",
    "ssm_state_size",
    "is_encoder_decoder",
    "dual_chunk_attention_config",
    "attn_type_list",
    "linear_attn_config",
    "moe_shared_expert_intermediate_size",
    "shared_expert_intermediate_size",
    "encoder_layers",
    "num_hidden_layers_override",
    "sparse_attention_config",
    "compression_ratio",
    "moe_latent_size",
    "routed_expert_hidden_size",
    "attention_other_setting",
    "swa_num_key_value_heads",
});

bool contains(const auto& keys, std::string_view key) {
  return std::ranges::find(keys, key) != keys.end();
}

/// Values with which a feature is off.
bool says_off(std::string_view key, const nlohmann::json& value) {
  if (value.is_boolean()) return !value.get<bool>();
  if (value.is_string()) return value.get_ref<const std::string&>().empty();
  if (value.is_array() || value.is_object()) return value.empty();
  if (!value.is_number()) return false;
  const auto number = value.get<double>();
  const bool factor = key.ends_with("multiplier") || key.ends_with("factor") || key.ends_with("scaling") ||
                      key.ends_with("scale");
  return number == (factor ? 1 : 0);
}

}  // namespace

void require_language_model(const JsonFields& config) {
  const auto* architectures = config.array("architectures");
  if (!architectures) return;
  for (const auto& entry : *architectures) {
    const std::string name = entry.is_string() ? entry.get<std::string>() : "";
    if (!name.ends_with("ForCausalLM") && !name.ends_with("ForConditionalGeneration")) {
      config.refuse(
          "architectures",
          fmt::format("'{:.60}' is no whole language model; supported: ...ForCausalLM and "
                      "...ForConditionalGeneration{}",
                      name, name.find("Eagle3") == name.npos ? "" : "; a draft head is for --draft-model"));
    }
  }
}

void judge_unread(const JsonFields& config, ModelSpec& spec) {
  for (const std::string& key : config.unread()) {
    const nlohmann::json* value = config.find(key.c_str());
    if (!value || key.starts_with("_") || contains(harmless, key) || says_off(key, *value)) continue;
    if (contains(not_counted, key)) {
      config.refuse(key.c_str(), "not supported by this model_type: what a step reads depends on it");
    }
    if (contains(draft_depths, key) && value->is_number_unsigned())
      spec.draft_layers = std::min(value->get<std::int64_t>(), spec.layers);
    if (contains(of_other_parts, key)) {
      spec.left_out.push_back(config.show(key.c_str()));
    } else {
      spec.not_runnable.emplace_back(config.show(key.c_str()));
    }
  }
}

void judge_unread_around(const JsonFields& config, ModelSpec& spec) {
  constexpr auto of_inputs = std::to_array<std::string_view>(
      {"image", "video", "audio", "vision", "token", "projector", "patch", "spatial"});
  for (const std::string& key : config.unread()) {
    if (std::ranges::any_of(of_inputs, [&](std::string_view word) { return key.find(word) != key.npos; }) &&
        !key.ends_with("_config")) {
      config.find(key.c_str());  // it says how other inputs become tokens
    } else if (key.ends_with("_config") && config.has(key.c_str())) {
      spec.left_out.push_back(config.show(key.c_str()));
    }
  }
  judge_unread(config, spec);
}

}  // namespace helix
