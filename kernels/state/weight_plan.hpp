// What the synthetic weights of a model are: key, dimensions and scale of each whole tensor. A shard is a
// sub-range of rows and columns of it; the fp64 reference reads the whole.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/ops/bf16.hpp"
#include "kernels/ops/ops.hpp"
#include "kernels/ops/tensor_ids.hpp"
#include "roofline/model/model_spec.hpp"
#include "roofline/step/sharding.hpp"

namespace helix {

/// The whole matrix of `tensor` in `layer` (0 for embedding and lm_head); `index` is the head (w_uk, w_uv) or
/// the expert (expert_*), else 0. Scales are powers of two, so that bf16 holds the values exactly.
WeightSlice whole_tensor(const ModelSpec& model, std::uint64_t seed, Tensor tensor, std::int64_t layer = 0,
                         std::int64_t index = 0);

/// What a packed matrix of one dtype holds of these slices: each divided by `scale`, which the products
/// multiply by again. fp8: the largest values become 255, so that none of the 256 synthetic ones is subnormal
/// or saturates, and the stored ones are synthetic::fp8_unit_value at every sharding. nvfp4: they become
/// 2040, so that the blocks' scales are at most 340 and none is subnormal; blocks are of 16 columns of the
/// whole tensor.
struct QuantizedMatrices {
  float scale = 1.0f;
  std::vector<std::vector<WeightSlice>> matrices;
};
QuantizedMatrices quantized(std::vector<std::vector<WeightSlice>> matrices, DType dtype);

/// Why a rank's part of these weights cannot be held in this dtype: a cut along the inputs that is inside of
/// an NVFP4 block. Empty: it can.
std::string why_not_cut(const ModelSpec& model, const Sharding& sharding, DType dtype);

/// The scale of matrices that a dtype holds whose largest magnitude this is: a power of two, so that what is stored is
/// the same at any such scale but for subnormals, which are 2^-14 of the largest and less. The largest becomes 224 to
/// 448 in fp8, and in nvfp4 the largest scale of a block.
float power_of_two_scale(float largest, DType dtype);

/// The tensors of one dimension that a layer has: the gains of its norms, and biases.
std::vector<Tensor> layer_vectors(const ModelSpec& model, std::int64_t layer);
/// Values of such a tensor; of final_norm, too.
std::int64_t vector_length(const ModelSpec& model, Tensor tensor);
/// As checkpoints have it: gains that each head has of its own are a matrix.
std::vector<std::int64_t> vector_shape(const ModelSpec& model, Tensor tensor);

/// Gain of a norm: 1 + unit_value / 4, rounded to bf16; of q_norm half of that. A bias is unit_value / 4.
std::vector<BF16> gain_values(const ModelSpec& model, std::uint64_t seed, Tensor tensor,
                              std::int64_t layer = 0);

/// What is added to a product: unit_value / 4, which bf16 holds.
std::vector<BF16> bias_values(const ModelSpec& model, std::uint64_t seed, Tensor tensor, std::int64_t layer);

/// What is kept in fp32: the router's bias (sigmoid_grouped: added for the choice of experts; else to the logits),
/// unit_value / 20, and the scores of attention's sinks, 3 unit_value.
std::vector<float> wide_values(const ModelSpec& model, std::uint64_t seed, Tensor tensor, std::int64_t layer);

/// The token that `request` decodes first.
std::int32_t first_token(const ModelSpec& model, std::uint64_t seed, std::int64_t request);

}  // namespace helix
