// KernelOps: dense products. bf16 ones are the matrix library's; where the weights are quantised,
// quantized_linear.hpp says what is done.
#include <algorithm>
#include <type_traits>

#include "kernels/cuda/kernel_ops.hpp"
#include "kernels/cuda/products/quantized_linear.hpp"
#include "kernels/cuda/small/packed_weight.hpp"
#include "kernels/ops/memory.hpp"

namespace helix::cuda {
namespace {

/// The weights are widened in registers for up to this many rows of x, for which they are read once.
constexpr std::int64_t few_rows = 32;

/// Products of terms are of this many rows of x at a time, and of as many outputs as their memory holds.
constexpr std::int64_t most_rows = 128;

MatrixProduct bf16_product(std::int64_t m, std::int64_t ldx, const PackedWeight& w, std::int64_t ldy,
                           bool fp32_out) {
  return {.m = m,
          .n = w.n,
          .k = w.k,
          .ldw = PackedLayout(w.n, w.k, w.dtype).ld,
          .ldx = ldx,
          .ldy = ldy,
          .fp32_out = fp32_out,
          .factor = w.scale};
}

}  // namespace

template <typename Y>
void KernelOps::product(std::int64_t m, const BF16* x, std::int64_t ldx, const PackedWeight& w, Y* y,
                        std::int64_t ldy) {
  if (w.n == 0) return;
  if (w.dtype == DType::bf16) {
    multiply(bf16_product(m, ldx, w, ldy, std::is_same_v<Y, float>), {.w = w.data, .x = x, .y = y});
    return;
  }
  PackedWeight one = w;
  one.count = 1;
  for (std::int64_t first = 0; first < m; first += most_rows) {
    const std::int64_t rows = std::min(most_rows, m - first);
    const BF16* const from = x + first * ldx;
    Y* const to = y + first * ldy;
    if (rows <= few_rows || !product_of_terms(rows, from, ldx, one, to, ldy))
      quantized_product(stream_, rows, from, ldx, 0, one, to, ldy, 0);
  }
}

/// False: the matrix library has no such product; nothing has been launched then but for rare shapes.
template <typename Y>
bool KernelOps::product_of_terms(std::int64_t m, const BF16* x, std::int64_t ldx, const PackedWeight& w, Y* y,
                                 std::int64_t ldy) {
  const std::int64_t padded = round_up(m, 16), stacked = SplitRows::terms(w.dtype) * padded;
  const PackedLayout weights(w.n, w.k, w.dtype), terms(stacked, w.k, w.dtype);
  if (!multiplies(w.dtype) || terms_ == nullptr) return false;
  Carver carver(terms_->data());
  const auto values = carver.take<std::byte>(terms.bytes);
  const SplitRows split{values, values + terms.scale_offset, carver.take<float>(padded), padded};
  const auto left = static_cast<std::int64_t>(terms_bytes_) - static_cast<std::int64_t>(carver.used());
  const std::int64_t most_columns =
      left / (stacked * static_cast<std::int64_t>(sizeof(float))) / kScaleTileRows * kScaleTileRows;
  if (most_columns <= 0) return false;
  const std::int64_t columns = std::min(weights.rows, most_columns);
  auto* const products = carver.take<float>(stacked * columns);

  split_rows(stream_, w.dtype, m, w.k, x, ldx, split);
  for (std::int64_t first = 0; first < w.n; first += columns) {
    const std::int64_t n = std::min(columns, weights.rows - first);
    const std::byte* const scales = w.data + weights.scale_offset + scale_index(first, 0, scale_tiles(w.k));
    const bool done = multiply({.dtype = w.dtype,
                                .m = stacked,
                                .n = n,
                                .k = weights.ld,
                                .ldw = weights.ld,
                                .ldx = terms.ld,
                                .ldy = columns,
                                .fp32_out = true},
                               {.w = w.data + first * weights.row_bytes,
                                .x = split.values,
                                .y = products,
                                .w_scales = scales,
                                .x_scales = split.scales});
    if (!done) return false;
    add_terms(stream_, w.dtype, m, std::min(n, w.n - first), products, columns, split, w.scale, y + first,
              ldy);
  }
  return true;
}

void KernelOps::linear(std::int64_t m, const BF16* x, std::int64_t ldx, const PackedWeight& w, BF16* y,
                       std::int64_t ldy) {
  product(m, x, ldx, w, y, ldy);
}
void KernelOps::linear(std::int64_t m, const BF16* x, std::int64_t ldx, const PackedWeight& w, float* y,
                       std::int64_t ldy) {
  product(m, x, ldx, w, y, ldy);
}

void KernelOps::linear_per_head(std::int64_t batch, HeadRows<const BF16> x, const PackedWeight& w,
                                HeadRows<BF16> y) {
  if (w.dtype != DType::bf16)
    return quantized_product(stream_, batch, x.data, x.row_stride, x.head_stride, w, y.data, y.row_stride,
                             y.head_stride);
  MatrixProduct product = bf16_product(batch, x.row_stride, w, y.row_stride, false);
  product.count = w.count;
  product.w_stride = static_cast<std::int64_t>(w.stride_bytes / sizeof(BF16));
  product.x_stride = x.head_stride;
  product.y_stride = y.head_stride;
  multiply(product, {.w = w.data, .x = x.data, .y = y.data});
}

}  // namespace helix::cuda
