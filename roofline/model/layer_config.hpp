// Which layer of a Hugging Face config.json has which attention. All of the readers write spec.layer_kinds and
// spec.other_attention, after spec.attention has been read.
#pragma once

#include <initializer_list>
#include <nlohmann/json_fwd.hpp>
#include <string_view>

#include "roofline/base/json_fields.hpp"
#include "roofline/model/model_spec.hpp"

namespace helix {

/// Throws UsageError if an array has fewer entries than layers; further ones, of draft layers, are not looked at.
void require_entries(const JsonFields& config, const char* key, const nlohmann::json& array,
                     std::int64_t layers);

/// An array with a word for each layer.
class LayerWords {
 public:
  /// Throws UsageError if there are fewer entries than layers.
  LayerWords(const JsonFields& config, const char* key, const nlohmann::json& array, std::int64_t layers);
  std::string_view operator[](std::int64_t layer) const;
  /// Whether it is one of `yes`. Throws UsageError if it is one of neither.
  bool is(std::int64_t layer, std::initializer_list<std::string_view> yes,
          std::initializer_list<std::string_view> no) const;

 private:
  const JsonFields& config_;
  const char* key_;
  const nlohmann::json& array_;
};

/// The same with 0 and 1, or false and true.
class LayerFlags {
 public:
  LayerFlags(const JsonFields& config, const char* key, const nlohmann::json& array, std::int64_t layers);
  bool operator[](std::int64_t layer) const;

 private:
  const JsonFields& config_;
  const char* key_;
  const nlohmann::json& array_;
};

/// Gives a layer this attention, as one of the model's kinds.
void set_attention(ModelSpec& spec, std::int64_t layer, const AttentionSpec& attention);

/// Gives `full` to the layers that layer_types calls full, or else to every `period`-th; the others keep the model's.
void set_full_layers(const JsonFields& config, ModelSpec& spec, const AttentionSpec& full,
                     std::int64_t period);

// Readers for families. Each covers layer_types, where the file has it, and else the rule of its class.
void read_no_windows(const JsonFields& config, ModelSpec& spec);
/// Mistral, Mixtral, Phi-3: sliding_window is that of all layers.
void read_window_of_all(const JsonFields& config, ModelSpec& spec);
/// Qwen2, Qwen3: only with use_sliding_window, from max_window_layers on.
void read_qwen_windows(const JsonFields& config, ModelSpec& spec);
/// gpt-oss, Gemma-2: every other layer, the first one included.
void read_alternate_windows(const JsonFields& config, ModelSpec& spec);
/// EXAONE-4, OLMo-3: every n-th layer is full, by sliding_window_pattern; every fourth in their classes.
void read_patterned_windows(const JsonFields& config, ModelSpec& spec);
/// Gemma-3: every sixth.
void read_gemma3_windows(const JsonFields& config, ModelSpec& spec);
/// Gemma-4: full layers have heads of their own.
void read_gemma4_layers(const JsonFields& config, ModelSpec& spec);
/// SmolLM3: some layers, every fourth if the file does not say, are without RoPE.
void read_layers_without_rope(const JsonFields& config, ModelSpec& spec);
/// Llama-4: layers with RoPE attend to a chunk.
void read_llama4_layers(const JsonFields& config, ModelSpec& spec);
/// MiMo-V2: by hybrid_layer_pattern, with KV heads of their own.
void read_mimo_v2_layers(const JsonFields& config, ModelSpec& spec);
/// Step-3.5: windowed layers may have heads of their own.
void read_step_layers(const JsonFields& config, ModelSpec& spec);

}  // namespace helix
