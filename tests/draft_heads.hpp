// Eagle-3 heads by their config.json, as their makers publish them.
#pragma once

#include <nlohmann/json.hpp>

#include "roofline/model/draft_head.hpp"

namespace helix::test {

/// Of Llama-3.1-8B's sizes.
inline nlohmann::json llama_8b_head() {
  return {{"architectures", {"LlamaForCausalLMEagle3"}},
          {"model_type", "llama"},
          {"hidden_size", 4096},
          {"intermediate_size", 14336},
          {"num_attention_heads", 32},
          {"num_key_value_heads", 8},
          {"num_hidden_layers", 1},
          {"rms_norm_eps", 1e-5},
          {"tie_word_embeddings", false},
          {"vocab_size", 128256},
          {"draft_vocab_size", 32000},
          {"max_position_embeddings", 2048},
          {"torch_dtype", "float16"}};
}

/// Of Llama-3.1-70B's.
inline nlohmann::json llama_70b_head() {
  nlohmann::json head = llama_8b_head();
  head.merge_patch(
      {{"hidden_size", 8192}, {"intermediate_size", 28672}, {"num_attention_heads", 64}, {"head_dim", 128}});
  return head;
}

/// A llama beside a model with a latent cache: DeepSeek-R1's hidden size and tokens.
inline nlohmann::json deepseek_head() {
  nlohmann::json head = llama_8b_head();
  head.merge_patch({{"hidden_size", 7168},
                    {"intermediate_size", 18432},
                    {"num_attention_heads", 64},
                    {"head_dim", 128},
                    {"vocab_size", 129280}});
  return head;
}

inline ModelSpec with_head(const char* model, const nlohmann::json& head) {
  return with_draft_head(load_model(model), head.dump(), "head.json");
}

}  // namespace helix::test
