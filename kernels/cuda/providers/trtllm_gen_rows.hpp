// What runs on the GPU around a trtllm-gen kernel.
#pragma once

#include <cstdint>

#include "kernels/cuda/device/stream.hpp"
#include "kernels/ops/bf16.hpp"

namespace helix::cuda {

/// int_lengths[i] = lengths[i], and 1 for a request without tokens, whose result is not looked at; counters = 0.
void prepare_rows(Stream stream, std::int64_t batch, std::int64_t q_heads, const std::int64_t* lengths,
                  std::int32_t* int_lengths, std::int32_t* counters);

/// stats [batch, q_heads, 2] -> lse [batch, q_heads], -inf where a request has no token.
void finish_rows(Stream stream, std::int64_t batch, std::int64_t q_heads, const std::int64_t* lengths,
                 const float* stats, float* lse);

/// Results of blocks that each attended a part of a request's tokens.
struct BlockPartials {
  const float* stats =
      nullptr;  // [batch, tiles, splits, tile_q, 2]: largest product, sum of exp2(scale_log2 * (x - it))
  const BF16* o = nullptr;  // [batch, tiles, splits, tile_q, v_dim], not divided by the sum
  std::int64_t splits = 1;  // that there is room for; a request of few tokens has fewer
  std::int64_t tile_q = 64, heads_per_tile = 64, tile_kv = 128;
  std::int64_t v_dim = 512, v_dim_per_tile = 512;  // tiles: first those of a head's values, then of heads
  float scale_log2 = 1;
};
/// o [batch, q_heads, v_dim] and lse of all parts together.
void merge_blocks(Stream stream, std::int64_t batch, std::int64_t q_heads, const std::int64_t* lengths,
                  const BlockPartials& partials, BF16* o, float* lse);

}  // namespace helix::cuda
