// The arrays that one worker of GQA's flash-decode on AMX has for a unit.
#pragma once

#include <algorithm>

#include "kernels/cpu/attention/chunk_kernel.hpp"
#include "kernels/cpu/attention/gqa_tiles.hpp"

#if HELIX_HAVE_AMX
namespace helix::cpu::gqa {

constexpr std::int64_t chunk_tiles = chunk_tokens / 16;

/// The longer a chunk, the less its begin and end cost; two of them stay in L2, and P in L1.
inline std::int64_t longest_chunk(const UnitShape& shape) {
  return shape.layout.head_dim + shape.layout.v_dim <= 256 ? chunk_tokens : chunk_tokens / 2;
}

struct Workspace {
  static constexpr std::int64_t p_stride = chunk_tokens + 32;  // so that rows do not alias in L1
  static constexpr std::int64_t block_scores = 4 * 16 * 16;

  std::int64_t head_tiles,
      tile_heads;            // tiles of query heads, and heads in each; the last may have unused rows
  std::uint16_t *q, *p;      // q: [head_tiles][head_dim / 32][tile_heads][32]
  std::byte* widened;        // tiles of two steps of a product
  std::byte* partial;        // granules of V with slots past the valid ones
  float *scores, *o;         // scores: of two blocks
  float* reference;          // of the unscaled scores
  float *sum, *rounded_sum;  // [rows][16]: of the probabilities, and of what bf16 holds of them

  Workspace(Carver& carver, const UnitShape& shape) {
    const KvLayout& layout = shape.layout;
    head_tiles = (shape.heads + 15) / 16;
    tile_heads = (shape.heads + head_tiles - 1) / head_tiles;
    q = carver.take<std::uint16_t>(rows() * layout.head_dim);
    p = carver.take<std::uint16_t>(rows() * p_stride);
    widened = carver.take<std::byte>(2 * WidenedTiles::most_columns * tile_bytes);
    // Where pages end between granules every segment of a chunk may have a partial one, else only the last.
    const std::int64_t partial_tokens =
        layout.page_tokens % layout.granule == 0 ? layout.granule : chunk_tokens;
    partial =
        carver.take<std::byte>(partial_tokens * layout.v_dim * static_cast<std::int64_t>(layout.value_bytes));
    scores = carver.take<float>(2 * block_scores);
    o = carver.take<float>(rows() * layout.v_dim);
    reference = carver.take<float>(rows());
    sum = carver.take<float>(rows() * 16);
    rounded_sum = carver.take<float>(rows() * 16);
  }
  std::int64_t rows() const { return head_tiles * tile_heads; }
  /// Columns of tiles that a block has: see with_block.
  std::int64_t block_columns() const { return head_tiles == 1 ? 4 : 2; }
  std::int64_t score_stride() const { return 16 * block_columns(); }
};

inline Workspace arrays(const UnitShape& shape, std::byte* workspace) {
  return carved<Workspace>(workspace, shape);
}

}  // namespace helix::cpu::gqa
#endif
