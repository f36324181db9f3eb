// The element-wise and per-row operations of a decode step as CUDA kernels. Arguments as in kernels/ops/ops.hpp;
// they only launch. Vector loads are used where pointers and widths allow 16 bytes, single values elsewhere.
#pragma once

#include "kernels/cuda/device/stream.hpp"
#include "kernels/cuda/small/packed_weight.hpp"
#include "kernels/ops/ops.hpp"

namespace helix::cuda {

void embed(Stream stream, std::int64_t batch, std::int64_t hidden, const std::int32_t* tokens,
           const BF16* table, std::int64_t first, std::int64_t rows, BF16* out);

void add_rms_norm(Stream stream, std::int64_t rows, std::int64_t cols, const BF16* delta, bool replace,
                  float* residual, const BF16* gain, float eps, BF16* out);

void add_layer_norm(Stream stream, std::int64_t rows, std::int64_t cols, const BF16* delta, bool replace,
                    float* residual, const BF16* gain, float eps, BF16* out);

void rms_norm_heads(Stream stream, std::int64_t batch, std::int64_t heads, std::int64_t cols,
                    const BF16* gain, float eps, HeadRows<BF16> x);

void square_sums(Stream stream, std::int64_t batch, std::int64_t cols, const BF16* x, std::int64_t ldx,
                 float* sums);

void rms_norm_part(Stream stream, std::int64_t batch, std::int64_t cols, const BF16* gain, float eps,
                   const SquareSums& whole, BF16* x, std::int64_t ldx);

void add_bias(Stream stream, std::int64_t rows, std::int64_t cols, const BF16* bias, BF16* y,
              std::int64_t ldy);

void scale_by_position(Stream stream, std::int64_t rows, std::int64_t cols, const PositionGrowth& growth,
                       const std::int64_t* positions, BF16* y, std::int64_t ldy);

void add(Stream stream, std::int64_t count, const BF16* x, BF16* y);

void layer_norm_heads(Stream stream, std::int64_t batch, std::int64_t heads, std::int64_t cols,
                      const BF16* gain, const BF16* bias, float eps, HeadRows<BF16> x);

void rope(Stream stream, const RopeTable& table, std::int64_t batch, std::int64_t heads,
          const std::int64_t* positions, HeadRows<const BF16> x, HeadRows<BF16> out);

void gated(Stream stream, const GatedUnit& unit, std::int64_t m, std::int64_t f, const BF16* gate_up,
           BF16* out);

void gate_rows(Stream stream, std::int64_t rows, std::int64_t cols, const float* logits, BF16* y);

/// At most 64 groups, 1024 experts and 32 chosen ones.
void route(Stream stream, const RouterShape& shape, std::int64_t batch, const float* logits,
           const float* bias, std::int32_t* ids, float* weights);

/// A NaN counts as the largest value.
void argmax(Stream stream, std::int64_t batch, std::int64_t cols, const float* logits,
            std::int64_t first_index, TopLogit* top);

void select_token(Stream stream, std::int64_t parts, std::int64_t batch, const TopLogit* gathered,
                  std::int32_t* tokens);

void advance(Stream stream, std::int64_t batch, Append append, std::int64_t* positions, std::int64_t* slots,
             std::int64_t* lengths);
void advance_rows(Stream stream, std::int64_t batch, std::int64_t query_tokens, const AppendTurns& turns,
                  const StepState& state);
void copy_rows(Stream stream, const CopiedRows& copied);

/// out[i] = sum over r of rows[r * stride + i], in that order and fp32, for i < count; `out` may be a row.
void sum_ranks(Stream stream, std::int64_t ranks, std::int64_t count, std::int64_t stride, const BF16* rows,
               BF16* out);

/// Rows of the slice, `ld` values apart, with zeros from slice.cols to ld.
void fill_rows(Stream stream, const WeightSlice& slice, std::int64_t ld, BF16* out);

/// Rows of the slice in fp8 or nvfp4 as rows [row, row + slice.rows) of a packed matrix. NVFP4's blocks are
/// those of the whole tensor.
void fill_quantized(Stream stream, const WeightSlice& slice, DType dtype, std::int64_t row,
                    const PackedLayout& layout, std::byte* matrix);

/// values [rows, cols] as rows [row, row + rows) of a packed matrix: BF16 and FP8 as they are, for nvfp4 floats that are
/// multiplied by `factor`.
void store_rows(Stream stream, const std::byte* values, std::int64_t rows, std::int64_t cols, float factor,
                DType dtype, std::int64_t row, const PackedLayout& layout, std::byte* matrix);

/// Reads `bytes` (a multiple of 16) and folds them into *sink, so that the reads are not optimised away.
void read_all(Stream stream, const std::byte* memory, std::size_t bytes, std::uint32_t* sink);

}  // namespace helix::cuda
