// The arrays that one worker of GQA's flash-decode on AMX has for a unit.
#pragma once

#include <algorithm>

#include "kernels/cpu/chunk_kernel.hpp"
#include "kernels/cpu/gqa_tiles.hpp"

#if HELIX_HAVE_AMX
namespace helix::cpu::gqa {

constexpr std::int64_t chunk_tiles = chunk_tokens / 16;

struct Workspace {
  // Rows must not alias in L1.
  static constexpr std::int64_t score_stride = chunk_tokens + 16, p_stride = chunk_tokens + 32;

  std::int64_t head_tiles,
      tile_heads;           // tiles of query heads, and heads in each; the last may have unused rows
  std::uint16_t *q, *p;     // q: [head_tiles][head_dim / 32][tile_heads][32]
  std::byte* ring;          // of widened tiles
  std::byte* partial;       // granules of V with slots past the valid ones
  const std::byte** order;  // of the tiles of a product
  float *scores, *o;
  float *max, *factor;       // of the unscaled scores, and what its growth means for earlier sums
  float *sum, *rounded_sum;  // of the probabilities, and of what bf16 holds of them

  Workspace(Carver& carver, const UnitShape& shape) {
    const KvLayout& layout = shape.layout;
    head_tiles = (shape.heads + 15) / 16;
    tile_heads = (shape.heads + head_tiles - 1) / head_tiles;
    q = carver.take<std::uint16_t>(rows() * layout.head_dim);
    p = carver.take<std::uint16_t>(rows() * p_stride);
    ring = carver.take<std::byte>(WidenedTiles::ring_tiles * tile_bytes);
    // Where pages end between granules every segment of a chunk may have a partial one, else only the last.
    const std::int64_t partial_tokens =
        layout.page_tokens % layout.granule == 0 ? layout.granule : chunk_tokens;
    partial =
        carver.take<std::byte>(partial_tokens * layout.v_dim * static_cast<std::int64_t>(layout.value_bytes));
    order = carver.take<const std::byte*>(chunk_tiles * std::max(layout.head_dim / 32, layout.v_dim / 16) +
                                          WidenedTiles::lead);
    scores = carver.take<float>(rows() * score_stride);
    o = carver.take<float>(rows() * layout.v_dim);
    const std::int64_t whole_vectors = head_tiles * 16;
    max = carver.take<float>(whole_vectors);
    factor = carver.take<float>(whole_vectors);
    sum = carver.take<float>(whole_vectors);
    rounded_sum = carver.take<float>(whole_vectors);
  }
  std::int64_t rows() const { return head_tiles * tile_heads; }
  /// Columns of tiles that a block has: see with_block.
  std::int64_t block_columns() const { return head_tiles == 1 ? 4 : 2; }
};

inline Workspace arrays(const UnitShape& shape, std::byte* workspace) {
  Carver carver(workspace);
  return Workspace(carver, shape);
}

}  // namespace helix::cpu::gqa
#endif
