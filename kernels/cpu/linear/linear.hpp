// Skinny matrix products y = x W^T of a decode step on the CPU: W is packed when it is made (packing.hpp) and
// read exactly once, as one linear stream with software prefetch, for any number of tokens up to 32, and from
// memory once for more. Semantics as the like-named members of DecodeOps (ops.hpp).
//
// Threads share the outputs, never the inputs, so results do not depend on their number. The activations
// are repacked into a buffer that belongs to the calling thread and only ever grows: it is allocated by
// the first step.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "kernels/ops/bf16.hpp"
#include "kernels/ops/ops.hpp"

namespace helix::cpu {

/// dtype: bf16 or fp8; throws UsageError for others.
std::size_t packed_bytes(std::int64_t n, std::int64_t k, DType dtype);

void fill_weight(const PackedWeight& weight, std::int64_t index, std::span<const WeightSlice> slices,
                 int threads);
void store_weight(const PackedWeight& weight, std::int64_t index, std::int64_t first, std::int64_t rows,
                  const void* values, int threads);
void fill_matrix(BF16* out, const WeightSlice& slice, int threads);

void linear(std::int64_t m, const BF16* x, std::int64_t ldx, const PackedWeight& w, BF16* y, std::int64_t ldy,
            int threads);
void linear(std::int64_t m, const BF16* x, std::int64_t ldx, const PackedWeight& w, float* y,
            std::int64_t ldy, int threads);
void linear_per_head(std::int64_t batch, HeadRows<const BF16> x, const PackedWeight& w, HeadRows<BF16> y,
                     int threads);

/// What the products run on: "amx-bf16", "avx512-bf16", or Highway's target, "avx2", "neon" ...
std::string linear_kernel_path();

}  // namespace helix::cpu
