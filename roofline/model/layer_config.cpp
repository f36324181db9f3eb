#include "roofline/model/layer_config.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "roofline/model/attention_config.hpp"
#include "roofline/model/config_limits.hpp"

namespace helix {
namespace {

AttentionSpec windowed(AttentionSpec attention, std::int64_t window) {
  attention.window = window;
  return attention;
}

/// Gives `local` to the layers that layer_types, or else `rule`, says have a window.
template <class Rule>
void read_windows(const JsonFields& config, ModelSpec& spec, const AttentionSpec& local, Rule rule) {
  const auto* types = config.array("layer_types");
  for (std::int64_t layer = 0; layer < spec.layers; ++layer) {
    const bool has_window =
        types ? LayerWords(config, "layer_types", *types, spec.layers)
                    .is(layer, {"sliding_attention", "hybrid_sliding"}, {"full_attention", "hybrid"})
              : rule(layer);
    if (!has_window) continue;
    if (types && local.window == 0) config.refuse("sliding_window", "expected the window of layer_types");
    if (local.window == 0) continue;
    set_attention(spec, layer, local);
  }
}

std::int64_t window_of(const JsonFields& config) {
  config.find("sliding_window_size");  // the same again
  return config.whole_or("sliding_window", limits::or_none(limits::tokens), 0);
}

/// Every so many layers one is full; 0: all are.
void read_windows_by_period(const JsonFields& config, ModelSpec& spec, std::int64_t period_of_class) {
  std::int64_t period = period_of_class;
  const auto* pattern = config.find("sliding_window_pattern");
  if (pattern && pattern->is_string()) {  // "LLLG"
    period = static_cast<std::int64_t>(pattern->get_ref<const std::string&>().size());
  } else {
    period = config.whole_or("sliding_window_pattern", limits::or_none(limits::layers), period_of_class);
  }
  read_windows(config, spec, windowed(spec.attention, window_of(config)),
               [&](std::int64_t layer) { return period > 0 && (layer + 1) % period != 0; });
}

}  // namespace

void require_entries(const JsonFields& config, const char* key, const nlohmann::json& array,
                     std::int64_t layers) {
  if (!array.is_array() || array.size() < static_cast<std::size_t>(layers))
    config.refuse(key, fmt::format("expected {} entries, one for each layer", layers));
}

LayerWords::LayerWords(const JsonFields& config, const char* key, const nlohmann::json& array,
                       std::int64_t layers)
    : config_(config), key_(key), array_(array) {
  require_entries(config, key, array, layers);
}

std::string_view LayerWords::operator[](std::int64_t layer) const {
  const auto& entry = array_[static_cast<std::size_t>(layer)];
  if (!entry.is_string()) config_.refuse(key_, "expected an array of strings");
  return entry.get_ref<const std::string&>();
}

bool LayerWords::is(std::int64_t layer, std::initializer_list<std::string_view> yes,
                    std::initializer_list<std::string_view> no) const {
  const std::string_view word = (*this)[layer];
  if (std::ranges::find(yes, word) != yes.end()) return true;
  if (std::ranges::find(no, word) == no.end()) {
    config_.refuse(key_, fmt::format("'{:.40}' of layer {} is not supported; supported: {}, {}", word, layer,
                                     fmt::join(yes, ", "), fmt::join(no, ", ")));
  }
  return false;
}

LayerFlags::LayerFlags(const JsonFields& config, const char* key, const nlohmann::json& array,
                       std::int64_t layers)
    : config_(config), key_(key), array_(array) {
  require_entries(config, key, array, layers);
}

bool LayerFlags::operator[](std::int64_t layer) const {
  const auto& entry = array_[static_cast<std::size_t>(layer)];
  if (entry.is_boolean()) return entry.get<bool>();
  if (entry == 0 || entry == 1) return entry == 1;
  config_.refuse(key_, "expected an array of 0 and 1");
}

void set_attention(ModelSpec& spec, std::int64_t layer, const AttentionSpec& attention) {
  LayerKind& kind = spec.layer_kinds[static_cast<std::size_t>(layer)];
  kind.mixer = Mixer::attention;
  kind.attention = 0;
  if (attention == spec.attention) return;
  auto found = std::ranges::find(spec.other_attention, attention);
  if (found == spec.other_attention.end()) found = spec.other_attention.insert(found, attention);
  kind.attention = static_cast<std::uint16_t>(found - spec.other_attention.begin() + 1);
}

void set_full_layers(const JsonFields& config, ModelSpec& spec, const AttentionSpec& full,
                     std::int64_t period) {
  const auto* types = config.array("layer_types");
  for (std::int64_t layer = 0; layer < spec.layers; ++layer) {
    const bool local = types ? LayerWords(config, "layer_types", *types, spec.layers)
                                   .is(layer, {"sliding_attention"}, {"full_attention"})
                             : (layer + 1) % period != 0;
    if (!local) set_attention(spec, layer, full);
  }
}

void read_no_windows(const JsonFields& config, ModelSpec& spec) {
  config.find("sliding_window");  // Hugging Face does not read it in such a class
  config.find("use_sliding_window");
  if (config.has("layer_types")) {
    read_windows(config, spec, windowed(spec.attention, window_of(config)),
                 [](std::int64_t) { return false; });
  }
}

void read_window_of_all(const JsonFields& config, ModelSpec& spec) {
  const bool used = config.flag_or("use_sliding_window", true);
  const std::int64_t given = window_of(config);
  const std::int64_t window = config.names("sliding_window") ? given : spec.attention.window;
  spec.attention.window = 0;
  const AttentionSpec local = windowed(spec.attention, used ? window : 0);
  if (config.has("layer_types") || local.window == 0) {
    read_windows(config, spec, local, [](std::int64_t) { return false; });
  } else {
    spec.attention = local;
  }
}

void read_qwen_windows(const JsonFields& config, ModelSpec& spec) {
  const bool used = config.flag_or("use_sliding_window", false);
  const std::int64_t window = window_of(config);
  const std::int64_t first =
      config.whole_or("max_window_layers", limits::or_none(limits::layers), spec.layers);
  if (!used) {
    config.find("layer_types");
    return;
  }
  read_windows(config, spec, windowed(spec.attention, window),
               [&](std::int64_t layer) { return layer >= first; });
}

void read_alternate_windows(const JsonFields& config, ModelSpec& spec) {
  read_windows(config, spec, windowed(spec.attention, window_of(config)),
               [](std::int64_t layer) { return layer % 2 == 0; });
}

void read_patterned_windows(const JsonFields& config, ModelSpec& spec) {
  read_windows_by_period(config, spec, 4);
}

void read_gemma3_windows(const JsonFields& config, ModelSpec& spec) {
  read_windows_by_period(config, spec, 6);
}

void read_gemma4_layers(const JsonFields& config, ModelSpec& spec) {
  AttentionSpec full = spec.attention;
  constexpr std::int64_t wide_head = 512;
  full.qk_head_dim = full.v_head_dim = config.whole_or("global_head_dim", limits::head_dim, wide_head);
  const bool shared_projection = config.flag_or("attention_k_eq_v", false);
  if (shared_projection) {
    full.values_from_keys = true;
    full.kv_heads = config.whole_or("num_global_key_value_heads", limits::heads, full.kv_heads);
  } else {
    config.find("num_global_key_value_heads");
  }
  constexpr std::int64_t window_of_class = 512, period = 6;
  const std::int64_t window = config.whole_or("sliding_window", limits::tokens, window_of_class);
  spec.attention.window = window;
  set_full_layers(config, spec, full, period);
  config.find("vocab_size_per_layer_input");  // of hidden_size_per_layer_input
  config.find("use_bidirectional_attention");
}

void read_layers_without_rope(const JsonFields& config, ModelSpec& spec) {
  AttentionSpec unrotated = spec.attention;
  unrotated.unrotated = unrotated.qk_head_dim;
  const std::int64_t interval = config.whole_or("no_rope_layer_interval", limits::layers, 4);
  const auto* rotated = config.array("no_rope_layers");  // despite its name, 1 where there is RoPE
  for (std::int64_t layer = 0; layer < spec.layers; ++layer) {
    const bool has_rope = rotated ? LayerFlags(config, "no_rope_layers", *rotated, spec.layers)[layer]
                                  : (layer + 1) % interval != 0;
    if (!has_rope) set_attention(spec, layer, unrotated);
  }
  if (config.flag_or("use_sliding_window", false)) {
    spec.not_runnable.emplace_back(config.show("use_sliding_window"));
  } else {
    for (const char* key : {"sliding_window", "layer_types"}) config.find(key);
  }
}

void read_llama4_layers(const JsonFields& config, ModelSpec& spec) {
  constexpr std::int64_t chunk_of_class = 8192, nope_interval = 4;
  AttentionSpec chunk =
      windowed(spec.attention, config.whole_or("attention_chunk_size", limits::tokens, chunk_of_class));
  chunk.chunked = true;
  const std::int64_t interval = config.whole_or("no_rope_layer_interval", limits::layers, nope_interval);
  const auto* rotated = config.array("no_rope_layers");  // despite its name, 1 where there is RoPE
  const bool by_layer = rotated && !rotated->empty();
  const auto* types = config.array("layer_types");
  for (std::int64_t layer = 0; layer < spec.layers; ++layer) {
    const bool has_rope = by_layer ? LayerFlags(config, "no_rope_layers", *rotated, spec.layers)[layer]
                                   : (layer + 1) % interval != 0;
    const bool local = types ? LayerWords(config, "layer_types", *types, spec.layers)
                                   .is(layer, {"chunked_attention"}, {"full_attention"})
                             : has_rope;
    if (local) set_attention(spec, layer, chunk);
  }
  spec.not_runnable.emplace_back(config.show("attention_chunk_size"));
}

void read_mimo_v2_layers(const JsonFields& config, ModelSpec& spec) {
  spec.attention.v_head_dim = config.whole_or("v_head_dim", limits::head_dim, spec.attention.qk_head_dim);
  AttentionSpec local = gqa_attention(config, spec.hidden, spec.attention,
                                      {.heads = "swa_num_attention_heads",
                                       .kv_heads = "swa_num_key_value_heads",
                                       .head_dim = "swa_head_dim",
                                       .v_head_dim = "swa_v_head_dim"});
  local.window = window_of(config);
  config.find("attention_chunk_size");  // the window again
  const auto* pattern = config.array("hybrid_layer_pattern");
  if (pattern) {
    for (std::int64_t layer = 0; layer < spec.layers; ++layer) {
      if (LayerFlags(config, "hybrid_layer_pattern", *pattern, spec.layers)[layer])
        set_attention(spec, layer, local);
    }
  } else {
    read_windows(config, spec, local, [](std::int64_t) { return false; });
  }
}

void read_step_layers(const JsonFields& config, ModelSpec& spec) {
  if (config.flag_or("use_head_wise_attn_gate", false)) {
    spec.attention.gate_width = 1;
    spec.not_runnable.emplace_back(config.show("use_head_wise_attn_gate"));
  }
  AttentionSpec local = spec.attention;
  if (const auto other = config.object("attention_other_setting")) {
    other->find("attention_type");
    other->find("true_head_dim");
    local = gqa_attention(*other, spec.hidden, spec.attention, {.kv_heads = "num_attention_groups"});
  }
  local.window = window_of(config);
  read_windows(config, spec, local, [](std::int64_t) { return false; });
}

}  // namespace helix
