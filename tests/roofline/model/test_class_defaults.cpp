// What a config.json leaves out is as its class in transformers 5.24 has it: `CONFIG_MAPPING[type]().to_dict()`.
#include <fmt/format.h>

#include <catch2/catch.hpp>

#include "roofline/model/model_spec.hpp"

using namespace helix;

namespace {

/// A file with the sizes alone.
ModelSpec with_sizes_alone(const std::string& type, const std::string& sizes, const std::string& more = "") {
  return parse_model(
      fmt::format(R"({{"model_type": "{}", "hidden_size": 2048, "num_hidden_layers": 4, "vocab_size": 1000,
                      "intermediate_size": 512, "num_attention_heads": 32{}{}}})",
                  type, sizes, more),
      "config.json");
}

struct ClassDefaults {
  const char* type;
  double norm_eps, rope_theta;
  std::int64_t kv_heads, head_dim;  // 64: hidden_size / num_attention_heads
  bool attention_bias = false, tied = false;
};

const std::string mixtral_experts = R"(, "num_local_experts": 8, "num_experts_per_tok": 2)";
const std::string experts = R"(, "num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 64)";
const std::string routed =
    R"(, "n_routed_experts": 32, "num_experts_per_tok": 2, "moe_intermediate_size": 64)";
const std::string latent =
    R"(, "kv_lora_rank": 64, "qk_nope_head_dim": 32, "qk_rope_head_dim": 16, "v_head_dim": 32)";

}  // namespace

TEST_CASE("heads, norms, rotation and biases that a file leaves out are those of its class") {
  const auto& [expected, more] = GENERATE(table<ClassDefaults, std::string>({
      {{"llama", 1e-6, 1e4, 32, 64}, ""},
      {{"mistral", 1e-6, 1e4, 8, 64}, R"(, "sliding_window": null)"},
      {{"ministral3", 1e-5, 1e6, 8, 64}, ""},
      {{"mixtral", 1e-5, 1e6, 8, 64}, mixtral_experts},
      {{"qwen2", 1e-6, 1e4, 32, 64, true}, ""},
      {{"qwen2_moe", 1e-6, 1e4, 16, 64, true}, experts},
      {{"qwen3", 1e-6, 1e4, 32, 128}, ""},
      {{"qwen3_moe", 1e-6, 1e4, 4, 64}, experts},
      {{"qwen3_vl_text", 1e-6, 5e5, 32, 128}, ""},
      {{"phi3", 1e-5, 1e4, 32, 64}, ""},
      {{"glm", 1.5625e-7, 1e4, 2, 128, true}, ""},
      {{"glm4", 1.5625e-7, 1e4, 2, 128, true}, ""},
      {{"glm4_moe", 1e-5, 1e4, 8, 64}, routed},
      {{"minimax_m2", 1e-6, 5e6, 8, 128}, mixtral_experts},
      {{"ernie4_5", 1e-5, 5e5, 2, 128, false, true}, ""},
      {{"granite", 1e-6, 1e4, 32, 64}, ""},
      {{"granitemoe", 1e-6, 1e4, 32, 64}, mixtral_experts},
      {{"seed_oss", 1e-6, 1e4, 8, 128, true}, ""},
      {{"smollm3", 1e-6, 2e6, 4, 64, false, true}, ""},
      {{"dots1", 1e-6, 1e4, 32, 64}, routed},
      {{"cohere", 1e-5, 5e5, 32, 64, false, true}, ""},
  }));
  CAPTURE(expected.type);
  const ModelSpec model = with_sizes_alone(expected.type, more);
  CHECK(model.norm_eps == expected.norm_eps);
  CHECK(model.rope.theta == expected.rope_theta);
  CHECK(model.attention.kv_heads == expected.kv_heads);
  CHECK(model.attention.qk_head_dim == expected.head_dim);
  CHECK(model.attention.qkv_bias == expected.attention_bias);
  CHECK(model.tied_embeddings == expected.tied);
  CHECK(model.attention.window == 0);
}

TEST_CASE("a window that a file leaves out is that of its class, and null is none") {
  CHECK(with_sizes_alone("mistral", "").attention.window == 4096);
  CHECK(with_sizes_alone("mistral", R"(, "sliding_window": 1024)").attention.window == 1024);
  CHECK(with_sizes_alone("mixtral", mixtral_experts).attention.window == 0);
}

TEST_CASE(
    "Command-R's logits are scaled, and its newer files' windows and layers without RoPE are those of the "
    "class") {
  CHECK(with_sizes_alone("cohere", "").logits_divisor == 16);
  CHECK_THROWS_WITH(with_sizes_alone("cohere2", R"(, "sliding_window": null)"),
                    Catch::Matchers::Contains("sliding_window"));
  const ModelSpec two = with_sizes_alone("cohere2", "");
  CHECK((two.norm_eps == 1e-5 && two.rope.theta == 1e4 && two.tied_embeddings && two.logits_divisor == 16));
  for (std::int64_t layer = 0; layer < 4; ++layer) {
    const AttentionSpec& attention = two.attention_of(two.layer_kind(layer));
    CHECK(attention.window == (layer < 3 ? 4096 : 0));
    CHECK(attention.rope_dim() == (layer < 3 ? 64 : 0));
  }
}

TEST_CASE("Granite's scores are multiplied by 1 where the file does not say") {
  CHECK(with_sizes_alone("granite", "").attention.multiplier == 1.0);
}

TEST_CASE("what a file of experts leaves out is as its class has it") {
  struct Expected {
    std::int64_t q_lora_rank, shared_experts, dense_layers, groups, top_groups;
    double routed_scaling;
    bool normalize;
  };
  const auto& [type, sizes, expected] = GENERATE(table<const char*, std::string, Expected>({
      {"deepseek_v2", routed + latent, {1536, 2, 0, 1, 1, 1.0, false}},
      {"deepseek_v3", routed + latent, {1536, 1, 3, 8, 4, 2.5, true}},
      {"mistral4", routed + latent, {1024, 1, 0, 1, 1, 1.0, true}},
      {"glm4_moe_lite", routed + latent, {768, 1, 1, 1, 1, 1.8, true}},
      {"glm4_moe", routed, {0, 1, 1, 1, 1, 1.0, true}},
      {"dots1", routed, {0, 0, 0, 1, 1, 1.0, false}},
      {"qwen2_moe", experts, {0, 0, 0, 1, 1, 1.0, false}},
      {"qwen3_moe", experts, {0, 0, 0, 1, 1, 1.0, false}},
      {"mixtral", mixtral_experts, {0, 0, 0, 1, 1, 1.0, true}},
  }));
  CAPTURE(type);
  const ModelSpec model = with_sizes_alone(type, sizes);
  CHECK(model.attention.q_lora_rank == expected.q_lora_rank);
  CHECK(model.moe.shared_experts == expected.shared_experts);
  CHECK(model.moe.first_dense_layers == expected.dense_layers);
  CHECK(model.moe.groups == expected.groups);
  CHECK(model.moe.top_groups == expected.top_groups);
  CHECK(model.moe.routed_scaling == expected.routed_scaling);
  CHECK(model.moe.normalize_top_k == expected.normalize);
}

TEST_CASE("ERNIE-4.5 chooses experts by their softmax and a bias, and has no other router") {
  const std::string sizes = R"(, "moe_num_experts": 8, "moe_k": 2, "moe_intermediate_size": 64)";
  const auto ernie = [&](const std::string& more) { return with_sizes_alone("ernie4_5_moe", sizes, more); };
  const ModelSpec model =
      ernie(R"(, "moe_use_aux_free": true, "moe_gate": "topk", "moe_capacity": [8, 8, 8])");
  CHECK(model.not_runnable.empty());
  CHECK((model.moe.router == RouterKind::softmax_grouped && model.moe.groups == 1));
  CHECK((model.moe.has_router_bias() && model.moe.normalize_top_k && model.moe.shared_experts == 2));
  for (const char* other :
       {R"("moe_use_aux_free": false)", R"("moe_gate_act": "sigmoid")", R"("moe_norm_min": 0.01)"}) {
    CHECK(ernie(fmt::format(", {}", other)).not_runnable.size() == 1);
  }
}

TEST_CASE("DeepSeek-V2 limits experts to the best groups where the file says so") {
  const std::string limited = R"(, "topk_method": "group_limited_greedy", "n_group": 4, "topk_group": 2)";
  const ModelSpec model = with_sizes_alone("deepseek_v2", routed + latent, limited);
  CHECK((model.not_runnable.empty() && model.moe.router == RouterKind::softmax_grouped));
  CHECK((model.moe.groups == 4 && model.moe.top_groups == 2 && !model.moe.has_router_bias()));
}

TEST_CASE(
    "queries grow with their positions where the class reads it, and what the file leaves out is not run") {
  const std::string growth = R"("llama_4_scaling_beta": 0.1, "original_max_position_embeddings": 16384)";
  const auto scaled = [&](const char* type, const std::string& sizes, const std::string& more = "") {
    return with_sizes_alone(
        type, sizes,
        fmt::format(R"(, "rope_parameters": {{"rope_type": "yarn", "factor": 16, {}{}}})", growth, more));
  };
  const ModelSpec model = scaled("ministral3", "");
  CHECK(model.not_runnable.empty());
  CHECK((model.rope.query_growth == 0.1 && model.rope.original_max_position == 16384));
  // It repeats the share that qk_rope_head_dim says: 16 of 48.
  const ModelSpec latent4 =
      scaled("mistral4", routed + latent, R"(, "partial_rotary_factor": 0.3333333333333333)");
  CHECK((latent4.not_runnable.empty() && latent4.rope.query_growth == 0.1));
  CHECK((latent4.moe.router == RouterKind::softmax_topk && !latent4.moe.has_router_bias()));
  CHECK(scaled("mistral", R"(, "sliding_window": null)").not_runnable.size() == 1);
  CHECK(with_sizes_alone("ministral3", "").not_runnable.size() == 1);
}

TEST_CASE("LongRoPE takes the long factors of a context beyond the original one") {
  const auto phi = [](const std::string& lengths, const std::string& more = "") {
    return with_sizes_alone(
        "phi3", R"(, "num_key_value_heads": 8, "head_dim": 8)",
        fmt::format(R"(, {}, "rope_scaling": {{"type": "longrope", "short_factor": [1, 1, 1, 2],
                                             "long_factor": [1, 2, 30, 40]{}}})",
                    lengths, more));
  };
  const std::string beyond = R"("max_position_embeddings": 131072, "original_max_position_embeddings": 4096)";
  const ModelSpec model = phi(beyond);
  CHECK(model.not_runnable.empty());
  CHECK((model.rope.scaling == RopeScalingKind::longrope && model.rope.factor == 32));
  CHECK(model.rope.stretches == std::vector<double>{1, 2, 30, 40});
  CHECK(phi(R"("max_position_embeddings": 4096, "original_max_position_embeddings": 4096)").rope.stretches ==
        std::vector<double>{1, 1, 1, 2});
  CHECK(phi(beyond, R"(, "attention_factor": 1.5)").rope.attention_factor == 1.5);
  CHECK(phi(beyond, R"(, "long_mscale": 1.2)").not_runnable.size() == 1);
  CHECK_THROWS_WITH(phi(beyond + R"(, "partial_rotary_factor": 0.5)"), Catch::Contains("short_factor"));
}

TEST_CASE("a null low rank of queries is none") {
  CHECK(with_sizes_alone("deepseek_v3", routed + latent, R"(, "q_lora_rank": null)").attention.q_lora_rank ==
        0);
}
