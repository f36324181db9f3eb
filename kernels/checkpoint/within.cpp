#include "kernels/checkpoint/within.hpp"

namespace helix {

StoredShape stored_shape(const ModelSpec& model, const WeightSlice& whole, Within within) {
  const AttentionSpec& a = model.attention;
  switch (within) {
    case Within::whole:
      return {whole.rows, whole.cols};
    case Within::q_of_qkv:
    case Within::k_of_qkv:
    case Within::v_of_qkv:
      return {(a.q_heads + a.kv_heads) * a.qk_head_dim + a.kv_heads * a.v_head_dim, whole.cols};
    case Within::first_half:
    case Within::second_half:
      return {2 * whole.rows, whole.cols};
    case Within::w_uk_of_kv_b:
    case Within::w_uv_of_kv_b:
      return {a.q_heads * (a.qk_nope_head_dim + a.v_head_dim), a.kv_lora_rank};
    case Within::first_half_of_experts:
    case Within::second_half_of_experts:
      return {model.moe.experts * 2 * whole.rows, whole.cols};
    case Within::one_of_experts:
      return {model.moe.experts * whole.rows, whole.cols};
    case Within::even_of_inputs:
    case Within::odd_of_inputs:
      return {model.moe.experts * whole.cols, 2 * whole.rows};
    case Within::one_of_inputs:
      return {model.moe.experts * whole.cols, whole.rows};
  }
  return {};
}

std::int64_t first_row(const ModelSpec& model, const WeightSlice& whole, Within within) {
  const AttentionSpec& a = model.attention;
  const std::int64_t index = whole.of.index, head_rows = a.qk_nope_head_dim + a.v_head_dim;
  switch (within) {
    case Within::whole:
    case Within::q_of_qkv:
    case Within::first_half:
      return 0;
    case Within::k_of_qkv:
      return a.q_heads * a.qk_head_dim;
    case Within::v_of_qkv:
      return (a.q_heads + a.kv_heads) * a.qk_head_dim;
    case Within::second_half:
      return whole.rows;
    case Within::w_uk_of_kv_b:
      return index * head_rows;
    case Within::w_uv_of_kv_b:
      return index * head_rows + a.qk_nope_head_dim;
    case Within::first_half_of_experts:
      return index * 2 * whole.rows;
    case Within::second_half_of_experts:
      return (index * 2 + 1) * whole.rows;
    case Within::one_of_experts:
      return index * whole.rows;
    case Within::even_of_inputs:
    case Within::odd_of_inputs:
    case Within::one_of_inputs:
      return index * whole.cols;
  }
  return 0;
}

std::int64_t step_of(Within within) {
  return within == Within::even_of_inputs || within == Within::odd_of_inputs ? 2 : 1;
}

std::int64_t first_of(Within within) {
  return within == Within::odd_of_inputs ? 1 : 0;
}

bool lies_so(const ModelSpec& model, Tensor tensor, Within within) {
  const bool of_experts =
      tensor == Tensor::expert_gate || tensor == Tensor::expert_up || tensor == Tensor::expert_down;
  return !of_experts || is_by_inputs(within) == model.moe.stored_by_inputs;
}

}  // namespace helix
