#include <cmath>
#include <limits>
#include <numbers>

#include "kernels/cuda/device/device.cuh"
#include "kernels/cuda/providers/trtllm_gen_rows.hpp"

namespace helix::cuda {
namespace {

constexpr int kRowThreads = 128;

unsigned row_blocks(std::int64_t values) {
  return static_cast<unsigned>((values + kRowThreads - 1) / kRowThreads);
}

HELIX_DEVICE std::int64_t row_index() {
  return static_cast<std::int64_t>(blockIdx.x) * kRowThreads + threadIdx.x;
}

HELIX_KERNEL void prepare(std::int64_t batch, std::int64_t rows, Global<const std::int64_t> lengths,
                          Global<std::int32_t> int_lengths, Global<std::int32_t> counters) {
  const std::int64_t i = row_index();
  if (i < batch) {
    const std::int64_t length = lengths[i];
    int_lengths[i] = length > 1 ? static_cast<std::int32_t>(length) : 1;
  }
  if (i < rows) counters[i] = 0;
}

HELIX_KERNEL void finish(std::int64_t rows, std::int64_t q_heads, Global<const std::int64_t> lengths,
                         Global<const float> stats, Global<float> lse) {
  const std::int64_t i = row_index();
  if (i >= rows) return;
  const std::int64_t length = lengths[i / q_heads];
  if (length == 0) {
    lse[i] = -std::numeric_limits<float>::infinity();
    return;
  }
  const float largest = stats[2 * i], sum = stats[2 * i + 1];
  lse[i] = largest + logf(sum);
}

struct MergedRows {
  Global<const float> stats;
  Global<const BF16> partial_o;
  Global<const std::int64_t> lengths;
  Global<BF16> o;
  Global<float> lse;
  BlockPartials shape;
};

/// A block a row: each thread adds up values kRowThreads apart.
HELIX_KERNEL void merge(std::int64_t q_heads, MergedRows rows) {
  const std::int64_t row = blockIdx.x, request = row / q_heads, head = row % q_heads;
  const BlockPartials& s = rows.shape;
  const std::int64_t length = rows.lengths[request];
  if (length == 0) {
    if (threadIdx.x == 0) rows.lse[row] = -std::numeric_limits<float>::infinity();
    return;
  }
  const std::int64_t parts = (length + s.tile_kv - 1) / s.tile_kv,
                     splits = parts < s.splits ? parts : s.splits;
  const std::int64_t of_values = s.v_dim / s.v_dim_per_tile, tiles = q_heads / s.heads_per_tile * of_values;
  const std::int64_t tile = (request * tiles + head / s.heads_per_tile * of_values) * s.splits;
  const std::int64_t in_tile = head % s.heads_per_tile;
  const auto place = [&](std::int64_t of_value, std::int64_t split) {
    return (tile + of_value * s.splits + split) * s.tile_q + in_tile;
  };
  float largest = -std::numeric_limits<float>::infinity(), sum = 0.0f;
  for (std::int64_t i = 0; i < splits; ++i) {
    const float x = rows.stats[2 * place(0, i)];
    largest = fmaxf(largest, x);
  }
  for (std::int64_t i = 0; i < splits; ++i) {
    const float x = rows.stats[2 * place(0, i)], part = rows.stats[2 * place(0, i) + 1];
    sum += part * exp2f(s.scale_log2 * (x - largest));
  }
  for (std::int64_t d = threadIdx.x; d < s.v_dim; d += kRowThreads) {
    const std::int64_t of_value = d / s.v_dim_per_tile;
    float value = 0.0f;
    for (std::int64_t i = 0; i < splits; ++i) {
      const float x = rows.stats[2 * place(of_value, i)];
      const BF16 part = rows.partial_o[place(of_value, i) * s.v_dim_per_tile + d % s.v_dim_per_tile];
      value += to_float(part) * exp2f(s.scale_log2 * (x - largest));
    }
    rows.o[row * s.v_dim + d] = to_bf16(value / sum);
  }
  if (threadIdx.x == 0) rows.lse[row] = s.scale_log2 / std::numbers::log2e_v<float> * largest + logf(sum);
}

}  // namespace

void prepare_rows(Stream stream, std::int64_t batch, std::int64_t q_heads, const std::int64_t* lengths,
                  std::int32_t* int_lengths, std::int32_t* counters) {
  const std::int64_t rows = batch * q_heads;
  launch(prepare, row_blocks(rows), kRowThreads, 0, stream, batch, rows, lengths, int_lengths, counters);
}

void finish_rows(Stream stream, std::int64_t batch, std::int64_t q_heads, const std::int64_t* lengths,
                 const float* stats, float* lse) {
  const std::int64_t rows = batch * q_heads;
  launch(finish, row_blocks(rows), kRowThreads, 0, stream, rows, q_heads, lengths, stats, lse);
}

void merge_blocks(Stream stream, std::int64_t batch, std::int64_t q_heads, const std::int64_t* lengths,
                  const BlockPartials& partials, BF16* o, float* lse) {
  launch(merge, static_cast<unsigned>(batch * q_heads), kRowThreads, 0, stream, q_heads,
         MergedRows{partials.stats, partials.o, lengths, o, lse, partials});
}

}  // namespace helix::cuda
