// No field of a config.json is dropped silently: each is read, harmless, named as predicted only, or refused.
#include <catch2/catch.hpp>

#include "roofline/model/model_configs.hpp"

using namespace helix;
using Catch::Matchers::Contains;
using nlohmann::json;
using test::changed;
using test::complaint;
using test::parsed;
using Features = std::vector<std::string>;

namespace {

Features predicted_only(const json& changes) {
  return parsed(changed("llama-3.1-8b", changes)).not_runnable;
}

}  // namespace

TEST_CASE("what the engine does not know of a file is predicted only, by name") {
  CHECK(predicted_only({{"attn_logit_softcapping", 50.0}}) == Features{"attn_logit_softcapping = 50.0"});
  CHECK(predicted_only({{"residual_multiplier", 0.22}}) == Features{"residual_multiplier = 0.22"});
  CHECK(predicted_only({{"clip_qkv", 8}}) == Features{"clip_qkv = 8"});
  CHECK(predicted_only({{"no_rope_layers", {1, 1, 0}}}) == Features{"no_rope_layers = an array"});
  CHECK(predicted_only({{"rope_parameters", {{"rope_type", "default"}, {"partial_rotary_factor", 0.5}}}}) ==
        Features{"rope_parameters.partial_rotary_factor = 0.5"});
  CHECK(predicted_only({{"rope_parameters", {{"llama_4_scaling_beta", 0.1}}}}) ==
        Features{"rope_parameters.llama_4_scaling_beta = 0.1"});
  CHECK(predicted_only({{"a_new_field", "on"}}) == Features{"a_new_field = \"on\""});
}

TEST_CASE("a field that is off, or of training and generation, says nothing about a step") {
  CHECK(predicted_only({{"attn_logit_softcapping", nullptr},
                        {"residual_multiplier", 1.0},
                        {"clip_qkv", nullptr},
                        {"a_new_flag", false},
                        {"another", 0},
                        {"a_list", json::array()},
                        {"use_cache", true},
                        {"initializer_range", 0.02},
                        {"torch_dtype", "bfloat16"},
                        {"_name_or_path", "x"},
                        {"rope_parameters", {{"rope_theta", 500000.0}}}})
            .empty());
}

TEST_CASE("a field that changes what a step reads is refused") {
  for (const auto& [key, value] : std::vector<std::pair<const char*, json>>{
           {"attention_chunk_size", 8192},
           {"num_local_experts", 8},
           {"block_configs", {{{"attention", {{"no_op", true}}}}}},
           {"cross_attention_layers", {3, 8}},
           {"dual_chunk_attention_config", {{"chunk_size", 262144}}},
           {"draft_vocab_size", 32000},
           {"is_encoder_decoder", true},
       }) {
    CAPTURE(key);
    CHECK_THAT(complaint("llama-3.1-8b", {{key, value}}), Contains(key) && Contains("not supported"));
  }
}

TEST_CASE("draft heads and classifiers are no language models") {
  const auto of = [](const char* architecture) {
    return complaint("llama-3.1-8b", {{"architectures", {architecture}}});
  };
  CHECK_THAT(of("LlamaForCausalLMEagle3"), Contains("architectures") && Contains("Eagle3"));
  CHECK_THAT(of("LlamaForSequenceClassification"), Contains("ForCausalLM"));
  CHECK(of("LlamaForCausalLM") == "accepted");
  CHECK(of("KimiK25ForConditionalGeneration") == "accepted");
}

TEST_CASE("a bare sliding_window is Mistral's, and not Llama's") {
  CHECK(parsed(changed("llama-3.1-8b", {{"sliding_window", 4096}})).attention.window == 0);
  const ModelSpec mistral =
      parsed(changed("llama-3.1-8b", {{"model_type", "mistral"}, {"sliding_window", 4096}}));
  CHECK((mistral.attention.window == 4096 && mistral.layer_groups().size() == 1));
}

TEST_CASE("what is missing has the default of its class") {
  const auto kv_heads = [](const char* type) {
    return parsed(changed("llama-3.1-8b", {{"model_type", type}, {"num_key_value_heads", nullptr}}))
        .attention.kv_heads;
  };
  CHECK(kv_heads("llama") == 32);
  CHECK(kv_heads("mistral") == 8);
  CHECK(kv_heads("qwen2") == 32);
  json config = changed("llama-3.1-8b", {{"model_type", "mistral"}});
  config["num_key_value_heads"] = nullptr;  // a null is written on purpose
  CHECK(parsed(config).attention.kv_heads == 32);
}

TEST_CASE("JSON as Hugging Face writes it") {
  std::string text =
      changed("llama-3.1-8b", {{"time_step_limit", "LIMIT"}, {"note", "NaN \"Infinity\" \\"}}).dump();
  text.replace(text.find("\"LIMIT\""), 7, "[0.0, Infinity, -Infinity, NaN]");
  CHECK(parse_model(text, "test.json").not_runnable ==
        Features{"note = \"NaN \\\"Infinity\\\" \\\\\"", "time_step_limit = an array"});
  CHECK_THAT(complaint("{\"a\": Infinit}"), Contains("malformed JSON"));
}

TEST_CASE("of a multimodal file the language model is read, and the rest is named") {
  json inner = test::built_in("kimi-k2");
  inner.erase("quantization_config");  // the outer one counts where the inner has none
  const json outer = {{"model_type", "kimi_k25"},
                      {"architectures", {"KimiK25ForConditionalGeneration"}},
                      {"tie_word_embeddings", true},
                      {"vision_config", {{"depth", 27}}},
                      {"quantization_config", {{"quant_method", "fp8"}, {"weight_block_size", {128, 128}}}},
                      {"text_config", inner}};
  const ModelSpec model = parse_model(outer.dump(), "test.json");
  CHECK(model.hidden == 7168);
  CHECK(model.left_out == Features{"vision_config = an object"});
  CHECK(model.not_runnable.empty());
  json more = outer;
  more["image_token_id"] = 7;
  more["a_new_field"] = "on";
  CHECK(parse_model(more.dump(), "test.json").not_runnable == Features{"a_new_field = \"on\""});
  CHECK_FALSE(model.tied_embeddings);  // the inner one says so
  CHECK(model.weights[WeightPart::routed_experts].dtype == DType::fp8);
  CHECK(parsed(changed("deepseek-r1", {{"num_nextn_predict_layers", 1}})).left_out ==
        Features{"num_nextn_predict_layers = 1"});
}
