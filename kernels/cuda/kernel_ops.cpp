#include "kernels/cuda/kernel_ops.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "kernels/cuda/products/moe.hpp"
#include "kernels/cuda/small/packed_weight.hpp"
#include "kernels/cuda/small/small_ops.hpp"
#include "kernels/ops/memory.hpp"
#include "roofline/base/error.hpp"

namespace helix::cuda {
namespace {

constexpr DType dtypes[] = {DType::bf16, DType::fp8, DType::nvfp4};

}  // namespace

std::span<const DType> KernelOps::weight_dtypes() const {
  return dtypes;
}

std::span<const DType> KernelOps::kv_dtypes() const {
  return dtypes;
}

std::size_t KernelOps::packed_bytes(std::int64_t n, std::int64_t k, DType dtype) const {
  if (std::ranges::count(dtypes, dtype) == 0)
    throw UsageError(fmt::format("weights on a GPU can be bf16, fp8 or nvfp4, not {}", helix::name(dtype)));
  return static_cast<std::size_t>(round_up(PackedLayout(n, k, dtype).bytes, 64));
}

void KernelOps::make_padding(const PackedWeight& weight, std::byte* matrix, const PackedLayout& layout) {
  if (weight.dtype == DType::bf16) return;
  set_bytes(matrix, 0, static_cast<std::size_t>(layout.bytes));
  if (multiplies(weight.dtype)) ensure(*this, terms_, terms_bytes_);
}

void KernelOps::store_weight(const PackedWeight& weight, std::int64_t index, std::int64_t first,
                             std::int64_t rows, const void* values) {
  const PackedLayout layout(weight.n, weight.k, weight.dtype);
  std::byte* const matrix = weight.data + static_cast<std::size_t>(index) * weight.stride_bytes;
  if (first == 0) make_padding(weight, matrix, layout);
  const std::size_t value_bytes = weight.dtype == DType::bf16  ? sizeof(BF16)
                                  : weight.dtype == DType::fp8 ? sizeof(FP8)
                                                               : sizeof(float);
  const std::size_t bytes = static_cast<std::size_t>(rows * weight.k) * value_bytes;
  std::byte* const given = ensure(*this, given_, bytes);
  copy_to_device(given, values, bytes);
  store_rows(stream_, given, rows, weight.k, 1.0f / weight.scale, weight.dtype, first, layout, matrix);
  synchronize();  // the memory is used again
}

void KernelOps::fill_weight(const PackedWeight& weight, std::int64_t index,
                            std::span<const WeightSlice> slices) {
  const PackedLayout layout(weight.n, weight.k, weight.dtype);
  std::byte* const matrix = weight.data + static_cast<std::size_t>(index) * weight.stride_bytes;
  make_padding(weight, matrix, layout);
  std::int64_t row = 0;
  for (const WeightSlice& slice : slices) {
    if (weight.dtype == DType::bf16) {
      fill_rows(stream_, slice, layout.ld, reinterpret_cast<BF16*>(matrix) + row * layout.ld);
    } else {
      fill_quantized(stream_, slice, weight.dtype, row, layout, matrix);
    }
    row += slice.rows;
  }
}

void KernelOps::fill_matrix(BF16* out, const WeightSlice& slice) {
  fill_rows(stream_, slice, slice.cols, out);
}

void KernelOps::embed(std::int64_t batch, std::int64_t hidden, const std::int32_t* tokens, const BF16* table,
                      std::int64_t first, std::int64_t rows, BF16* out) {
  cuda::embed(stream_, batch, hidden, tokens, table, first, rows, out);
}

void KernelOps::add_rms_norm(std::int64_t rows, std::int64_t cols, const BF16* delta, bool replace,
                             float* residual, const BF16* gain, float eps, BF16* out) {
  cuda::add_rms_norm(stream_, rows, cols, delta, replace, residual, gain, eps, out);
}

void KernelOps::add_layer_norm(std::int64_t rows, std::int64_t cols, const BF16* delta, bool replace,
                               float* residual, const BF16* gain, float eps, BF16* out) {
  cuda::add_layer_norm(stream_, rows, cols, delta, replace, residual, gain, eps, out);
}

void KernelOps::rms_norm_heads(std::int64_t batch, std::int64_t heads, std::int64_t cols, const BF16* gain,
                               float eps, HeadRows<BF16> x) {
  cuda::rms_norm_heads(stream_, batch, heads, cols, gain, eps, x);
}

void KernelOps::square_sums(std::int64_t batch, std::int64_t cols, const BF16* x, std::int64_t ldx,
                            float* sums) {
  cuda::square_sums(stream_, batch, cols, x, ldx, sums);
}

void KernelOps::rms_norm_part(std::int64_t batch, std::int64_t cols, const BF16* gain, float eps,
                              const SquareSums& whole, BF16* x, std::int64_t ldx) {
  cuda::rms_norm_part(stream_, batch, cols, gain, eps, whole, x, ldx);
}

void KernelOps::add_bias(std::int64_t rows, std::int64_t cols, const BF16* bias, BF16* y, std::int64_t ldy) {
  cuda::add_bias(stream_, rows, cols, bias, y, ldy);
}

void KernelOps::scale_by_position(std::int64_t rows, std::int64_t cols, const PositionGrowth& growth,
                                  const std::int64_t* positions, BF16* y, std::int64_t ldy) {
  cuda::scale_by_position(stream_, rows, cols, growth, positions, y, ldy);
}

void KernelOps::add(std::int64_t count, const BF16* x, BF16* y) {
  cuda::add(stream_, count, x, y);
}

void KernelOps::layer_norm_heads(std::int64_t batch, std::int64_t heads, std::int64_t cols, const BF16* gain,
                                 const BF16* bias, float eps, HeadRows<BF16> x) {
  cuda::layer_norm_heads(stream_, batch, heads, cols, gain, bias, eps, x);
}

void KernelOps::rope(const RopeTable& table, std::int64_t batch, std::int64_t heads,
                     const std::int64_t* positions, HeadRows<const BF16> x, HeadRows<BF16> out) {
  cuda::rope(stream_, table, batch, heads, positions, x, out);
}

void KernelOps::gated(const GatedUnit& unit, std::int64_t m, std::int64_t f, const BF16* gate_up, BF16* out) {
  cuda::gated(stream_, unit, m, f, gate_up, out);
}

void KernelOps::gate_rows(std::int64_t rows, std::int64_t cols, const float* logits, BF16* y) {
  cuda::gate_rows(stream_, rows, cols, logits, y);
}

void KernelOps::route(const RouterShape& shape, std::int64_t batch, const float* logits, const float* bias,
                      std::int32_t* ids, float* weights) {
  cuda::route(stream_, shape, batch, logits, bias, ids, weights);
}

std::size_t KernelOps::moe_scratch_bytes(std::int64_t most_requests, std::int64_t top_k, std::int64_t hidden,
                                         std::int64_t ffn, std::int64_t local_experts) const {
  return cuda::moe_scratch_bytes(most_requests, top_k, hidden, ffn, local_experts);
}

void KernelOps::moe_experts(std::int64_t batch, const BF16* x, const ExpertChoice& choice,
                            const ExpertShard& experts, const BF16* shared, BF16* out,
                            std::span<std::byte> scratch) {
  cuda::moe_experts(stream_, batch, x, choice, experts, shared, out, scratch);
}

void KernelOps::argmax(std::int64_t batch, std::int64_t cols, const float* logits, std::int64_t first_index,
                       TopLogit* top) {
  cuda::argmax(stream_, batch, cols, logits, first_index, top);
}

void KernelOps::select_token(std::int64_t parts, std::int64_t batch, const TopLogit* gathered,
                             std::int32_t* tokens) {
  cuda::select_token(stream_, parts, batch, gathered, tokens);
}

void KernelOps::advance(std::int64_t batch, Append append, std::int64_t* positions, std::int64_t* slots,
                        std::int64_t* lengths) {
  cuda::advance(stream_, batch, append, positions, slots, lengths);
}

void KernelOps::advance_rows(std::int64_t batch, std::int64_t query_tokens, const AppendTurns& turns,
                             const StepState& state) {
  cuda::advance_rows(stream_, batch, query_tokens, turns, state);
}

void KernelOps::copy_rows(const CopiedRows& copied) {
  cuda::copy_rows(stream_, copied);
}

}  // namespace helix::cuda
