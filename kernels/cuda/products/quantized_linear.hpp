// Dense products with quantised weights. Few rows: the weights are widened in registers (products.cuh), the
// activations stay bf16. Many: the products are cuBLASLt's, whose narrow modes want both operands narrow.
//
// Activations rounded to one e4m3 would add an error of 2^-4 / sqrt(3) = 2.6 % or so to every product, to one
// e2m1 10 %, and both miss the 1e-2 that a step may differ from the reference. So a row of x is written as a
// sum of terms, each of the weights' own type and in units finer by a fixed step, and the terms are stacked
// as rows: the weights are still read once, and the matrix library does the rest.
// fp8: 2 terms, step 16: x = s (e4m3 + e4m3 / 16), s a power of two for each row, of which its largest is
// 224 to 448. A bf16 has 8 significant bits and an e4m3 4, the remainder of the first term 4: the sum is x
// itself, but for values below 2^-6 s, which are wrong by at most 2^-14 s, 2^-21 of the largest.
// nvfp4: 4 terms, step 4: each term's block scale is a sixth of the largest remainder, and what is left is at
// most one unit of e2m1, so every term leaves at most (1 + 2^-4) / 6 of the block's largest to the next. The
// last leaves an error of 0.064 (root mean square of e2m1's rounding) * 6^-3 = 3e-4 of the block's largest,
// less than the 2^-9 by which x was rounded to bf16.
// So the tolerance of bf16 activations holds for quantised weights, too. At 2 and 4 terms the FLOP rate is
// that of bf16: what is gained are the weights' bytes.
#pragma once

#include <cstdint>

#include "kernels/cuda/device/stream.hpp"
#include "kernels/ops/ops.hpp"

namespace helix::cuda {

/// For h in [0, w.count): y[i, h * y_stride + 0:n] = x[i, h * x_stride + 0:k] W_h^T for i < m; the weights
/// are read once for every 32 rows. Y is BF16 or float.
template <typename Y>
void quantized_product(Stream stream, std::int64_t m, const BF16* x, std::int64_t ldx, std::int64_t x_stride,
                       const PackedWeight& w, Y* y, std::int64_t ldy, std::int64_t y_stride);

/// m rows of k values as terms in device memory: term t of row i is row t * padded + i of `values`, all in
/// the layout of packed weights, with its scales. Rows [m, padded) are zero.
struct SplitRows {
  std::byte* values;
  std::byte* scales;  // nvfp4
  float* units;       // [padded] s
  std::int64_t padded;

  static constexpr int terms(DType dtype) { return dtype == DType::fp8 ? 2 : 4; }
  static constexpr float step(DType dtype) { return dtype == DType::fp8 ? 16.0f : 4.0f; }
};

/// A row with a value that is not finite has NaN or infinite units, so that its products show it.
void split_rows(Stream stream, DType dtype, std::int64_t m, std::int64_t k, const BF16* x, std::int64_t ldx,
                const SplitRows& rows);

/// y[i, j] = factor * units[i] * sum over t of products[t * padded + i, j] / step^t for j < n; the rows of
/// `products` are ld apart.
template <typename Y>
void add_terms(Stream stream, DType dtype, std::int64_t m, std::int64_t n, const float* products,
               std::int64_t ld, const SplitRows& rows, float factor, Y* y, std::int64_t ldy);

}  // namespace helix::cuda
