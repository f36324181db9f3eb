// Flash-decode of absorbed MLA on AVX-512's vectors, for CPUs without AMX. The cache holds one row a token
// that is both K and, in its head, V. A chunk's rows meet Q, 16 at a time and for all heads while they are in
// L1; then its probabilities meet V, 32 columns at a time.
#include "kernels/cpu/machine/amx.hpp"

#if HELIX_HAVE_AMX
#include <algorithm>
#include <cmath>
#include <type_traits>

#include "kernels/cpu/attention/mla512_products.hpp"
#include "kernels/cpu/attention/mla512_softmax.hpp"

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512bf16,gfni")

namespace helix::cpu {
namespace {

using mla512::lanes, mla512::Tile, mla512::tile_bytes, mla512::tile_tokens, mla512::Tiles, mla512::Workspace;

/// bf16 -> what the products take.
void store(mla512::Dots, BF16 x, std::byte* to) {
  std::memcpy(to, &x, sizeof x);
}
void store(mla512::MultiplyAdds, BF16 x, std::byte* to) {
  const float value = to_float(x);
  std::memcpy(to, &value, sizeof value);
}

template <typename Products>
class Avx512MlaChunkKernel final : public ChunkKernel {
 public:
  std::string name() const override { return avx512_name(std::is_same_v<Products, mla512::Dots>); }
  std::int64_t longest_chunk(const UnitShape&) const override { return mla512::longest_chunk; }

  std::size_t workspace_bytes(const UnitShape& shape) const override {
    Carver carver;
    const Workspace ws(carver, shape, Products::value_bytes);
    return carver.used();
  }

  void begin(const UnitShape& shape, const BF16* q, std::byte* workspace) const override {
    const Workspace ws = arrays(shape, workspace);
    const std::int64_t dim = shape.layout.head_dim;
    // What a head has in a line: neighbours or, of few heads, a part of 32 neighbours.
    const std::int64_t count = (few_heads(shape) ? 64 : 8) / Products::value_bytes;
    const std::int64_t parts = few_heads(shape) ? Products::row_parts : 1;
    std::byte* to = ws.q;
    for (std::int64_t first = 0; first < shape.heads; first += 8)
      for (std::int64_t d = 0; d < dim; d += parts * count)
        for (std::int64_t part = d; part < d + parts; ++part)
          for (std::int64_t h = first; h < first + 8; ++h)
            for (std::int64_t i = part; i < d + parts * count; i += parts, to += Products::value_bytes)
              store(Products(), h < shape.heads ? q[h * dim + i] : BF16{0}, to);
    // Of few heads, half of the scores' lanes stay zero.
    std::fill_n(ws.scores, ws.head_tiles * mla512::longest_chunk * lanes, 0.0f);
    const std::int64_t heads = ws.head_tiles * lanes;
    std::fill_n(ws.o, heads * shape.layout.v_dim, 0.0f);
    std::fill_n(ws.reference, heads, -mla512::infinity);
    for (float* zero : {ws.sum, ws.rounded_sum}) std::fill_n(zero, heads, 0.0f);
  }

  void process(const UnitShape& shape, const Chunk& chunk, Prefetcher& next,
               std::byte* workspace) const override {
    const Workspace ws = arrays(shape, workspace);
    Tiles tiles(shape.layout, chunk);
    const std::int64_t v_steps = shape.layout.v_dim / 32 * ((shape.heads + 7) / 8);
    next.plan(tiles.count() * (ws.k_steps * (few_heads(shape) ? 8 : 2 * ws.head_tiles) + v_steps));
    std::int64_t first = 0;
    for (Tile& tile : tiles) {
      if (shape.layout.fp8)
        to_bf16_rows(shape.layout, tile, ws.rows + first / tile_tokens * ws.k_steps * tile_bytes);
      multiply_rows(shape, ws, tile, first, next);
      first += tile_tokens;
    }
    mla512::mask(ws, tiles);
    for (std::int64_t h = 0; h < ws.head_tiles; ++h) mla512::soften<Products>(shape, ws, h, first);
    add_values(shape, ws, tiles, next);
  }

  void finish(const UnitShape& shape, std::byte* workspace, float* o, float* lse2) const override {
    const Workspace ws = arrays(shape, workspace);
    const std::int64_t v_dim = shape.layout.v_dim;
    for (std::int64_t h = 0; h < shape.heads; ++h) {
      lse2[h] = ws.reference[h] * shape.scale_log2 + std::log2(ws.sum[h]);
      // Dividing by the rounded sum cancels the rounding of probabilities that are alike. Zero:
      // all scores -inf.
      const __m512 factor = _mm512_set1_ps(ws.rounded_sum[h] == 0.0f ? 0.0f : 1.0f / ws.rounded_sum[h]);
      for (std::int64_t i = h * v_dim; i < (h + 1) * v_dim; i += 32)
        Products::restore(_mm512_load_ps(ws.o + i), _mm512_load_ps(ws.o + i + 16), o + i, factor);
    }
  }

 private:
  static Workspace arrays(const UnitShape& shape, std::byte* workspace) {
    Carver carver(workspace);
    return Workspace(carver, shape, Products::value_bytes);
  }

  /// A tile's rows of fp8 are bf16, in `to`, from here on.
  static void to_bf16_rows(const KvLayout& layout, Tile& tile, std::byte* to) {
    const mla::WidenRows widen(layout);
    const mla::Block from{.k = {tile.rows}, .valid = {}}, rows{.k = {to}, .valid = {}};
    for (std::int64_t piece = 0; piece < widen.pieces(); piece += 2) widen.work(from, rows, piece);
    tile.rows = to;
  }

  static bool few_heads(const UnitShape& shape) { return shape.heads <= 8; }

  /// Scores of all heads for a tile, the chunk's token `first` being its first.
  static void multiply_rows(const UnitShape& shape, const Workspace& ws, const Tile& tile, std::int64_t first,
                            Prefetcher& next) {
    if (few_heads(shape)) {
      mla512::multiply_rows_of_few<Products>(tile.rows, ws.q, ws, ws.scores + lanes * first, next);
      return;
    }
    const std::byte* const rows = as_multiplied(ws, tile);
    for (std::int64_t h = 0; h < ws.head_tiles; ++h)
      mla512::multiply_rows<Products>(rows, ws.q + h * ws.k_steps * ws.step_bytes, ws,
                                      ws.scores_of(h) + lanes * first, next);
  }

  /// A tile's rows as Products takes them for broadcasts.
  static const std::byte* as_multiplied(const Workspace& ws, const Tile& tile) {
    if constexpr (std::is_same_v<Products, mla512::Dots>) return tile.rows;
    for (std::int64_t i = 0; i < ws.k_steps * tile_bytes; i += 32)
      _mm512_store_ps(ws.wide + 2 * i, as_floats(reinterpret_cast<__m256bh>(_mm256_loadu_si256(
                                           reinterpret_cast<const __m256i*>(tile.rows + i)))));
    return ws.wide;
  }

  /// O += P V.
  static void add_values(const UnitShape& shape, const Workspace& ws, const Tiles& tiles, Prefetcher& next) {
    const std::int64_t v_dim = shape.layout.v_dim;
    for (std::int64_t d = 0; d < v_dim; d += 32)
      for (std::int64_t h = 0; h < shape.heads; h += 8) {
        const auto multiply =
            shape.heads - h > 4 ? mla512::multiply_values<Products, 8> : mla512::multiply_values<Products, 4>;
        multiply(tiles, d / 32 * tile_bytes, ws.p_of(h / lanes) + h % lanes * 4, ws.o + h * v_dim + d, v_dim,
                 next);
      }
  }
};

}  // namespace

const ChunkKernel& avx512_mla_chunk_kernel(bool dots) {
  static const Avx512MlaChunkKernel<mla512::Dots> by_dots;
  static const Avx512MlaChunkKernel<mla512::MultiplyAdds> by_multiply_adds;
  if (dots) return by_dots;
  return by_multiply_adds;
}

}  // namespace helix::cpu

#pragma GCC pop_options
#endif
