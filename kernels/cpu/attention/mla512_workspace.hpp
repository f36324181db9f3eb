// What a worker keeps of one request's absorbed MLA between chunks and, of one chunk, between its stages,
// where the products are dot products of AVX-512 (attention_avx512_mla.cpp).
#pragma once

#include "kernels/cpu/attention/chunk_kernel.hpp"

namespace helix::cpu::mla512 {

constexpr std::int64_t lanes = 16;
constexpr std::int64_t tile_tokens = 16, tile_bytes = 1024;
constexpr std::int64_t longest_chunk = 128;  // a column of V and P of a tile of heads stay in L1
constexpr std::int64_t most_tiles = longest_chunk / tile_tokens;

/// value_bytes: of what is multiplied, bf16 or fp32.
struct Workspace {
  std::int64_t head_tiles, k_steps;  // of 16 heads, and of 32 values of a row
  std::int64_t step_bytes;           // of 32 values for 16 heads or tokens, as multiplied
  std::byte* q;     // [head_tiles][halves][steps][neighbours][8 heads][8 bytes, of few heads 64]
  std::byte* wide;  // fp32: 16 rows
  float* scores;    // [head_tiles][tokens][16 heads]
  std::byte* p;     // [head_tiles][tokens or pairs of them][16 heads], words of a value or a pair
  float* o;         // [heads, padded to tiles][v_dim], columns as interleaving leaves them
  std::byte* rows;  // fp8: tiles of rows as bf16, [tiles][k_steps]
  float *reference, *sum, *rounded_sum;  // [head_tiles][16]; reference: of the unscaled scores

  Workspace(Carver& carver, const UnitShape& shape, std::size_t value_bytes) {
    const KvLayout& layout = shape.layout;
    head_tiles = (shape.heads + lanes - 1) / lanes;
    k_steps = layout.head_dim / 32;
    step_bytes = 32 * lanes * static_cast<std::int64_t>(value_bytes);
    q = carver.take<std::byte>(head_tiles * k_steps * step_bytes);
    wide = carver.take<std::byte>(value_bytes == sizeof(float) ? k_steps * step_bytes : 0);
    scores = carver.take<float>(head_tiles * longest_chunk * lanes);
    p = carver.take<std::byte>(head_tiles * p_bytes());
    o = carver.take<float>(head_tiles * lanes * layout.v_dim);
    rows = carver.take<std::byte>(layout.fp8 ? most_tiles * k_steps * tile_bytes : 0);
    reference = carver.take<float>(head_tiles * lanes);
    sum = carver.take<float>(head_tiles * lanes);
    rounded_sum = carver.take<float>(head_tiles * lanes);
  }

  float* scores_of(std::int64_t head_tile) const { return scores + head_tile * longest_chunk * lanes; }
  std::byte* p_of(std::int64_t head_tile) const { return p + head_tile * p_bytes(); }

 private:
  std::int64_t p_bytes() const { return longest_chunk / 32 * step_bytes; }
};

}  // namespace helix::cpu::mla512
