// DecodeOps::pack_partials and merge_partials (kernels/ops/ops.hpp) on a GPU: with partials (O_p, LSE_p) over
// disjoint sets of tokens, LSE in natural log,
//   M = max_p LSE_p,  w_p = exp(LSE_p - M),  O = sum_p w_p O_p / sum_p w_p.
// A shard without tokens (LSE_p = -inf) has an O_p that was never written: it is neither packed nor merged.
// One thread has 8 values of one head's row. Bytes: pack reads and writes, and merge reads, parts * batch *
// heads * (2 v_dim + 4); merge writes batch * heads * v_dim * 2.
#pragma once

#include <limits>
#include <numbers>

#include "kernels/cuda/device/device.cuh"
#include "kernels/ops/ops.hpp"
#include "roofline/base/error.hpp"

namespace helix::cuda {

inline constexpr int kPartialThreads = 128;
using EightBf16 = Vec<unsigned, 4>;

struct PackedPartials {
  std::int64_t parts, batch, heads, v_dim;
  std::int64_t lse_offset, chunk_bytes;

  explicit PackedPartials(const PartialShape& shape)
      : parts(shape.parts),
        batch(shape.batch),
        heads(shape.heads),
        v_dim(shape.v_dim),
        lse_offset(static_cast<std::int64_t>(shape.lse_offset())),
        chunk_bytes(static_cast<std::int64_t>(shape.chunk_bytes())) {
    if (v_dim % 8 != 0) throw UsageError("partial results on a GPU are multiples of 8 values wide");
  }
  std::int64_t pieces() const { return batch * heads * (v_dim / 8); }
};

HELIX_KERNEL void pack_partials_rows(PackedPartials shape, Global<const BF16> o, Global<const float> lse,
                                     Global<std::byte> packed) {
  const std::int64_t index = static_cast<std::int64_t>(blockIdx.x) * kPartialThreads + threadIdx.x;
  const std::int64_t per_row = shape.v_dim / 8;
  const std::int64_t piece = index % per_row, row = index / per_row;  // row: (batch, part, head)
  if (row >= shape.batch * shape.parts * shape.heads) return;
  const std::int64_t head = row % shape.heads, part = row / shape.heads % shape.parts;
  const std::int64_t to_row = row / shape.heads / shape.parts * shape.heads + head;
  const auto chunk = packed + part * shape.chunk_bytes;
  const float row_lse = lse[row];
  if (piece == 0) (chunk + shape.lse_offset).template as<float>()[to_row] = row_lse;
  if (row_lse == -std::numeric_limits<float>::infinity()) return;
  const EightBf16 values = o.template as<const EightBf16>()[row * per_row + piece];
  chunk.template as<EightBf16>()[to_row * per_row + piece] = values;
}

HELIX_KERNEL void merge_partials_rows(PackedPartials shape, Global<const std::byte> packed,
                                      Global<BF16> out) {
  constexpr float empty = -std::numeric_limits<float>::infinity();
  const std::int64_t index = static_cast<std::int64_t>(blockIdx.x) * kPartialThreads + threadIdx.x;
  const std::int64_t row = index / (shape.v_dim / 8);
  if (row >= shape.batch * shape.heads) return;
  const auto lse_of = [&](std::int64_t part) -> float {
    return (packed + (part * shape.chunk_bytes + shape.lse_offset)).template as<const float>()[row];
  };
  float largest = empty;
  for (std::int64_t p = 0; p < shape.parts; ++p) {
    if (!(lse_of(p) <= largest)) largest = lse_of(p);  // also takes a NaN
  }
  float sum[8] = {}, total = 0.0f;
  for (std::int64_t p = 0; p < shape.parts; ++p) {
    const float lse = lse_of(p);
    if (lse == empty) continue;
    const float weight = exp2_fast((lse - largest) * std::numbers::log2e_v<float>);
    total += weight;
    const EightBf16 values = (packed + p * shape.chunk_bytes).template as<const EightBf16>()[index];
    HELIX_UNROLL for (int i = 0; i < 8; ++i) sum[i] +=
        weight * to_float(BF16{static_cast<std::uint16_t>(values[i / 2] >> (i % 2 * 16))});
  }
  const float factor = largest == empty ? 0.0f : 1.0f / total;
  EightBf16 values;
  HELIX_UNROLL for (int i = 0; i < 4; ++i) values[i] =
      pack_bf16(factor * sum[2 * i], factor * sum[2 * i + 1]);
  out.template as<EightBf16>()[index] = values;
}

inline unsigned partial_blocks(std::int64_t pieces) {
  return static_cast<unsigned>((pieces + kPartialThreads - 1) / kPartialThreads);
}

inline void pack_partials(Stream stream, const PartialShape& shape, const BF16* o, const float* lse,
                          std::byte* packed) {
  const PackedPartials p(shape);
  launch(pack_partials_rows, partial_blocks(p.parts * p.pieces()), kPartialThreads, 0, stream, p, o, lse,
         packed);
}

inline void merge_partials(Stream stream, const PartialShape& shape, const std::byte* packed, BF16* out) {
  const PackedPartials p(shape);
  launch(merge_partials_rows, partial_blocks(p.pieces()), kPartialThreads, 0, stream, p, packed, out);
}

}  // namespace helix::cuda
