// How a tensor of the model lies in one that a checkpoint stores: as it is, among others under each other, transposed.
#pragma once

#include <cstdint>

#include "kernels/ops/tensor_ids.hpp"
#include "kernels/state/weight_plan.hpp"

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

struct StoredShape {
  std::int64_t rows = 0, cols = 0;
  bool operator==(const StoredShape&) const = default;
};

/// Of the stored matrix in which a whole tensor lies this way.
StoredShape stored_shape(const ModelSpec& model, const WeightSlice& whole, Within within);
/// The stored row in which it begins; where it lies by inputs, the first of its expert's.
std::int64_t first_row(const ModelSpec& model, const WeightSlice& whole, Within within);
/// Gate and up in turn: how far apart an output's columns are, and which is the first.
std::int64_t step_of(Within within);
std::int64_t first_of(Within within);
/// Tensors of experts lie by inputs in some models, under names that others have for another layout.
bool lies_so(const ModelSpec& model, Tensor tensor, Within within);

}  // namespace helix
