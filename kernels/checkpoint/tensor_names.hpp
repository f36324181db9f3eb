// What checkpoints call the tensors of a model, in one table for all architectures: where they differ, a file has one of
// the names, and which it is says how the tensor lies in it.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "kernels/ops/tensor_ids.hpp"

namespace helix {

/// How a tensor lies in the stored one.
enum class Within : std::uint8_t {
  whole,
  q_of_qkv,  // the rows of Q, K and V under each other
  k_of_qkv,
  v_of_qkv,
  first_half,  // gate and up under each other
  second_half,
  w_uk_of_kv_b,  // of each head the rows of K, which is w_uk transposed, and those of V
  w_uv_of_kv_b,
  first_half_of_experts,  // [experts, 2 ffn, hidden]
  second_half_of_experts,
  one_of_experts,  // [experts, hidden, ffn]
  even_of_inputs,  // [experts, hidden, 2 ffn], gate and up in turn
  odd_of_inputs,
  one_of_inputs,  // [experts, ffn, hidden]
};

/// Of the last three: of matrices the transposed, the values of an output in a column.
constexpr bool is_by_inputs(Within within) {
  return within >= Within::even_of_inputs;
}

struct Spelling {
  Tensor tensor;
  /// "{l}" is the layer, "{e}" the expert; behind what all names of the model begin with, but for lm_head.
  std::string_view name;
  Within within = Within::whole;
};
/// Those of a tensor follow each other.
std::span<const Spelling> spellings();

std::string spelled(const Spelling& spelling, std::string_view root, const TensorId& id);

}  // namespace helix
