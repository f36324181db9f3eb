// DecodeOps::kv_append_new (kernels/ops/ops.hpp) on a GPU, in one launch instead of up to three. A block has a KV
// head's new row: K in shared memory, rounded to bf16 between the steps as the separate ops leave it, so that both give the
// same numbers. Reads 2 bytes a value and writes the cache's.
#pragma once

#include "kernels/cuda/attention/kv_write.cuh"
#include "kernels/cuda/device/block_reduce.cuh"
#include "kernels/cuda/device/row_math.cuh"
#include "kernels/ops/ops.hpp"

namespace helix::cuda {

inline constexpr int kAppendThreads =
    128;  // as many as a norm of heads has, whose sums are added in the same order
inline constexpr int kAppendSumsBytes = 128;

struct NewKeys {
  Global<const std::int64_t> positions, slots;
  Global<const BF16> gain;
  std::int64_t normed;
  float eps;
  Global<const float> inv_freq;
  std::int64_t pairs, rotated;  // the first value that is
  float amplitude;
  bool interleaved;
};

template <DType dtype>
HELIX_KERNEL HELIX_BOUNDS(kAppendThreads, 4) void kv_append_new_rows(KvView cache, KvRows rows,
                                                                     NewKeys keys) {
  const std::int64_t row = blockIdx.y, head = blockIdx.x;
  const std::int64_t slot = keys.slots[row];
  if (slot < 0) return;  // the whole block
  const KvLayout layout(cache.shape);
  const Shared<float> k = shared_memory<float>(kAppendSumsBytes);
  const auto from = rows.k + (row * rows.ldk + head * layout.k_dims);
  float squares = 0.0f;  // of the values that the thread comes back to
  for (std::int64_t i = threadIdx.x; i < layout.k_dims; i += kAppendThreads) {
    const BF16 value = from[i];
    const float x = to_float(value);
    if (i < keys.normed) squares += x * x;
    k[i] = x;
  }
  if (keys.normed > 0) {
    const float scale = inverse_rms(block_sum(squares), keys.normed, keys.eps);
    for (std::int64_t i = threadIdx.x; i < keys.normed; i += kAppendThreads) {
      const BF16 gain = keys.gain[i];
      const float x = k[i];
      k[i] = to_float(to_bf16(x * scale * to_float(gain)));
    }
  }
  block_sync();
  for (std::int64_t pair = threadIdx.x; pair < keys.pairs; pair += kAppendThreads) {
    const std::int64_t position = keys.positions[row];
    const float frequency = keys.inv_freq[pair];
    const RotatedPair at(pair, keys.pairs, keys.interleaved);
    const float first = k[keys.rotated + at.first], second = k[keys.rotated + at.second];
    const Pair y = turned(rotation(position, frequency, keys.amplitude), {first, second});
    k[keys.rotated + at.first] = to_float(to_bf16(y.first));
    k[keys.rotated + at.second] = to_float(to_bf16(y.second));
  }
  block_sync();
  const std::int64_t pieces = (layout.k_dims + (layout.mla ? 0 : layout.v_dims)) / chunk_dims(dtype);
  for (std::int64_t i = threadIdx.x; i < pieces; i += kAppendThreads) {
    const RowPiece piece(layout, (row * cache.shape.kv_heads + head) * pieces + i);
    const std::int64_t dims = piece.is_v ? layout.v_dims : layout.k_dims;
    const auto part = part_of(cache, layout, row / cache.query_tokens, slot, piece);
    const int in_page = static_cast<int>(slot % layout.page_tokens);
    if (piece.is_v) {
      const auto v = rows.v + (row * rows.ldv + head * dims + piece.dim);
      store_row<dtype>(part, dims, in_page, piece.dim, [&](int j) -> float { return to_float(v[j]); });
    } else {
      store_row<dtype>(part, dims, in_page, piece.dim, [&](int j) -> float {
        const float x = k[piece.dim + j];
        return x;
      });
    }
  }
}

inline void kv_append_new(Stream stream, const KvView& cache, std::int64_t batch, const NewTokens& tokens) {
  const KvShape& shape = cache.shape;
  const auto kernel = of_dtype(shape.dtype, kv_append_new_rows<DType::bf16>, kv_append_new_rows<DType::fp8>,
                               kv_append_new_rows<DType::nvfp4>);
  const NewKeys keys{.positions = tokens.positions,
                     .slots = tokens.slots,
                     .gain = tokens.gain,
                     .normed = tokens.gain == nullptr ? 0 : tokens.normed,
                     .eps = tokens.eps,
                     .inv_freq = tokens.rope.inv_freq,
                     .pairs = tokens.rope.rope_dim / 2,
                     .rotated = tokens.rotated,
                     .amplitude = tokens.rope.amplitude,
                     .interleaved = tokens.rope.interleaved};
  launch(kernel,
         Dim3(static_cast<unsigned>(shape.kv_heads), static_cast<unsigned>(batch * cache.query_tokens)),
         kAppendThreads, kAppendSumsBytes + static_cast<std::size_t>(shape.head_dim) * sizeof(float), stream,
         cache, KvRows{tokens.k, tokens.v, tokens.ldk, tokens.ldv}, keys);
}

}  // namespace helix::cuda
