// Unusable configurations: refused in one line that names the field, never a crash.
#include <catch2/catch.hpp>

#include <string>

#include "model_configs.hpp"
#include "roofline/model/model_spec.hpp"

using namespace helix;
using namespace helix::test;
using Catch::Matchers::Contains;
using nlohmann::json;

TEST_CASE("what the planner cannot count is refused by its field's name") {
  CHECK_THAT(complaint("deepseek-r1", {{"index_topk", 2048}}), Contains("index_topk = 2048"));
  CHECK_THAT(complaint("deepseek-v3.2", {{"index_topk", nullptr}}), Contains("index_topk is missing"));
  CHECK_THAT(complaint("deepseek-r1", {{"index_n_heads", 64}}), Contains("index_n_heads"));
  CHECK_THAT(complaint("deepseek-r1", {{"moe_layer_freq", 2}}), Contains("moe_layer_freq = 2"));
  json lightning = json(62, 1);
  CHECK(complaint("minimax-m2.5", {{"attn_type_list", lightning}}) == "accepted");
  lightning[7] = 0;
  CHECK_THAT(complaint("minimax-m2.5", {{"attn_type_list", lightning}}), Contains("attn_type_list"));
  CHECK_THAT(complaint("llama-3.1-8b", {{"model_type", "mamba2"}}),
             Contains("model_type = \"mamba2\"") && Contains("docs/models.md"));
  CHECK_THAT(complaint("llama-3.1-8b", {{"model_type", "qwen3moe"}}), Contains("did you mean 'qwen3_moe'"));
  CHECK_THAT(complaint("gpt-oss-20b", {{"layer_types", json(24, "linear_attention")}}),
             Contains("layer_types") && Contains("linear_attention"));
  CHECK_THAT(complaint("llama-4-maverick", {{"text_config", {{"no_rope_layers", {1, 1}}}}}),
             Contains("text_config.no_rope_layers") && Contains("48"));
  CHECK_THAT(complaint("qwen3.5-397b", {{"text_config", {{"mamba_ssm_dtype", "int8"}}}}),
             Contains("text_config.mamba_ssm_dtype"));
}

TEST_CASE("a missing field is named with what is expected") {
  CHECK_THAT(complaint("{}"), Contains("model_type is missing"));
  CHECK_THAT(complaint(R"({"model_type": "llama"})"),
             Contains("hidden_size is missing") && Contains("whole number"));
  for (const char* model : {"tiny-gqa", "tiny-qwen3-moe", "tiny-mla", "mixtral-8x7b", "gpt-oss-120b"}) {
    const json complete = built_in(model);
    for (const auto& [field, value] : complete.items()) {
      CAPTURE(model, field);
      json config = complete;
      config.erase(field);
      if (const std::string line = complaint(config.dump()); line != "accepted") {
        CHECK_THAT(line, Contains(field + " is missing"));
      }
    }
  }
}

TEST_CASE("absurd values are refused by their field's name") {
  const auto refuses = [](const char* model, const char* field, const json& value) {
    CAPTURE(model, field, value.dump());
    CHECK_THAT(complaint(model, {{field, value}}), Contains(field));
  };
  for (const char* field : {"hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
                            "head_dim", "intermediate_size", "vocab_size"}) {
    for (const json& value :
         {json(0), json(-1), json(std::int64_t{1} << 32), json(18446744073709551615u), json(1e300),
          json(64.5), json("many"), json(true), json::array({4}), json::object({{"a", 1}})}) {
      refuses("llama-3.1-8b", field, value);
    }
  }
  refuses("llama-3.1-8b", "num_key_value_heads", 5);
  refuses("llama-3.1-8b", "num_key_value_heads", 64);
  refuses("llama-3.1-8b", "head_dim", 65);
  refuses("llama-3.1-8b", "rope_theta", 0);
  refuses("llama-3.1-8b", "rms_norm_eps", -1.0);
  refuses("llama-3.1-8b", "tie_word_embeddings", "yes");
  refuses("llama-3.1-8b", "rope_scaling", 4);
  refuses("llama-3.1-8b", "rope_scaling", {{"factor", 0}});
  refuses("llama-3.1-8b", "rope_scaling", {{"rope_type", 7}});
  refuses("llama-3.1-8b", "rope_scaling", {{"high_freq_factor", 0.5}});
  refuses("llama-3.1-8b", "model_type", std::string(100000, 'x') + "\n");
  refuses("mixtral-8x7b", "num_experts_per_tok", 9);
  refuses("qwen3-235b-a22b", "mlp_only_layers", "none");
  refuses("deepseek-r1", "n_group", 7);
  refuses("deepseek-r1", "n_group", 256);
  refuses("deepseek-r1", "topk_group", 9);
  refuses("deepseek-r1", "num_experts_per_tok", 129);
  refuses("deepseek-r1", "first_k_dense_replace", 62);
  refuses("deepseek-r1", "kv_lora_rank", 0);
  CHECK_THAT(complaint("llama-3.1-8b", {{"head_dim", nullptr}, {"hidden_size", 4100}}), Contains("head_dim"));
}

TEST_CASE("whatever each field holds, the outcome is a model or a UsageError") {
  const json odd_values = {nullptr,
                           true,
                           -1,
                           0,
                           1,
                           3,
                           1e-300,
                           1e300,
                           "",
                           "text",
                           json::array(),
                           {1, {2}},
                           json::object(),
                           {{"type", nullptr}, {"rope_type", "yarn"}}};
  for (const std::string& name : built_in_models()) {
    const json complete = built_in(name);
    for (const auto& [field, value] : complete.items()) {
      for (const json& odd : odd_values) {
        CAPTURE(name, field, odd.dump());
        json config = complete;
        config[field] = odd;
        CHECK_NOTHROW(complaint(config.dump()));  // rethrows all but UsageError
      }
    }
  }
}

TEST_CASE("malformed JSON is answered with its position") {
  CHECK_THAT(complaint(R"({"hidden_size": "many")"), Contains("malformed JSON at line 1, column 23"));
  CHECK_THAT(complaint("{\n  \"a\": 1,\n  b\n}"), Contains("line 3, column 3"));
  CHECK_THAT(complaint(""), Contains("line 1, column 1"));
  CHECK_THAT(complaint("\xff\xfe{}"), Contains("malformed"));
  CHECK_THAT(complaint(R"({"hidden_size": 1e999})"), Contains("too large"));
  for (const char* text : {"[]", "null", "3", "\"text\"", "[[[]]]"}) {
    CHECK_THAT(complaint(text), Contains("expected a JSON object"));
  }
}

TEST_CASE("every truncation of a configuration is refused") {
  const std::string text = built_in("tiny-mla").dump(1);
  for (std::size_t length = 0; length < text.size(); ++length) {
    CAPTURE(length);
    REQUIRE_THAT(complaint(text.substr(0, length)), Contains("malformed JSON at line"));
  }
}

TEST_CASE("deep nesting does not exhaust the stack") {
  const std::size_t depth = 200'000;
  const std::string nested = std::string(depth, '[') + std::string(depth, ']');
  const std::string moe = built_in("tiny-qwen3-moe").dump().substr(1);
  for (const std::string& text : {nested, R"({"model_type": )" + nested + "}", std::string(depth, '['),
                                  R"({"mlp_only_layers":)" + nested + "," + moe}) {
    CHECK_THAT(complaint(text), Contains("nested more than 64 deep"));
  }
}
