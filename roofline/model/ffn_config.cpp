#include "roofline/model/ffn_config.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>

#include "roofline/model/config_limits.hpp"
#include "roofline/model/layer_config.hpp"
#include "roofline/model/moe_fields.hpp"

namespace helix {
namespace {

struct LayerDefaults {
  std::int64_t shared_experts = 0, dense_layers = 0;
};

void read_deepseek_moe(const JsonFields& config, ModelSpec& spec, const RouterDefaults& router,
                       const LayerDefaults& layers = {}) {
  const MoeKeys keys{
      .experts = present(config, {"n_routed_experts", "num_experts"}),
      .shared_count = present(config, {"n_shared_experts", "num_shared_experts"}),
  };
  read_experts(config, spec.moe, keys, layers.shared_experts);
  place_experts_after_dense(config, spec, layers.dense_layers);
  read_router(config, spec, keys, router);
}

}  // namespace

void read_dense(const JsonFields& config, ModelSpec& spec) {
  read_dense_width(config, spec);
  if (config.flag_or("mlp_bias", false) && !spec.ffn_bias)
    spec.not_runnable.emplace_back(config.show("mlp_bias"));
}

void read_gemma3_ffn(const JsonFields& config, ModelSpec& spec) {
  read_dense(config, spec);
  spec.gated_unit.kind = GatedUnit::Kind::gelu_tanh;
  spec.gains_less_one = true;
  spec.embedding_multiplier = std::sqrt(static_cast<double>(spec.hidden));
}

void read_mixtral_moe(const JsonFields& config, ModelSpec& spec) {
  read_experts(config, spec.moe, {.experts = "num_local_experts", .width = "intermediate_size"});
  place_experts(
      config, spec, [](std::int64_t) { return true; }, "intermediate_size");
  spec.moe.normalize_top_k = true;
}

void read_qwen_moe(const JsonFields& config, ModelSpec& spec) {
  // transformers 5 writes all experts' number under Mixtral's name.
  read_experts(config, spec.moe,
               {.experts = present(config, {"num_experts", "num_local_experts"}),
                .shared_width = "shared_expert_intermediate_size"});
  spec.moe.normalize_top_k = config.flag_or("norm_topk_prob", false);
  spec.moe.gated_shared = spec.moe.shared_ffn > 0;
  const std::int64_t step = config.whole_or("decoder_sparse_step", limits::layers, 1);
  std::set<std::int64_t> dense;
  if (const auto* layers = config.array("mlp_only_layers")) {
    for (const auto& layer : *layers) {
      if (!layer.is_number_integer()) config.refuse("mlp_only_layers", "expected an array of whole numbers");
      dense.insert(layer.get<std::int64_t>());
    }
  }
  place_experts(
      config, spec, [&](std::int64_t layer) { return (layer + 1) % step == 0 && !dense.contains(layer); },
      "intermediate_size");
}

void read_gpt_oss_moe(const JsonFields& config, ModelSpec& spec) {
  // Softmax over the chosen experts = softmax over all, normalised over the chosen.
  read_mixtral_moe(config, spec);
  spec.moe.biased = spec.moe.stored_by_inputs = true;
  GatedUnit& unit = spec.gated_unit;
  unit.kind = GatedUnit::Kind::clamped_silu;
  unit.alpha = config.real_or("swiglu_alpha", limits::factor, unit.alpha);
  unit.limit = config.real_or("swiglu_limit", limits::factor, unit.limit);
}

void read_deepseek_v2_moe(const JsonFields& config, ModelSpec& spec) {
  read_deepseek_moe(config, spec, {"softmax", "greedy", false, false, 1.0}, {.shared_experts = 2});
}

void read_deepseek_v3_moe(const JsonFields& config, ModelSpec& spec) {
  read_deepseek_moe(config, spec, {"sigmoid", "noaux_tc", true, true, 2.5, 8, 4},
                    {.shared_experts = 1, .dense_layers = 3});
}

void read_glm_moe(const JsonFields& config, ModelSpec& spec) {
  read_deepseek_moe(config, spec, {"sigmoid", "noaux_tc", true, true, 1.0},
                    {.shared_experts = 1, .dense_layers = 1});
}

void read_glm_lite_moe(const JsonFields& config, ModelSpec& spec) {
  read_deepseek_moe(config, spec, {"sigmoid", "noaux_tc", true, true, 1.8},
                    {.shared_experts = 1, .dense_layers = 1});
}

void read_mistral4_moe(const JsonFields& config, ModelSpec& spec) {
  read_deepseek_moe(config, spec, {"softmax", "greedy", true, true, 1.0}, {.shared_experts = 1});
  // Its groups would be ranked by two experts' probabilities.
  if (config.whole_or("n_group", limits::experts, 1) > 1)
    spec.not_runnable.emplace_back(config.show("n_group"));
}

void read_dots_moe(const JsonFields& config, ModelSpec& spec) {
  read_deepseek_moe(config, spec, {"sigmoid", "noaux_tc", false, true, 1.0});
}

void read_deepseek_like_moe(const JsonFields& config, ModelSpec& spec) {
  read_deepseek_moe(config, spec, {"sigmoid", "noaux_tc", true, true, 1.0});
}

void read_deepseek_v4_moe(const JsonFields& config, ModelSpec& spec) {
  read_deepseek_moe(config, spec, {"sqrtsoftplus", "noaux_tc", true, true, 1.5});
}

void read_minimax_moe(const JsonFields& config, ModelSpec& spec) {
  if (const auto* types = config.array("attn_type_list")) {  // 0: lightning attention, as in MiniMax-M1
    const LayerFlags softmax(config, "attn_type_list", *types, spec.layers);
    for (std::int64_t layer = 0; layer < spec.layers; ++layer) {
      if (!softmax[layer]) config.refuse("attn_type_list", "only 1 is supported");
    }
  }
  const MoeKeys keys{.experts = "num_local_experts",
                     .width = "intermediate_size",
                     .shared_width = "shared_intermediate_size"};
  read_experts(config, spec.moe, keys);
  const char* dense_width =
      config.has("dense_intermediate_size") ? "dense_intermediate_size" : "intermediate_size";
  place_experts_after_dense(config, spec, 0, dense_width);
  if (!config.flag_or("use_routing_bias", true))
    spec.not_runnable.emplace_back(config.show("use_routing_bias"));
  read_router(config, spec, keys, {"sigmoid", "noaux_tc", true, true, 1.0});
}

void read_ernie_moe(const JsonFields& config, ModelSpec& spec) {
  read_experts(config, spec.moe,
               {.experts = present(config, {"moe_num_experts", "num_experts"}),
                .top_k = present(config, {"moe_k", "num_experts_per_tok"}),
                .shared_count = "moe_num_shared_experts"},
               2);
  spec.moe.normalize_top_k = true;
  spec.moe.router = RouterKind::softmax_grouped;
  spec.moe.choice_bias = true;
  for (const char* key : {"moe_use_aux_free", "use_rmsnorm"}) {
    if (!config.flag_or(key, true)) spec.not_runnable.emplace_back(config.show(key));
  }
  for (const auto& [key, of_class] : {std::pair{"moe_gate", "topk"}, std::pair{"moe_gate_act", "softmax"}}) {
    if (config.text_or(key, of_class) != of_class) spec.not_runnable.emplace_back(config.show(key));
  }
  // The least that the sum of the chosen experts' weights is taken for: too small to tell, unless the file says more.
  if (config.real_or("moe_norm_min", limits::eps, 1e-12) > 1e-9)
    spec.not_runnable.emplace_back(config.show("moe_norm_min"));
  const std::int64_t first = config.whole_or("moe_layer_start_index", limits::or_none(limits::layers), 1);
  const std::int64_t interval = config.whole_or("moe_layer_interval", limits::layers, 1);
  const auto* last = config.find("moe_layer_end_index");
  const bool to_the_end = !last || *last == -1;
  const std::int64_t end =
      to_the_end ? spec.layers - 1 : config.whole("moe_layer_end_index", limits::or_none(limits::layers));
  place_experts(
      config, spec,
      [&](std::int64_t layer) { return layer >= first && layer <= end && (layer + 1) % interval == 0; },
      "intermediate_size");
}

void read_granite_moe(const JsonFields& config, ModelSpec& spec) {
  if (config.whole_or("num_local_experts", limits::or_none(limits::experts), 0) == 0) {
    read_dense_width(config, spec, present(config, {"shared_intermediate_size", "intermediate_size"}));
    config.find("num_experts_per_tok");
    config.find("intermediate_size");
    return;
  }
  read_experts(config, spec.moe,
               {.experts = "num_local_experts",
                .width = "intermediate_size",
                .shared_width = "shared_intermediate_size"});
  spec.moe.normalize_top_k = true;
  place_experts(
      config, spec, [](std::int64_t) { return true; }, "intermediate_size");
}

void read_gemma4_ffn(const JsonFields& config, ModelSpec& spec) {
  if (!config.flag_or("enable_moe_block", false)) {
    for (const char* key : {"num_experts", "top_k_experts", "moe_intermediate_size"}) config.find(key);
    return read_dense_width(config, spec);
  }
  read_experts(config, spec.moe, {.top_k = "top_k_experts", .shared_width = "intermediate_size"});
  place_experts(
      config, spec, [](std::int64_t) { return true; }, "intermediate_size");
  spec.not_runnable.emplace_back(config.show("enable_moe_block"));
}

void read_llama4_moe(const JsonFields& config, ModelSpec& spec) {
  read_experts(
      config, spec.moe,
      {.experts = "num_local_experts", .width = "intermediate_size", .shared_width = "intermediate_size"});
  spec.not_runnable.emplace_back("router that scales the experts' inputs");
  const std::int64_t step = config.whole_or("interleave_moe_layer_step", limits::layers, 1);
  std::set<std::int64_t> listed;
  const auto* layers = config.array("moe_layers");
  if (layers) {
    for (const auto& layer : *layers) {
      if (!layer.is_number_integer()) config.refuse("moe_layers", "expected an array of whole numbers");
      listed.insert(layer.get<std::int64_t>());
    }
  }
  config.find("intermediate_size_mlp");
  place_experts(
      config, spec,
      [&](std::int64_t layer) { return layers ? listed.contains(layer) : (layer + 1) % step == 0; },
      "intermediate_size_mlp");
}

void read_step_moe(const JsonFields& config, ModelSpec& spec) {
  const MoeKeys keys{.experts = present(config, {"moe_num_experts", "num_experts"}),
                     .top_k = present(config, {"moe_top_k", "num_experts_per_tok"}),
                     .shared_width = "share_expert_dim"};
  read_experts(config, spec.moe, keys);
  config.find("n_shared_experts");
  spec.not_runnable.emplace_back("router of Step");
  if (!config.has("moe_layers_enum")) return place_experts_after_dense(config, spec, 1);
  std::istringstream text(config.text("moe_layers_enum"));  // "3,4,5"
  std::set<std::int64_t> listed;
  for (std::string word; std::getline(text, word, ',');) {
    std::int64_t layer = 0;
    std::istringstream number(word);
    if (!(number >> layer)) config.refuse("moe_layers_enum", "expected numbers of layers, comma-separated");
    listed.insert(layer);
  }
  place_experts(
      config, spec, [&](std::int64_t layer) { return listed.contains(layer); }, "intermediate_size");
}

void read_kimi_linear_moe(const JsonFields& config, ModelSpec& spec) {
  if (!config.has("num_experts")) return read_dense(config, spec);
  const MoeKeys keys{.top_k = present(config, {"num_experts_per_token", "num_experts_per_tok"}),
                     .shared_count = "num_shared_experts"};
  read_experts(config, spec.moe, keys);
  place_experts_after_dense(config, spec, 0);
  read_router(config, spec, keys, {"sigmoid", "noaux_tc", true, true, 1.0});
  spec.moe.expert_hidden = config.whole_or("routed_expert_hidden_size", limits::or_none(limits::hidden), 0);
  if (spec.moe.expert_hidden > 0) spec.not_runnable.emplace_back(config.show("routed_expert_hidden_size"));
}

void read_nemotron_ffn(const JsonFields& config, ModelSpec& spec) {
  spec.gated_ffn = false;
  spec.not_runnable.emplace_back("FFN without a gate");
  bool dense = false, moe = false;
  for (const LayerKind& kind : spec.layer_kinds) {
    dense = dense || kind.ffn == Ffn::dense;
    moe = moe || kind.moe();
  }
  if (dense) read_dense_width(config, spec);
  for (const char* key :
       {"n_routed_experts", "n_shared_experts", "moe_intermediate_size",
        "moe_shared_expert_intermediate_size", "moe_latent_size", "num_experts_per_tok",
        "moe_shared_expert_overlap", "n_group", "topk_group", "norm_topk_prob", "routed_scaling_factor"}) {
    config.find(key);
  }
  if (!moe) return;
  read_experts(config, spec.moe,
               {.experts = "n_routed_experts",
                .shared_count = "n_shared_experts",
                .shared_width = "moe_shared_expert_intermediate_size"});
  spec.moe.shared_ffn *= spec.moe.shared_experts;
  spec.moe.expert_hidden = config.whole_or("moe_latent_size", limits::or_none(limits::hidden), 0);
}

}  // namespace helix
