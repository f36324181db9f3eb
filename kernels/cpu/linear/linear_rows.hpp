// Matrix products of selected rows: what a MoE expert does with the tokens that chose it.
#pragma once

#include <cstdint>

#include "kernels/ops/bf16.hpp"
#include "kernels/ops/ops.hpp"

namespace helix::cpu {

/// m rows of activations: row i is row index[i] (null: i) of x.
struct Rows {
  const BF16* x = nullptr;
  std::int64_t ldx = 0;
  const std::int32_t* index = nullptr;
  std::int64_t m = 0;

  const BF16* row(std::int64_t i) const { return x + (index == nullptr ? i : index[i]) * ldx; }
};

/// y[i, 0:n] = row(i) W^T.
void linear_rows(const Rows& rows, const PackedWeight& w, BF16* y, std::int64_t ldy, int threads);
void linear_rows(const Rows& rows, const PackedWeight& w, float* y, std::int64_t ldy, int threads);

}  // namespace helix::cpu
