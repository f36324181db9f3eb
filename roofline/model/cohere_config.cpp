#include "roofline/model/cohere_config.hpp"

#include <array>
#include <nlohmann/json.hpp>
#include <utility>

#include "roofline/model/attention_config.hpp"
#include "roofline/model/config_limits.hpp"
#include "roofline/model/layer_config.hpp"

namespace helix {

// transformers reads none of these: a file that says anything else means another model than its class.
void read_cohere_gqa(const JsonFields& config, ModelSpec& spec) {
  const std::array<std::pair<const char*, nlohmann::json>, 7> words{
      {{"use_parallel_block", true},
       {"use_parallel_embedding", true},
       {"use_embedding_sharing", true},
       {"use_gated_activation", true},
       {"rotary_pct", 1.0},
       {"position_embedding_type", "rope_gptj"},
       {"order_of_interleaved_layers", "local_attn_first"}}};
  for (const auto& [key, of_class] : words) {
    const nlohmann::json* const value = config.find(key);
    if (value != nullptr && *value != of_class) spec.not_runnable.emplace_back(config.show(key));
  }
  read_gqa(config, spec);
}

void read_cohere2_layers(const JsonFields& config, ModelSpec& spec) {
  // Its class has no norms of Q and K.
  if (spec.attention.qk_norm != QkNorm::none) spec.not_runnable.emplace_back(config.show("use_qk_norm"));
  if (config.names("sliding_window") && !config.has("sliding_window"))
    config.refuse("sliding_window", "expected the window of most layers");
  constexpr std::int64_t window_of_class = 4096, period_of_class = 4;
  AttentionSpec full = spec.attention;
  full.unrotated = full.qk_head_dim;
  spec.attention.window = config.whole_or("sliding_window", limits::tokens, window_of_class);
  const std::int64_t period = config.whole_or("sliding_window_pattern", limits::layers, period_of_class);
  config.find("layer_switch");  // the same again
  set_full_layers(config, spec, full, period);
}

}  // namespace helix
