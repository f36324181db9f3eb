// What a worker keeps of one request's absorbed MLA between chunks and, of one chunk, between
// its stages (attention_amx_mla.cpp).
#pragma once

#include "kernels/cpu/attention/chunk_kernel.hpp"

namespace helix::cpu::mla {

constexpr std::int64_t tile_bytes = 1024;
constexpr std::int64_t tile_floats = 256;
constexpr std::int64_t block_tokens = 32;  // summed by one tile product of P V
constexpr std::int64_t most_blocks = 8;    // of a chunk

/// One tile of heads needs four tiles of V side by side to keep the tile unit busy; those of half a
/// chunk fit L1.
inline std::int64_t longest_chunk(const UnitShape& shape) {
  return (shape.heads <= 16 ? most_blocks / 2 : most_blocks) * block_tokens;
}

struct Workspace {
  std::int64_t head_tiles, tile_heads;  // tiles of query heads, and heads in each
  std::int64_t k_steps, v_tiles;
  std::int64_t chunk_blocks;  // of the longest chunk
  std::byte* q;               // tiles [head_tiles][k_steps], 16 pairs of a row by 16 heads
  float* scores;              // two of [2 head tiles][32 tokens][16 heads]
  std::byte* p;               // tiles [head_tiles][chunk_blocks], 16 heads by 32 tokens
  std::int64_t v_group;       // tiles of V made at a time
  std::byte* v;               // tiles [v_group][chunk_blocks], 16 pairs of tokens by 16 columns
  float* o;                   // tiles [v_tiles / v_group][head_tiles][v_group], 16 heads by 16 columns
  std::byte* rows;            // fp8: tiles of rows as bf16, [chunk_blocks][2][k_steps]
  float *reference, *sum, *rounded_sum;  // [head_tiles][16]; reference: of the unscaled scores
  float* factor;                         // [head_tiles][16]: what O is due to be multiplied by

  Workspace(Carver& carver, const UnitShape& shape) {
    const KvLayout& layout = shape.layout;
    head_tiles = (shape.heads + 15) / 16;
    tile_heads = (shape.heads + head_tiles - 1) / head_tiles;
    k_steps = layout.head_dim / 32;
    v_tiles = layout.v_dim / 16;
    chunk_blocks = longest_chunk(shape) / block_tokens;
    q = carver.take<std::byte>(head_tiles * k_steps * tile_bytes);
    scores = carver.take<float>(2 * 4 * tile_floats);
    p = carver.take<std::byte>(head_tiles * chunk_blocks * tile_bytes);
    v_group = head_tiles == 1 && v_tiles % 4 == 0 ? 4 : 2;
    v = carver.take<std::byte>(v_group * chunk_blocks * tile_bytes);
    o = carver.take<float>(head_tiles * v_tiles * tile_floats);
    rows = carver.take<std::byte>(layout.fp8 ? chunk_blocks * 2 * k_steps * tile_bytes : 0);
    reference = carver.take<float>(head_tiles * 16);
    sum = carver.take<float>(head_tiles * 16);
    rounded_sum = carver.take<float>(head_tiles * 16);
    factor = carver.take<float>(head_tiles * 16);
  }

  std::byte* p_of(std::int64_t head_tile, std::int64_t block) const {
    return p + (head_tile * chunk_blocks + block) * tile_bytes;
  }
  std::byte* v_of(std::int64_t tile, std::int64_t block) const {
    return v + (tile * chunk_blocks + block) * tile_bytes;
  }
  float* o_of(std::int64_t head_tile, std::int64_t v_tile) const {
    const std::int64_t group = v_tile / v_group;
    return o + ((group * head_tiles + head_tile) * v_group + v_tile % v_group) * tile_floats;
  }
  std::byte* rows_of(std::int64_t block, std::int64_t half) const {
    return rows + (block * 2 + half) * k_steps * tile_bytes;
  }
};

}  // namespace helix::cpu::mla
