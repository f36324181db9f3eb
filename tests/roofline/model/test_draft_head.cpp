#include <catch2/catch.hpp>

#include "roofline/model/draft_head.hpp"
#include "tests/draft_heads.hpp"
#include "tests/usage_error.hpp"

using namespace helix;
using Catch::Contains;

TEST_CASE("an Eagle-3 head is read beside its model, in place of the model's own draft layer") {
  ModelSpec model = load_model("llama-3.1-70b");
  model.draft_layers = 1;
  const ModelSpec with = with_draft_head(model, test::llama_70b_head().dump(), "drafts/head.json");
  REQUIRE(with.draft_head);
  const ModelSpec& head = *with.draft_head;
  CHECK((head.name == "head" && head.hidden == 8192 && head.layers == 1 && head.ffn == 28672));
  CHECK((head.vocab == 32000 && !head.tied_embeddings));
  CHECK((head.attention.q_heads == 64 && head.attention.kv_heads == 8 && head.attention.qk_head_dim == 128));
  CHECK(head.attention.input_width == 2 * 8192);
  CHECK((with.draft_layers == 0 && with.name == model.name && with.layers == 80));

  nlohmann::json shared = test::llama_70b_head();
  shared.erase("draft_vocab_size");  // it chooses among all tokens, by the model's LM head
  const ModelSpec sharing = with_draft_head(model, shared.dump(), "config.json");
  CHECK((sharing.draft_head->vocab == 128256 && sharing.draft_head->tied_embeddings));
}

TEST_CASE("what is no head of the model is refused in a line that says why") {
  const auto refusal = [](const char* model, const nlohmann::json& changes) {
    nlohmann::json config = test::llama_70b_head();
    config.merge_patch(changes);
    const std::string line =
        usage_error([&] { with_draft_head(load_model(model), config.dump(), "head.json"); });
    CHECK(line.find('\n') == line.npos);
    CHECK_THAT(line, Contains("head.json"));
    return line;
  };
  const char* const model = "llama-3.1-70b";
  CHECK_THAT(refusal("llama-3.1-8b", nlohmann::json::object()),
             Contains("hidden_size = 8192: not the head of llama-3.1-8b, whose layers give 4096 values"));
  CHECK_THAT(refusal("qwen3-32b", {{"target_hidden_size", 5120}}),
             Contains("vocab_size = 128256: not the head of qwen3-32b, which has 151936 tokens"));
  CHECK_THAT(refusal(model, {{"draft_vocab_size", 200000}}), Contains("draft_vocab_size = 200000"));
  CHECK_THAT(refusal(model, {{"num_hidden_layers", 2}}),
             Contains("num_hidden_layers = 2") && Contains("one layer"));
  CHECK_THAT(refusal(model, {{"architectures", {"LlamaForCausalLM"}}}),
             Contains("architectures") && Contains("LlamaForCausalLMEagle3"));
  CHECK_THAT(refusal(model, {{"model_type", "llama4_text"}}), Contains("model_type") && Contains("llama"));
  CHECK_THAT(refusal(model, {{"intermediate_size", nullptr}}), Contains("intermediate_size"));
  CHECK_THAT(usage_error([&] { with_draft_head(load_model(model), "no-such-head.json"); }),
             Contains("no-such-head.json") && Contains("draft head"));
}
