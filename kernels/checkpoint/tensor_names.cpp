#include "kernels/checkpoint/tensor_names.hpp"

#include <array>

namespace helix {
namespace {

constexpr auto table = std::to_array<Spelling>({
    {Tensor::embedding, "embed_tokens.weight"},
    {Tensor::lm_head, "lm_head.weight"},
    {Tensor::final_norm, "norm.weight"},
    {Tensor::input_norm, "layers.{l}.input_layernorm.weight"},
    // Gemma has all four norms, and gives the one behind the attention a name that others give the next one's.
    {Tensor::post_norm, "layers.{l}.pre_feedforward_layernorm.weight"},
    {Tensor::post_norm, "layers.{l}.post_attention_layernorm.weight"},
    {Tensor::attention_out_norm, "layers.{l}.post_self_attn_layernorm.weight"},  // GLM-4
    {Tensor::attention_out_norm, "layers.{l}.post_attention_layernorm.weight"},
    {Tensor::ffn_out_norm, "layers.{l}.post_mlp_layernorm.weight"},
    {Tensor::ffn_out_norm, "layers.{l}.post_feedforward_layernorm.weight"},
    // Attention with K and V heads; Qwen3 has norms of its heads.
    {Tensor::q, "layers.{l}.self_attn.q_proj.weight"},
    {Tensor::q, "layers.{l}.self_attn.qkv_proj.weight", Within::q_of_qkv},
    {Tensor::k, "layers.{l}.self_attn.k_proj.weight"},
    {Tensor::k, "layers.{l}.self_attn.qkv_proj.weight", Within::k_of_qkv},
    {Tensor::v, "layers.{l}.self_attn.v_proj.weight"},
    {Tensor::v, "layers.{l}.self_attn.qkv_proj.weight", Within::v_of_qkv},
    {Tensor::q_norm, "layers.{l}.self_attn.q_norm.weight"},
    {Tensor::k_norm, "layers.{l}.self_attn.k_norm.weight"},
    {Tensor::o, "layers.{l}.self_attn.o_proj.weight"},
    {Tensor::q_bias, "layers.{l}.self_attn.q_proj.bias"},
    {Tensor::k_bias, "layers.{l}.self_attn.k_proj.bias"},
    {Tensor::v_bias, "layers.{l}.self_attn.v_proj.bias"},
    {Tensor::o_bias, "layers.{l}.self_attn.o_proj.bias"},
    {Tensor::sinks, "layers.{l}.self_attn.sinks"},
    // Latent attention of DeepSeek.
    {Tensor::q_a, "layers.{l}.self_attn.q_a_proj.weight"},
    {Tensor::q_a_norm, "layers.{l}.self_attn.q_a_layernorm.weight"},
    {Tensor::q_b, "layers.{l}.self_attn.q_b_proj.weight"},
    {Tensor::kv_a, "layers.{l}.self_attn.kv_a_proj_with_mqa.weight"},
    {Tensor::kv_a_norm, "layers.{l}.self_attn.kv_a_layernorm.weight"},
    {Tensor::w_uk, "layers.{l}.self_attn.kv_b_proj.weight", Within::w_uk_of_kv_b},
    {Tensor::w_uv, "layers.{l}.self_attn.kv_b_proj.weight", Within::w_uv_of_kv_b},
    // Its indexer, of DeepSeek-V3.2 and GLM-5.
    {Tensor::index_q, "layers.{l}.self_attn.indexer.wq_b.weight"},
    {Tensor::index_k, "layers.{l}.self_attn.indexer.wk.weight"},
    {Tensor::index_k_norm, "layers.{l}.self_attn.indexer.k_norm.weight"},
    {Tensor::index_k_bias, "layers.{l}.self_attn.indexer.k_norm.bias"},
    {Tensor::index_weights, "layers.{l}.self_attn.indexer.weights_proj.weight"},
    // Dense FFN.
    {Tensor::gate, "layers.{l}.mlp.gate_proj.weight"},
    {Tensor::gate, "layers.{l}.mlp.gate_up_proj.weight", Within::first_half},
    {Tensor::up, "layers.{l}.mlp.up_proj.weight"},
    {Tensor::up, "layers.{l}.mlp.gate_up_proj.weight", Within::second_half},
    {Tensor::down, "layers.{l}.mlp.down_proj.weight"},
    {Tensor::gate_bias, "layers.{l}.mlp.gate_proj.bias"},
    {Tensor::up_bias, "layers.{l}.mlp.up_proj.bias"},
    {Tensor::down_bias, "layers.{l}.mlp.down_proj.bias"},
    // Experts: Qwen3 and DeepSeek, Mixtral and MiniMax, Granite, and those that transformers 5 writes in one tensor.
    {Tensor::router, "layers.{l}.mlp.gate.weight"},
    {Tensor::router, "layers.{l}.block_sparse_moe.gate.weight"},
    {Tensor::router, "layers.{l}.block_sparse_moe.router.layer.weight"},
    {Tensor::router, "layers.{l}.mlp.router.weight"},  // gpt-oss
    {Tensor::router_bias, "layers.{l}.mlp.gate.e_score_correction_bias"},
    {Tensor::router_bias, "layers.{l}.mlp.moe_statics.e_score_correction_bias"},  // ERNIE-4.5
    {Tensor::router_bias, "layers.{l}.mlp.router.bias"},
    {Tensor::router_bias, "layers.{l}.block_sparse_moe.e_score_correction_bias"},
    {Tensor::expert_gate, "layers.{l}.mlp.experts.{e}.gate_proj.weight"},
    {Tensor::expert_gate, "layers.{l}.block_sparse_moe.experts.{e}.w1.weight"},
    {Tensor::expert_gate, "layers.{l}.block_sparse_moe.input_linear.weight", Within::first_half_of_experts},
    {Tensor::expert_gate, "layers.{l}.mlp.experts.gate_up_proj", Within::first_half_of_experts},
    {Tensor::expert_gate, "layers.{l}.mlp.experts.gate_up_proj", Within::even_of_inputs},
    {Tensor::expert_up, "layers.{l}.mlp.experts.{e}.up_proj.weight"},
    {Tensor::expert_up, "layers.{l}.block_sparse_moe.experts.{e}.w3.weight"},
    {Tensor::expert_up, "layers.{l}.block_sparse_moe.input_linear.weight", Within::second_half_of_experts},
    {Tensor::expert_up, "layers.{l}.mlp.experts.gate_up_proj", Within::second_half_of_experts},
    {Tensor::expert_up, "layers.{l}.mlp.experts.gate_up_proj", Within::odd_of_inputs},
    {Tensor::expert_down, "layers.{l}.mlp.experts.{e}.down_proj.weight"},
    {Tensor::expert_down, "layers.{l}.block_sparse_moe.experts.{e}.w2.weight"},
    {Tensor::expert_down, "layers.{l}.block_sparse_moe.output_linear.weight", Within::one_of_experts},
    {Tensor::expert_down, "layers.{l}.mlp.experts.down_proj", Within::one_of_experts},
    {Tensor::expert_down, "layers.{l}.mlp.experts.down_proj", Within::one_of_inputs},
    {Tensor::expert_gate_bias, "layers.{l}.mlp.experts.gate_up_proj_bias", Within::even_of_inputs},
    {Tensor::expert_up_bias, "layers.{l}.mlp.experts.gate_up_proj_bias", Within::odd_of_inputs},
    {Tensor::expert_down_bias, "layers.{l}.mlp.experts.down_proj_bias", Within::one_of_inputs},
    {Tensor::shared_gate, "layers.{l}.mlp.shared_experts.gate_proj.weight"},
    {Tensor::shared_gate, "layers.{l}.mlp.shared_expert.gate_proj.weight"},
    {Tensor::shared_gate, "layers.{l}.shared_mlp.input_linear.weight", Within::first_half},
    {Tensor::shared_up, "layers.{l}.mlp.shared_experts.up_proj.weight"},
    {Tensor::shared_up, "layers.{l}.mlp.shared_expert.up_proj.weight"},
    {Tensor::shared_up, "layers.{l}.shared_mlp.input_linear.weight", Within::second_half},
    {Tensor::shared_down, "layers.{l}.mlp.shared_experts.down_proj.weight"},
    {Tensor::shared_down, "layers.{l}.mlp.shared_expert.down_proj.weight"},
    {Tensor::shared_down, "layers.{l}.shared_mlp.output_linear.weight"},
    {Tensor::shared_expert_gate, "layers.{l}.mlp.shared_expert_gate.weight"},
    // The draft layer of DeepSeek-V3 and GLM-4.5.
    {Tensor::draft_input, "layers.{l}.eh_proj.weight"},
    {Tensor::draft_token_norm, "layers.{l}.enorm.weight"},
    {Tensor::draft_stream_norm, "layers.{l}.hnorm.weight"},
    {Tensor::draft_out_norm, "layers.{l}.shared_head.norm.weight"},
});

void put(std::string& name, std::string_view placeholder, std::int64_t number) {
  if (const auto place = name.find(placeholder); place != name.npos)
    name.replace(place, placeholder.size(), std::to_string(number));
}

}  // namespace

std::span<const Spelling> spellings() {
  return table;
}

std::string spelled(const Spelling& spelling, std::string_view root, const TensorId& id) {
  std::string name(spelling.name);
  put(name, "{l}", id.layer);
  put(name, "{e}", id.index);
  if (spelling.tensor ==
      Tensor::lm_head) {  // beside the model: "model." and "language_model.model." have it before
    constexpr std::string_view model = "model.";
    root.remove_suffix(root.ends_with(model) ? model.size() : 0);
  }
  return name.insert(0, root);
}

}  // namespace helix
