// The architectures that a config.json may name, each with what its class in Hugging Face's transformers does.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "roofline/base/json_fields.hpp"
#include "roofline/model/model_spec.hpp"

namespace helix {

struct Family {
  std::string_view model_type;
  void (*read_attention)(const JsonFields&, ModelSpec&);
  void (*read_ffn)(const JsonFields&, ModelSpec&);
  void (*read_layers)(const JsonFields&, ModelSpec&);  // which of them have what
  struct Traits {
    QkNorm qk_norm = QkNorm::none;
    QkNorm asked_qk_norm = QkNorm::heads;  // with use_qk_norm
    bool qkv_bias = false;
    /// What attention_bias, where the class reads it, gives a bias.
    enum class Biased { unknown, qkv, qkv_and_output } attention_bias = Biased::unknown;
    const char* output_bias_key = nullptr;
    bool ffn_bias = false;          // whether the class reads mlp_bias
    bool multipliers = false;       // and Granite's factors
    bool interleaved_rope = false;  // pairs (2i, 2i + 1)
    bool query_growth = false;      // whether the class reads llama_4_scaling_beta
    double partial_rotary = 0.0;    // where the file does not say; 0: the class rotates all of a head
    Blocks blocks = Blocks::sequential;
    NormKind norm = NormKind::rms;
    bool post_norms = false;
    bool tied = false;  // where the file does not say
    // Where the file leaves them out; 0: it must not, but for kv_heads (as many as query heads) and head_dim.
    std::int64_t q_heads = 0, kv_heads = 0, head_dim = 0, vocab = 0, max_position = 0, q_lora_rank = 0;
    double norm_eps = 1e-6, rope_theta = 1e4, attention_multiplier = 0.0;
    double logit_scale = 0.0;        // 0: the class does not read it
    double window_rope_theta = 0.0;  // of layers with a window; 0: they have no RoPE of their own
    bool biased = false;             // attention_bias
    std::int64_t window = 0;         // sliding_window, where not even null is there
    /// What the engine does not do of it, beyond what the readers of its parts say; "" if all of it.
    std::string_view lacks{};
    /// Before everything else: what gives the number of layers.
    void (*read_depth)(const JsonFields&, ModelSpec&) = nullptr;
  } traits{};
};

std::span<const Family> families();

}  // namespace helix
