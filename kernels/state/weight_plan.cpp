#include "kernels/state/weight_plan.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <utility>

#include "kernels/ops/nvfp4.hpp"
#include "kernels/ops/synthetic.hpp"

namespace helix {
namespace {

struct Dims {
  std::int64_t rows = 0, cols = 0;
};

Dims matrix_dims(const ModelSpec& m, Tensor tensor) {
  const AttentionSpec& a = m.attention;
  switch (tensor) {
    case Tensor::embedding:
    case Tensor::lm_head:
      return {m.vocab, m.hidden};
    case Tensor::q:
      return {a.q_heads * a.qk_head_dim, m.hidden};
    case Tensor::k:
      return {a.kv_heads * a.qk_head_dim, m.hidden};
    case Tensor::v:
      return {a.kv_heads * a.v_head_dim, m.hidden};
    case Tensor::q_a:
      return {a.q_lora_rank, m.hidden};
    case Tensor::q_b:
      return {a.q_heads * a.qk_head_dim, a.q_lora_rank};
    case Tensor::kv_a:
      return {a.kv_lora_rank + a.qk_rope_head_dim, m.hidden};
    case Tensor::w_uk:
      return {a.kv_lora_rank, a.qk_nope_head_dim};
    case Tensor::w_uv:
      return {a.v_head_dim, a.kv_lora_rank};
    case Tensor::index_q:
      return {a.indexer.heads * a.indexer.head_dim, a.q_lora_rank};
    case Tensor::index_k:
      return {a.indexer.head_dim, m.hidden};
    case Tensor::index_weights:
      return {a.indexer.heads, m.hidden};
    case Tensor::o:
      return {m.hidden, a.q_heads * a.v_head_dim};
    case Tensor::gate:
    case Tensor::up:
      return {m.ffn, m.hidden};
    case Tensor::down:
      return {m.hidden, m.ffn};
    case Tensor::router:
      return {m.moe.experts, m.hidden};
    case Tensor::expert_gate:
    case Tensor::expert_up:
      return {m.moe.expert_ffn, m.hidden};
    case Tensor::expert_down:
      return {m.hidden, m.moe.expert_ffn};
    case Tensor::shared_gate:
    case Tensor::shared_up:
      return {m.moe.shared_ffn, m.hidden};
    case Tensor::shared_down:
      return {m.hidden, m.moe.shared_ffn};
    case Tensor::shared_expert_gate:
      return {1, m.hidden};
    case Tensor::draft_input:
      return {m.hidden, 2 * m.hidden};
    default:
      throw std::invalid_argument("whole_tensor: not a weight matrix");
  }
}

std::uint64_t key_of(std::uint64_t seed, Tensor tensor, std::int64_t layer, std::int64_t index = 0) {
  return synthetic::tensor_key(seed, static_cast<std::uint32_t>(tensor), static_cast<std::uint32_t>(layer),
                               static_cast<std::uint32_t>(index));
}

/// Normed inputs have variance 1, so products with weight_scale have a standard deviation of 0.7 to 1.4. On
/// top of that the problem is kept well conditioned, so that a difference from the reference means a fault
/// and not rounding that grew on its way:
///  - the embedding is the residual stream itself, which blocks add to without dominating it, whatever it is
///    multiplied by before; so is what a draft layer begins with;
///  - attention scores have a standard deviation below 1 (a softmax turns an absolute error of its scores
///    into a relative error of the output), hence smaller queries and keys, and decoded values weigh no more
///    than those of the history;
///  - the router's is rounded up to 1 to 2, that its probabilities differ as in a trained model.
float scale_of(const ModelSpec& model, Tensor tensor, Dims dims) {
  // w_uk is used transposed in effect: k_nope = w_uk^T c sums over the latent.
  const std::int64_t fan_in = tensor == Tensor::w_uk ? dims.rows : dims.cols;
  const float unit = synthetic::weight_scale(fan_in);
  switch (tensor) {
    case Tensor::embedding:
      return 8.0f / std::exp2(std::round(std::log2(static_cast<float>(model.embedding_multiplier))));
    case Tensor::draft_input:
      return unit * 8.0f;
    case Tensor::router:
      return std::exp2(std::ceil(0.5f * std::log2(3.0f / static_cast<float>(fan_in))));
    case Tensor::q:
    case Tensor::q_b:
    case Tensor::k:
    case Tensor::v:
      return unit * 0.5f;
    default:
      return unit;
  }
}

}  // namespace

WeightSlice whole_tensor(const ModelSpec& model, std::uint64_t seed, Tensor tensor, std::int64_t layer,
                         std::int64_t index) {
  if (tensor == Tensor::lm_head && model.tied_embeddings) tensor = Tensor::embedding;
  const Dims dims = matrix_dims(model, tensor);
  return {.key = key_of(seed, tensor, layer, index),
          .rows = dims.rows,
          .cols = dims.cols,
          .scale = scale_of(model, tensor, dims),
          .of = {tensor, layer, index}};
}

QuantizedMatrices quantized(std::vector<std::vector<WeightSlice>> matrices, DType dtype) {
  if (dtype == DType::bf16) return {1.0f, std::move(matrices)};
  float largest = 0.0f;
  for (const auto& matrix : matrices)
    for (const WeightSlice& slice : matrix) largest = std::max(largest, slice.scale);
  const float scale = largest / (dtype == DType::nvfp4 ? 2048.0f : 256.0f);
  for (auto& matrix : matrices)
    for (WeightSlice& slice : matrix) slice.scale /= scale;
  return {scale, std::move(matrices)};
}

std::string why_not_cut(const ModelSpec& model, const Sharding& sharding, DType dtype) {
  if (dtype != DType::nvfp4) return {};
  const auto problem = [](std::int64_t inputs, int parts) {
    return inputs == 0 || parts == 1 || inputs % (parts * kNvfp4Block) == 0
               ? std::string()
               : fmt::format(
                     "nvfp4 weights are cut in whole blocks of {}: {} FFN columns in {} parts are not",
                     kNvfp4Block, inputs, parts);
  };
  const int parts = sharding.tpf * sharding.ep;
  std::vector<std::string> reasons{
      problem(model.moe.experts > 0 ? model.moe.expert_ffn : 0, sharding.tpf),
      problem(attends_whole_requests(sharding) ? 0 : model.moe.shared_ffn, parts)};
  for (std::int64_t l = 0; l < model.layers; ++l)
    if (!model.layer_kind(l).moe()) reasons.push_back(problem(model.ffn, parts));
  for (const std::string& reason : reasons)
    if (!reason.empty()) return reason;
  return {};
}

float power_of_two_scale(float largest, DType dtype) {
  if (dtype == DType::bf16 || largest == 0.0f) return 1.0f;
  return std::exp2(std::ceil(std::log2(largest / (dtype == DType::nvfp4 ? 6.0f * 448.0f : 448.0f))));
}

std::vector<Tensor> layer_vectors(const ModelSpec& model, std::int64_t layer) {
  std::vector<Tensor> tensors{Tensor::input_norm};
  if (model.blocks == Blocks::sequential) tensors.push_back(Tensor::post_norm);
  if (model.post_norms) tensors.insert(tensors.end(), {Tensor::attention_out_norm, Tensor::ffn_out_norm});
  if (model.attention.qk_norm != QkNorm::none)
    tensors.insert(tensors.end(), {Tensor::q_norm, Tensor::k_norm});
  if (model.attention.q_lora_rank > 0) tensors.push_back(Tensor::q_a_norm);
  if (model.attention.kind == AttentionKind::mla) tensors.push_back(Tensor::kv_a_norm);
  const bool moe = model.layer_kind(layer).moe();
  if (moe && model.moe.has_router_bias()) tensors.push_back(Tensor::router_bias);
  if (moe && model.moe.biased) {
    tensors.insert(tensors.end(),
                   {Tensor::expert_gate_bias, Tensor::expert_up_bias, Tensor::expert_down_bias});
  }
  if (model.attention.sinks) tensors.push_back(Tensor::sinks);
  if (model.attention.qkv_bias)
    tensors.insert(tensors.end(), {Tensor::q_bias, Tensor::k_bias, Tensor::v_bias});
  if (model.attention.output_bias) tensors.push_back(Tensor::o_bias);
  if (model.ffn_bias && !moe)
    tensors.insert(tensors.end(), {Tensor::gate_bias, Tensor::up_bias, Tensor::down_bias});
  if (model.attention.indexer.heads > 0)
    tensors.insert(tensors.end(), {Tensor::index_k_norm, Tensor::index_k_bias});
  if (layer == model.layers)
    tensors.insert(tensors.end(),
                   {Tensor::draft_token_norm, Tensor::draft_stream_norm, Tensor::draft_out_norm});
  return tensors;
}

std::int64_t vector_length(const ModelSpec& m, Tensor tensor) {
  switch (tensor) {
    case Tensor::input_norm:
    case Tensor::post_norm:
    case Tensor::final_norm:
    case Tensor::attention_out_norm:
    case Tensor::ffn_out_norm:
    case Tensor::draft_token_norm:
    case Tensor::draft_stream_norm:
    case Tensor::draft_out_norm:
      return m.hidden;
    case Tensor::q_norm:
      return m.attention.qk_gains(m.attention.q_heads);
    case Tensor::k_norm:
      return m.attention.qk_gains(m.attention.kv_heads);
    case Tensor::q_bias:
      return m.attention.q_heads * m.attention.qk_head_dim;
    case Tensor::k_bias:
      return m.attention.kv_heads * m.attention.qk_head_dim;
    case Tensor::v_bias:
      return m.attention.kv_heads * m.attention.v_head_dim;
    case Tensor::o_bias:
    case Tensor::down_bias:
      return m.hidden;
    case Tensor::gate_bias:
    case Tensor::up_bias:
      return m.ffn;
    case Tensor::expert_gate_bias:
    case Tensor::expert_up_bias:
      return m.moe.experts * m.moe.expert_ffn;
    case Tensor::expert_down_bias:
      return m.moe.experts * m.hidden;
    case Tensor::sinks:
      return m.attention.q_heads;
    case Tensor::q_a_norm:
      return m.attention.q_lora_rank;
    case Tensor::kv_a_norm:
      return m.attention.kv_lora_rank;
    case Tensor::index_k_norm:
    case Tensor::index_k_bias:
      return m.attention.indexer.head_dim;
    case Tensor::router_bias:
      return m.moe.experts;
    default:
      throw std::invalid_argument("vector_length: a matrix");
  }
}

std::vector<std::int64_t> vector_shape(const ModelSpec& model, Tensor tensor) {
  const std::int64_t length = vector_length(model, tensor), width = model.attention.qk_head_dim;
  const bool of_head = model.attention.qk_norm == QkNorm::layer_heads &&
                       (tensor == Tensor::q_norm || tensor == Tensor::k_norm);
  return of_head ? std::vector{length / width, width} : std::vector{length};
}

std::vector<BF16> gain_values(const ModelSpec& model, std::uint64_t seed, Tensor tensor, std::int64_t layer) {
  std::vector<BF16> gain(static_cast<std::size_t>(vector_length(model, tensor)));
  const std::uint32_t row = synthetic::row_key(key_of(seed, tensor, layer), 0);
  // Normed queries and keys would have scores of standard deviation 1, see scale_of.
  const float mean = tensor == Tensor::q_norm ? 0.5f : tensor == Tensor::index_k_bias ? 0.0f : 1.0f;
  for (std::size_t i = 0; i < gain.size(); ++i) {
    const float part = 0.25f * synthetic::unit_value(row, static_cast<std::uint32_t>(i));
    gain[i] = to_bf16(mean == 0.0f ? part : mean * (1.0f + part));
  }
  return gain;
}

std::vector<BF16> bias_values(const ModelSpec& model, std::uint64_t seed, Tensor tensor, std::int64_t layer) {
  std::vector<BF16> bias(static_cast<std::size_t>(vector_length(model, tensor)));
  const std::uint32_t row = synthetic::row_key(key_of(seed, tensor, layer), 0);
  for (std::size_t i = 0; i < bias.size(); ++i)
    bias[i] = to_bf16(0.25f * synthetic::unit_value(row, static_cast<std::uint32_t>(i)));
  return bias;
}

std::vector<float> wide_values(const ModelSpec& model, std::uint64_t seed, Tensor tensor,
                               std::int64_t layer) {
  std::vector<float> values(static_cast<std::size_t>(vector_length(model, tensor)));
  const std::uint32_t row = synthetic::row_key(key_of(seed, tensor, layer), 0);
  const float largest = tensor == Tensor::sinks ? 3.0f : 0.05f;
  for (std::size_t i = 0; i < values.size(); ++i)
    values[i] = largest * synthetic::unit_value(row, static_cast<std::uint32_t>(i));
  return values;
}

std::int32_t first_token(const ModelSpec& model, std::uint64_t seed, std::int64_t request) {
  const std::uint32_t random = synthetic::row_key(key_of(seed, Tensor::first_tokens, 0), request);
  return static_cast<std::int32_t>(random % static_cast<std::uint64_t>(model.vocab));
}

}  // namespace helix
