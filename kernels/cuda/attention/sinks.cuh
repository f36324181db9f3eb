// DecodeOps::add_sinks (kernels/ops/ops.hpp) on a GPU: a warp has one head's row, of which a lane has 8 values at a time.
// The row of a shard without tokens (LSE = -inf) was never written: it is set to 0, not multiplied. Bytes: batch * heads *
// (4 v_dim + 8).
#pragma once

#include <limits>

#include "kernels/cuda/attention/partials.cuh"
#include "kernels/cuda/device/device.cuh"
#include "kernels/ops/ops.hpp"

namespace helix::cuda {

HELIX_KERNEL void add_sinks_rows(std::int64_t rows, std::int64_t heads, std::int64_t pieces,
                                 Global<const float> sinks, Global<BF16> o, Global<float> lse) {
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * (kPartialThreads / kWarp) + warp_index();
  if (row >= rows) return;  // the whole warp
  const float before = lse[row], sink = sinks[row % heads];
  warp_sync();  // all lanes have read it
  const bool empty = before == -std::numeric_limits<float>::infinity();
  const float factor = 1.0f / (1.0f + expf(sink - before));
  if (lane_index() == 0) lse[row] = empty ? sink : fmaxf(before, sink) + log1pf(expf(-fabsf(sink - before)));
  const Global<EightBf16> values = (o + row * pieces * 8).template as<EightBf16>();
  for (std::int64_t piece = lane_index(); piece < pieces; piece += kWarp) {
    EightBf16 scaled = {};
    if (!empty) {
      const EightBf16 eight = values[piece];
      HELIX_UNROLL for (int i = 0; i < 4; ++i) scaled[i] =
          pack_bf16(factor * to_float(BF16{static_cast<std::uint16_t>(eight[i])}),
                    factor * to_float(BF16{static_cast<std::uint16_t>(eight[i] >> 16)}));
    }
    values[piece] = scaled;
  }
}

inline void add_sinks(Stream stream, std::int64_t batch, std::int64_t heads, std::int64_t v_dim,
                      const float* sinks, BF16* o, float* lse) {
  const PackedPartials p({.batch = batch, .heads = heads, .v_dim = v_dim});
  launch(add_sinks_rows, partial_blocks(batch * heads * kWarp), kPartialThreads, 0, stream, batch * heads,
         heads, v_dim / 8, sinks, o, lse);
}

}  // namespace helix::cuda
