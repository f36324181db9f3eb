// Every supported architecture from its config.json, and how a model is found.
#include <catch2/catch.hpp>

#include <algorithm>
#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "model_configs.hpp"
#include "roofline/base/error.hpp"
#include "roofline/model/model_spec.hpp"
#include "tests/scratch_folder.hpp"

using namespace helix;
using namespace helix::test;
using Catch::Matchers::Contains;
using nlohmann::json;

namespace {

using Features = std::vector<std::string>;

}  // namespace

TEST_CASE("every built-in model loads, and those run that the engine knows all of") {
  CHECK(built_in_models().size() == 32);
  const std::set<std::string> predicted_only = {"glm-5.2", "llama-4-maverick", "qwen3.5-397b"};
  for (const std::string& name : built_in_models()) {
    CAPTURE(name);
    const ModelSpec model = load_model(name);
    CHECK(model.name == name);
    CHECK(model.not_runnable.empty() == !predicted_only.contains(name));
    CHECK(model.rope.interleaved ==
          (model.attention.kind == AttentionKind::mla || model.blocks == Blocks::parallel));
  }
}

TEST_CASE("Llama: dimensions, llama3 RoPE, tied embeddings") {
  const ModelSpec m = load_model("Llama-3.2-1B");
  CHECK(m.name == "llama-3.2-1b");
  CHECK((m.hidden == 2048 && m.layers == 16 && m.ffn == 8192 && m.vocab == 128256));
  CHECK((m.attention.q_heads == 32 && m.attention.kv_heads == 8));
  CHECK((m.attention.qk_head_dim == 64 && m.attention.v_head_dim == 64));
  CHECK(m.attention.kv_values_per_token() == 128);
  CHECK(m.tied_embeddings);
  CHECK(m.rope.scaling == RopeScalingKind::llama3);
  CHECK((m.rope.theta == 500000.0 && m.rope.factor == 32.0 && m.rope.original_max_position == 8192));
  CHECK((m.rope.low_freq_factor == 1.0 && m.rope.high_freq_factor == 4.0));
  CHECK(m.moe.experts == 0);
  CHECK(m.attention.qk_norm == QkNorm::none);
}

TEST_CASE("Qwen3: norms on Q and K; its MoE has no dense FFN") {
  CHECK(load_model("qwen3-32b").attention.qk_norm == QkNorm::heads);
  const ModelSpec m = load_model("qwen3-235b-a22b");
  CHECK(m.attention.qk_norm == QkNorm::heads);
  CHECK((m.moe.experts == 128 && m.moe.top_k == 8 && m.moe.expert_ffn == 1536));
  CHECK(m.moe.router == RouterKind::softmax_topk);
  CHECK(m.moe.normalize_top_k);
  CHECK(m.ffn == 0);
  CHECK_FALSE(parsed(changed("qwen3-235b-a22b", {{"norm_topk_prob", nullptr}})).moe.normalize_top_k);
}

TEST_CASE("Mixtral: its experts have the width intermediate_size and its top-k is normalised") {
  const ModelSpec m = load_model("mixtral-8x7b");
  CHECK((m.moe.experts == 8 && m.moe.top_k == 2 && m.moe.expert_ffn == 14336));
  CHECK(m.moe.normalize_top_k);
  CHECK(m.layer_groups().size() == 1);
  CHECK(m.layer_kind(0).moe());
}

TEST_CASE("DeepSeek-R1: latent attention, grouped router, YaRN") {
  const ModelSpec m = load_model("deepseek-r1");
  const AttentionSpec& a = m.attention;
  CHECK(a.kind == AttentionKind::mla);
  CHECK((a.q_heads == 128 && a.kv_heads == 1 && a.qk_head_dim == 192 && a.v_head_dim == 128));
  CHECK((a.q_lora_rank == 1536 && a.kv_lora_rank == 512 && a.qk_nope_head_dim == 128 &&
         a.qk_rope_head_dim == 64));
  CHECK(a.kv_values_per_token() == 576);
  CHECK((m.moe.experts == 256 && m.moe.top_k == 8 && m.moe.expert_ffn == 2048));
  CHECK((m.moe.shared_experts == 1 && m.moe.shared_ffn == 2048 && m.moe.first_dense_layers == 3));
  CHECK(m.moe.router == RouterKind::sigmoid_grouped);
  CHECK((m.moe.groups == 8 && m.moe.top_groups == 4 && m.moe.routed_scaling == 2.5));
  CHECK(m.ffn == 18432);
  CHECK(m.rope.scaling == RopeScalingKind::yarn);
  CHECK((m.rope.factor == 40.0 && m.rope.mscale_all_dim == 1.0 && m.rope.original_max_position == 4096));
  const auto groups = m.layer_groups();
  REQUIRE(groups.size() == 2);
  CHECK((!groups[0].kind.moe() && groups[0].count == 3));
  CHECK((groups[1].kind.moe() && groups[1].count == 58));
}

TEST_CASE("DeepSeek-V2-Lite: one product for Q, softmax router, two shared experts") {
  const ModelSpec m = load_model("deepseek-v2-lite");
  CHECK(m.attention.q_lora_rank == 0);
  CHECK(m.moe.router == RouterKind::softmax_topk);
  CHECK_FALSE(m.moe.normalize_top_k);
  CHECK((m.moe.shared_experts == 2 && m.moe.shared_ffn == 2816));
  CHECK((m.ffn == 10944 && m.rope.mscale == 0.707));
}

TEST_CASE("gpt-oss: sinks, biases, clamped SwiGLU, YaRN from pairs that are no whole ones, windows") {
  const ModelSpec m = load_model("gpt-oss-120b");
  CHECK(m.not_runnable.empty());
  CHECK((m.attention.sinks && m.other_attention.at(0).sinks && m.moe.biased && !m.rope.truncate));
  CHECK(m.gated_unit == GatedUnit{.kind = GatedUnit::Kind::clamped_silu, .alpha = 1.702, .limit = 7.0});
  CHECK((m.attention.qkv_bias && m.attention.output_bias));
  const auto groups = m.layer_groups();
  REQUIRE(groups.size() == 2);
  CHECK((groups[0].kind == LayerKind{.ffn = Ffn::moe, .attention = 1} && groups[0].count == 18));
  CHECK((groups[1].kind == LayerKind{.ffn = Ffn::moe} && groups[1].count == 18));
  CHECK(m.attention_of(groups[0].kind).window == 128);
}

TEST_CASE("which layers have experts") {
  const json moe = {{"intermediate_size", 4096}, {"num_hidden_layers", 6}};
  const auto dense_layers = [&](json changes) {
    json config = changed("qwen3-235b-a22b", moe);
    config.merge_patch(changes);
    const ModelSpec m = parsed(config);
    std::string kinds;
    for (std::int64_t layer = 0; layer < m.layers; ++layer) kinds += m.layer_kind(layer).moe() ? 'E' : '-';
    return kinds;
  };
  CHECK(dense_layers(json::object()) == "EEEEEE");
  CHECK(dense_layers({{"decoder_sparse_step", 2}}) == "-E-E-E");
  CHECK(dense_layers({{"mlp_only_layers", {0, 5}}}) == "-EEEE-");
  const ModelSpec maverick = load_model("llama-4-maverick");
  CHECK((!maverick.layer_kind(0).moe() && maverick.layer_kind(1).moe() && maverick.has_dense_ffn()));
  CHECK(parsed(changed("deepseek-r1", {{"first_k_dense_replace", 2}})).layer_kinds.empty());
  json freq = json(61, 1);
  freq[1] = 0;
  const ModelSpec listed = parsed(changed("deepseek-r1", {{"moe_layer_freq", freq}}));
  CHECK((listed.layer_kind(0).moe() && !listed.layer_kind(1).moe()));
}

TEST_CASE("attention that differs by layer") {
  const ModelSpec llama = load_model("llama-4-maverick");
  CHECK(windows(llama)[2] == 8192);
  CHECK(windows(llama)[3] == 0);  // every fourth has no RoPE, and attends to all
  CHECK(llama.attention_of(llama.layer_kind(0)).chunked);
  const ModelSpec glm = parsed(changed("glm-5", {{"index_topk_freq", 4}, {"num_hidden_layers", 10}}));
  std::string own;
  for (std::int64_t layer = 0; layer < 10; ++layer)
    own += glm.attention_of(glm.layer_kind(layer)).indexer.reused ? 'S' : 'F';
  CHECK(own == "FFSSSFSSSF");
  const ModelSpec shared = load_model("glm-5.2");  // 21 layers of 78 choose tokens
  std::int64_t choosing = 0;
  for (std::int64_t layer = 0; layer < shared.layers; ++layer)
    choosing += shared.attention_of(shared.layer_kind(layer)).indexer.reused ? 0 : 1;
  CHECK(choosing == 21);
  const ModelSpec qwen = load_model("qwen3.5-397b");
  CHECK(qwen.layer_kind(2).mixer == Mixer::state);
  CHECK(qwen.layer_kind(3).mixer == Mixer::attention);
  CHECK(qwen.layer_groups().size() == 2);
}

TEST_CASE("a class's defaults where a file of today is short") {
  const ModelSpec gemma = parsed({{"model_type", "gemma3"},
                                  {"text_config",
                                   {{"model_type", "gemma3_text"},
                                    {"hidden_size", 2560},
                                    {"intermediate_size", 10240},
                                    {"num_hidden_layers", 12},
                                    {"sliding_window", 1024}}},
                                  {"vision_config", {{"hidden_size", 1152}}}});
  CHECK(
      (gemma.attention.q_heads == 8 && gemma.attention.kv_heads == 4 && gemma.attention.qk_head_dim == 256));
  CHECK((gemma.vocab == 262208 && gemma.tied_embeddings && gemma.post_norms));
  CHECK(windows(gemma) ==
        std::vector<std::int64_t>{1024, 1024, 1024, 1024, 1024, 0, 1024, 1024, 1024, 1024, 1024, 0});
  json granite = {{"model_type", "granitemoehybrid"},
                  {"hidden_size", 1024},
                  {"num_hidden_layers", 2},
                  {"num_attention_heads", 8},
                  {"intermediate_size", 512},
                  {"shared_intermediate_size", 2048},
                  {"num_local_experts", 0},
                  {"vocab_size", 1000},
                  {"mamba_n_heads", 32},
                  {"mamba_d_head", "auto"},
                  {"mamba_d_state", 128},
                  {"layer_types", {"mamba", "attention"}}};
  const ModelSpec hybrid = parsed(granite);
  CHECK((hybrid.ffn == 2048 && hybrid.moe.experts == 0));
  REQUIRE(hybrid.state);
  CHECK((hybrid.state->value_dim == 64 && hybrid.state->conv_kernel == 4));
  granite["layer_types"] = {"attention", "attention"};
  CHECK_FALSE(parsed(granite).state);
}

TEST_CASE("layer groups count the first layers only") {
  const ModelSpec m = load_model("deepseek-r1");
  CHECK(m.layer_groups(0).empty());
  CHECK(m.layer_groups(2).size() == 1);
  CHECK(m.layer_groups(5).back().count == 2);
  CHECK(m.layer_groups(1000).back().count == 58);
}

TEST_CASE("fields that may be absent") {
  SECTION("head_dim = hidden / heads, also when null") {
    json config = built_in("llama-3.1-8b");
    config["head_dim"] = nullptr;
    CHECK(parsed(config).attention.qk_head_dim == 128);
    config.erase("head_dim");
    CHECK(parsed(config).attention.qk_head_dim == 128);
  }
  SECTION("head_dim need not be hidden / heads") {
    CHECK(load_model("tiny-gqa").attention.qk_head_dim == 64);
  }
  SECTION("KV heads = heads") {
    CHECK(parsed(changed("llama-3.1-8b", {{"num_key_value_heads", nullptr}})).attention.kv_heads == 32);
  }
  SECTION("no RoPE scaling") {
    json config = built_in("llama-3.1-8b");
    config["rope_scaling"] = nullptr;
    CHECK(parsed(config).rope.scaling == RopeScalingKind::none);
    config.erase("rope_theta");
    CHECK(parsed(config).rope.theta == 10000.0);
  }
  SECTION("YaRN's original length is max_position_embeddings") {
    const json scaling = {
        {"rope_type", "yarn"}, {"low_freq_factor", nullptr}, {"original_max_position_embeddings", nullptr}};
    const ModelSpec m = parsed(changed("llama-3.1-8b", {{"rope_scaling", scaling}}));
    CHECK(m.rope.scaling == RopeScalingKind::yarn);
    CHECK(m.rope.original_max_position == 131072);
    CHECK((m.rope.beta_fast == 32.0 && m.rope.beta_slow == 1.0 && m.rope.mscale == 0.0 &&
           m.rope.mscale_all_dim == 0.0));
  }
  SECTION("the router of the DeepSeek-V3 architecture") {
    const ModelSpec m = parsed(changed(
        "deepseek-r1", {{"scoring_func", nullptr}, {"topk_method", nullptr}, {"norm_topk_prob", nullptr}}));
    CHECK(m.moe.router == RouterKind::sigmoid_grouped);
    CHECK(m.moe.normalize_top_k);
  }
}

TEST_CASE("RoPE parameters in one object, as newer configurations have them") {
  const json parameters = {{"rope_type", "linear"}, {"factor", 2.0}, {"rope_theta", 250000.0}};
  const ModelSpec m = parsed(changed(
      "llama-3.1-8b", {{"rope_scaling", nullptr}, {"rope_theta", nullptr}, {"rope_parameters", parameters}}));
  CHECK(m.rope.theta == 250000.0);
  CHECK((m.rope.scaling == RopeScalingKind::linear && m.rope.factor == 2.0));
}

TEST_CASE("sliding windows") {
  SECTION("Mistral: every layer") {
    const ModelSpec m =
        parsed(changed("llama-3.1-8b", {{"model_type", "mistral"}, {"sliding_window", 4096}}));
    CHECK(windows(m) == std::vector<std::int64_t>(32, 4096));
    CHECK(m.not_runnable.empty());
  }
  SECTION("Qwen3: none unless asked for, then from max_window_layers on") {
    const json window = {{"sliding_window", 4096}, {"max_window_layers", 60}};
    CHECK(windows(parsed(changed("qwen3-32b", window))) == std::vector<std::int64_t>(64, 0));
    json used = window;
    used["use_sliding_window"] = false;
    CHECK(parsed(changed("qwen3-32b", used)).not_runnable.empty());
    used["use_sliding_window"] = true;
    const ModelSpec m = parsed(changed("qwen3-32b", used));
    CHECK(std::ranges::count(windows(m), 4096) == 4);
    CHECK((windows(m)[59] == 0 && windows(m)[60] == 4096));
  }
  SECTION("layer_types decide") {
    const json types = {"full_attention", "sliding_attention", "full_attention"};
    const ModelSpec m = parsed(changed("tiny-gqa", {{"layer_types", types}, {"sliding_window", 64}}));
    CHECK(windows(m) == std::vector<std::int64_t>{0, 64, 0});
    CHECK_THAT(complaint("tiny-gqa", {{"layer_types", types}}), Contains("sliding_window is missing"));
    CHECK_THAT(complaint("llama-3.1-8b", {{"layer_types", types}}),
               Contains("layer_types") && Contains("32"));
    CHECK_THAT(complaint("tiny-gqa", {{"layer_types", {"full_attention", "chunked_attention", 3}}}),
               Contains("layer_types"));
  }
}

TEST_CASE("what the planner counts but the engine does not run") {
  const auto features = [](const char* model, const json& changes) {
    return parsed(changed(model, changes)).not_runnable;
  };
  CHECK(features("llama-3.1-8b", {{"hidden_act", "gelu"}}) == Features{"hidden_act = \"gelu\""});
  CHECK(features("llama-3.1-8b", {{"hidden_act", "silu"}}).empty());
  const json mistral = {{"model_type", "mistral"}, {"sliding_window", 0}};
  CHECK(features("llama-3.1-8b", mistral).empty());
  json biased = mistral;  // whose class reads neither of them
  biased.update({{"mlp_bias", true}, {"attention_bias", true}});
  CHECK(features("llama-3.1-8b", biased) == Features{"attention_bias = true", "mlp_bias = true"});
  CHECK(features("deepseek-r1", {{"attention_bias", true}}) == Features{"attention_bias = true"});
  CHECK(features("llama-3.1-8b", {{"partial_rotary_factor", 0.5}}) ==
        Features{"partial_rotary_factor = 0.5"});
  CHECK(features("llama-3.1-8b", {{"rope_scaling", {{"rope_type", "dynamic"}}}}) ==
        Features{"rope_scaling.rope_type = \"dynamic\""});
  CHECK(features("deepseek-v2-lite", {{"topk_method", "noaux_tc"}}) ==
        Features{"scoring_func = \"softmax\"", "topk_method = \"noaux_tc\""});
  CHECK(features("llama-3.1-8b", {{"quantization_config", {{"quant_method", "fp8"}}}}).empty());
}

TEST_CASE("what classes read of biases, rotation and factors") {
  const auto llama = [](const json& changes) { return parsed(changed("llama-3.1-8b", changes)); };
  const ModelSpec biased = llama({{"attention_bias", true}, {"mlp_bias", true}});
  CHECK(biased.not_runnable.empty());
  CHECK((biased.attention.qkv_bias && biased.attention.output_bias && biased.ffn_bias));
  const ModelSpec qwen = llama({{"model_type", "qwen2"}});
  CHECK((qwen.not_runnable.empty() && qwen.attention.qkv_bias && !qwen.attention.output_bias));
  const ModelSpec glm = llama({{"model_type", "glm"}});
  CHECK((glm.not_runnable.empty() && glm.attention.rope_dim() == 64 && glm.rope.interleaved));
  const json half = {{"model_type", "glm"}, {"rope_scaling", nullptr}, {"partial_rotary_factor", 0.25}};
  CHECK(llama(half).attention.rope_dim() == 32);
  CHECK(load_model("minimax-m2.5").attention.rope_dim() == 64);  // rotary_dim
  CHECK(load_model("minimax-m2.5").attention.qk_norm == QkNorm::whole);
  CHECK(load_model("minimax-m2.5").not_runnable.empty());
  const json smol = {{"model_type", "smollm3"}, {"rope_scaling", nullptr}};
  CHECK(llama(smol).attention_of(llama(smol).layer_kind(3)).rope_dim() == 0);
  CHECK(llama(smol).attention_of(llama(smol).layer_kind(2)).rope_dim() == 128);

  const json factors = {
      {"embedding_multiplier", 12.0}, {"attention_multiplier", 0.25}, {"logits_scaling", 8.0}};
  CHECK(llama(factors).not_runnable.size() == 3);
  json granite = factors;
  granite.merge_patch({{"model_type", "granite"}, {"residual_multiplier", 0.22}});
  const ModelSpec scaled = llama(granite);
  CHECK(scaled.not_runnable.empty());
  CHECK((scaled.embedding_multiplier == 12 && scaled.attention.multiplier == 0.25));
  CHECK((scaled.residual_multiplier == 0.22 && scaled.logits_divisor == 8));
  granite["mlp_bias"] = true;  // no factor on a bias
  CHECK(llama(granite).not_runnable == Features{"residual_multiplier = 0.22"});
}

TEST_CASE("what Command-R's files say of their class") {
  const auto command_r = [](const json& changes) {
    json all = {{"model_type", "cohere2"}, {"rope_scaling", nullptr}};
    all.update(changes);
    return parsed(changed("llama-3.1-8b", all));
  };
  // As in the files of Command-R7B.
  const json words = {{"use_parallel_block", true},
                      {"use_gated_activation", true},
                      {"use_embedding_sharing", true},
                      {"use_parallel_embedding", true},
                      {"rotary_pct", 1.0},
                      {"position_embedding_type", "rope_gptj"},
                      {"order_of_interleaved_layers", "local_attn_first"},
                      {"layer_switch", 4},
                      {"cache_implementation", "hybrid"},
                      {"use_qk_norm", false},
                      {"logit_scale", 0.25},
                      {"attention_bias", true}};
  const ModelSpec m = command_r(words);
  CHECK(m.not_runnable.empty());
  CHECK((m.blocks == Blocks::parallel && m.norm == NormKind::layer && m.rope.interleaved));
  CHECK((m.logits_divisor == 4 && m.attention.qkv_bias && m.attention.output_bias));
  CHECK(command_r({{"use_parallel_block", false}}).not_runnable == Features{"use_parallel_block = false"});
  CHECK(command_r({{"use_qk_norm", true}}).not_runnable == Features{"use_qk_norm = true"});
  const ModelSpec plus = command_r({{"model_type", "cohere"}, {"use_qk_norm", true}});
  CHECK((plus.not_runnable.empty() && plus.attention.qk_norm == QkNorm::layer_heads));
}

TEST_CASE("load_model takes a name or a file") {
  const ScratchFolder folder;
  const auto write = [&](const std::filesystem::path& file, const std::string& text) {
    return folder.write(file, text).string();
  };
  const std::string text = built_in("tiny-gqa").dump();

  CHECK(load_model(write("org--my-model.v2.json", text)).name == "org--my-model.v2");
  CHECK(load_model(write("my-model/config.json", text)).name == "my-model");
  CHECK(load_model("TINY-gqa").hidden == 256);

  CHECK_THROWS_AS(load_model("no-such-model"), UsageError);
  CHECK_THROWS_WITH(load_model("no-such-model"), Contains("no-such-model") && Contains("llama-3.1-405b"));
  CHECK_THROWS_AS(load_model(""), UsageError);
  CHECK_THROWS_AS(load_model(std::string(10000, 'a')), UsageError);
  CHECK_THROWS_AS(load_model(folder.path.string()), UsageError);
  CHECK_THROWS_WITH(load_model(folder.path.string()), Contains("directory"));
  const std::string broken = write("broken.json", "{");
  CHECK_THROWS_WITH(load_model(broken), Contains(broken) && Contains("line 1"));
}
