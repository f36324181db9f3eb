// The element-wise and per-row operations of a decode step on the CPU. Arguments as in kernels/ops/ops.hpp;
// `threads` is the number of OpenMP threads to use. All of them together take a few percent of a step, so
// they are plain loops that the compiler vectorises.
#pragma once

#include "kernels/ops/ops.hpp"

namespace helix::cpu {

void embed(std::int64_t batch, std::int64_t hidden, const std::int32_t* tokens, const BF16* table,
           std::int64_t first, std::int64_t rows, BF16* out);

void add_rms_norm(std::int64_t rows, std::int64_t cols, const BF16* delta, bool replace, float* residual,
                  const BF16* gain, float eps, BF16* out, int threads);

void add_layer_norm(std::int64_t rows, std::int64_t cols, const BF16* delta, bool replace, float* residual,
                    const BF16* gain, float eps, BF16* out, int threads);

void rms_norm_heads(std::int64_t batch, std::int64_t heads, std::int64_t cols, const BF16* gain, float eps,
                    HeadRows<BF16> x, int threads);

void square_sums(std::int64_t batch, std::int64_t cols, const BF16* x, std::int64_t ldx, float* sums);

void rms_norm_part(std::int64_t batch, std::int64_t cols, const BF16* gain, float eps,
                   const SquareSums& whole, BF16* x, std::int64_t ldx);

void add_bias(std::int64_t rows, std::int64_t cols, const BF16* bias, BF16* y, std::int64_t ldy);

void scale_by_position(std::int64_t rows, std::int64_t cols, const PositionGrowth& growth,
                       const std::int64_t* positions, BF16* y, std::int64_t ldy);

void add(std::int64_t count, const BF16* x, BF16* y);

void layer_norm_heads(std::int64_t batch, std::int64_t heads, std::int64_t cols, const BF16* gain,
                      const BF16* bias, float eps, HeadRows<BF16> x, int threads);

void rope(const RopeTable& table, std::int64_t batch, std::int64_t heads, const std::int64_t* positions,
          HeadRows<const BF16> x, HeadRows<BF16> out, int threads);

void add_sinks(std::int64_t batch, std::int64_t heads, std::int64_t v_dim, const float* sinks, BF16* o,
               float* lse, int threads);

void pack_partials(const PartialShape& shape, const BF16* o, const float* lse, std::byte* packed,
                   int threads);

void merge_partials(const PartialShape& shape, const std::byte* packed, BF16* out, int threads);

void gated(const GatedUnit& unit, std::int64_t m, std::int64_t f, const BF16* gate_up, BF16* out,
           int threads);

void gate_rows(std::int64_t rows, std::int64_t cols, const float* logits, BF16* y);

/// At most 64 groups, and 1024 experts but for softmax_topk.
void route(const RouterShape& shape, std::int64_t batch, const float* logits, const float* bias,
           std::int32_t* ids, float* weights, int threads);

/// A NaN counts as the largest value (as in NumPy and PyTorch), so that it is seen and not skipped.
void argmax(std::int64_t batch, std::int64_t cols, const float* logits, std::int64_t first_index,
            TopLogit* top, int threads);

/// The same order over the parts; -1 where every part has none.
void select_token(std::int64_t parts, std::int64_t batch, const TopLogit* gathered, std::int32_t* tokens);

void advance(std::int64_t batch, Append append, std::int64_t* positions, std::int64_t* slots,
             std::int64_t* lengths);
void advance_rows(std::int64_t batch, std::int64_t query_tokens, const AppendTurns& turns,
                  const StepState& state);
void copy_rows(const CopiedRows& copied);

}  // namespace helix::cpu
