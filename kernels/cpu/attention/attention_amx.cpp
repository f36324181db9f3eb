// Flash-decode of GQA on AMX tiles: S [heads, tokens] = Q K^T and O [heads, v_dim] += P V. The pages hold K
// and V as the B operands of these products (kv_layout.hpp): bf16 tiles are loaded straight from the cache,
// fp8 tiles are widened into L1 a little ahead of their use. A tile of A has as many rows as a unit has query
// heads (its time is proportional to them), up to 16; more heads take several tiles. The softmax of a block
// of scores runs beside the products of the next.
#include "kernels/cpu/machine/amx.hpp"

#if HELIX_HAVE_AMX
#include <algorithm>
#include <utility>

#include "kernels/cpu/attention/gqa_softmax.hpp"
#include "kernels/cpu/attention/gqa_values.hpp"

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512bf16,gfni")

namespace helix::cpu {
namespace {

using amx::Shape, amx::Tiles;
using gqa::chunk_tiles, gqa::infinity;
using gqa::PlainTiles, gqa::Softmax, gqa::WidenedTiles, gqa::Workspace;

/// body(block shape, rows, columns, as constants) for a block at row `r` of `rows` tiles and column `c` of
/// `columns`: two by two, or one by four where there is but one row; returns the block's columns.
template <typename Body>
std::int64_t with_block(std::int64_t r, std::int64_t rows, std::int64_t c, std::int64_t columns,
                        const Body& body) {
  constexpr std::integral_constant<int, 1> one;
  constexpr std::integral_constant<int, 2> two;
  if (rows == 1) {
    constexpr std::integral_constant<Shape, Shape::wide> wide;
    switch (std::min<std::int64_t>(4, columns - c)) {
      case 1:
        return body(wide, one, one), 1;
      case 2:
        return body(wide, one, two), 2;
      case 3:
        return body(wide, one, std::integral_constant<int, 3>()), 3;
      default:
        return body(wide, one, std::integral_constant<int, 4>()), 4;
    }
  }
  constexpr std::integral_constant<Shape, Shape::square> square;
  if (r + 1 < rows)
    c + 1 < columns ? body(square, two, two) : body(square, two, one);
  else
    c + 1 < columns ? body(square, one, two) : body(square, one, one);
  return std::min<std::int64_t>(2, columns - c);
}

void configure(const Workspace& ws, std::int64_t summed) {
  amx::configure_blocks(ws.head_tiles == 1 ? amx::Shape::wide : amx::Shape::square, ws.tile_heads, summed);
}

/// The products of one chunk.
template <typename BTiles>
class ChunkProducts {
 public:
  ChunkProducts(const UnitShape& shape, const Chunk& chunk, const Workspace& ws, const Prefetcher& next)
      : shape_(shape),
        layout_(shape.layout),
        chunk_(chunk),
        ws_(ws),
        next_(next),
        softmax_(shape, chunk, ws) {
    const std::int64_t tiles = (ws.head_tiles + 1) / 2 * chunk.columns / 16 *
                               (layout_.head_dim / 32 + layout_.v_dim / layout_.granule);
    const std::int64_t blocks = (chunk.columns / 16 + ws.block_columns() - 1) / ws.block_columns();
    next_.plan(tiles + shape.heads * (softmax_beside ? 1 : blocks));
  }

  /// P of the chunk.
  void probabilities() {
    const std::int64_t k_tiles = 16 * layout_.head_dim * static_cast<std::int64_t>(layout_.value_bytes);
    const std::byte** end = tokens_;
    for (const Segment* s = chunk_.segments; s != chunk_.segments + chunk_.count; ++s)
      for (std::int64_t t = 0; t < s->slots; t += 16) *end++ = s->k + t / 16 * k_tiles;
    for_blocks(chunk_.columns / 16,
               [&](auto shape, auto rows, auto columns, std::int64_t h, std::int64_t column) {
                 score_block<shape(), rows(), columns()>(h, column);
               });
    pending_.store_from<0>();
    finish_softmax();
  }

  /// O += P V.
  void add_values() {
    steps_ = gqa::granules_of_v(layout_, chunk_, ws_.partial, tokens_);
    for_blocks(layout_.v_dim / 16,
               [&](auto shape, auto rows, auto columns, std::int64_t h, std::int64_t column) {
                 value_block<shape(), rows(), columns()>(h, column);
               });
    pending_.store_from<0>();
  }

 private:
  /// Widening keeps the vector units busy beside the products: more work there would only hold both up.
  static constexpr bool softmax_beside = !BTiles::widened;

  void finish_softmax() {
    for (; softmax_.heads_left() > 0; softmax_.next_head()) next_.step();
  }

  /// block(shape, rows and columns as constants, head tile, column) for all blocks of [head_tiles][columns].
  template <typename Block>
  void for_blocks(std::int64_t columns, const Block& block) {
    amx::publish();
    for (std::int64_t h = 0; h < ws_.head_tiles; h += 2)
      for (std::int64_t column = 0; column < columns;)
        column += with_block(
            h, ws_.head_tiles, column, columns,
            [&](auto shape, auto rows, auto block_columns) { block(shape, rows, block_columns, h, column); });
  }

  /// C (tiles 0 to 3) += A B over `steps` steps, b(j, k) being B's tile in column j and step k;
  /// beside(step, sum) comes just before each tile product.
  template <Shape kShape, int kRows, int kColumns, typename B, typename Beside>
  HELIX_ALWAYS_INLINE void multiply(const Tiles& a, const B& b, std::int64_t tile_values, std::int64_t steps,
                                    const Beside& beside) {
    BTiles tiles(tile_values, ws_.widened);
    Prefetcher next = next_;
    const std::byte* a_at[kRows];
    for (int i = 0; i < kRows; ++i) a_at[i] = a.at(i, 0);
    pending_.store_from<kRows * kColumns>();
    if constexpr (BTiles::widened)
      amx::unrolled<kColumns>([&](auto j) __attribute__((always_inline)) { tiles.prepare(j(), b(j(), 0)); });
    for (std::int64_t k = 0; k < steps; ++k) {
      tiles.turn();
      amx::multiply_step<kShape, kRows, kColumns>(
          [&](auto i, auto tile) __attribute__((always_inline)) {
            amx::load<tile()>(a_at[i()], a.row);
            a_at[i()] += a.along;
          },
          [&](auto j, auto tile) __attribute__((always_inline)) {
            next.step();
            if (BTiles::widened && k + 1 < steps) tiles.prepare(j(), b(j(), k + 1));
            tiles.template load<tile()>(j(), b(j(), k));
          },
          [&](auto sum) __attribute__((always_inline)) { beside(k, sum); });
    }
    next_ = next;
  }

  /// The scores of a block, and the softmax of the one before.
  template <Shape kShape, int kRows, int kColumns>
  [[gnu::noinline]] void score_block(std::int64_t h, std::int64_t column) {
    const std::int64_t steps = layout_.head_dim / 32, q_tile = ws_.tile_heads * 64;
    const std::int64_t k_tile = 512 * static_cast<std::int64_t>(layout_.value_bytes);
    // The same number beside each product, which branch prediction learns.
    const std::int64_t products = (steps - 1) * kRows * kColumns;
    const std::int64_t heads_beside =
        softmax_beside && products > 0 ? (softmax_.heads_left() + products - 1) / products : 0;
    multiply<kShape, kRows, kColumns>(
        {ws_.q + h * ws_.tile_heads * layout_.head_dim, 64, steps * q_tile, q_tile},
        [&](int j, std::int64_t k) { return tokens_[column + j] + k * k_tile; }, 512, steps,
        [&](std::int64_t k, auto sum) __attribute__((always_inline)) {
          if (k == 0) {
            pending_.store<sum()>();
            amx::zero<sum()>();
          } else {
            softmax_.next_heads(heads_beside);
          }
        });
    finish_softmax();
    float* const scores = std::exchange(scores_, other_scores_);
    other_scores_ = scores;
    const std::int64_t stride = ws_.score_stride(), first_head = h * ws_.tile_heads;
    pending_.leave<kRows, kColumns>({scores, stride * 4, ws_.tile_heads * stride * 4, 64});
    softmax_.start(scores, first_head, std::min(kRows * ws_.tile_heads, shape_.heads - first_head),
                   column * 16, kColumns * 16);
  }

  /// A block of O += P V.
  template <Shape kShape, int kRows, int kColumns>
  [[gnu::noinline]] void value_block(std::int64_t h, std::int64_t column) {
    const std::int64_t tile_values = layout_.granule * 16;
    const std::int64_t v_tile = tile_values * static_cast<std::int64_t>(layout_.value_bytes);
    const Tiles o{ws_.o + h * ws_.tile_heads * layout_.v_dim + column * 16, layout_.v_dim * 4,
                  ws_.tile_heads * layout_.v_dim * 4, 64};
    multiply<kShape, kRows, kColumns>(
        {ws_.p + h * ws_.tile_heads * ws_.p_stride, ws_.p_stride * 2, ws_.tile_heads * ws_.p_stride * 2,
         layout_.granule * 2},
        [&](int j, std::int64_t k) { return tokens_[k] + (column + j) * v_tile; }, tile_values, steps_,
        [&](std::int64_t k, auto sum) __attribute__((always_inline)) {
          if (k > 0) return;
          pending_.store<sum()>();
          amx::load<sum()>(o.at(sum() / kColumns, sum() % kColumns), o.row);
        });
    pending_.leave<kRows, kColumns>(o);
  }

  const UnitShape& shape_;
  const KvLayout& layout_;
  const Chunk& chunk_;
  const Workspace& ws_;
  Prefetcher next_;
  Softmax softmax_;
  amx::PendingSums pending_;
  const std::byte* tokens_[chunk_tiles];  // tiles of K of 16 tokens each, or of V of a granule
  std::int64_t steps_ = 0;                // of P V
  float *scores_ = ws_.scores, *other_scores_ = ws_.scores + Workspace::block_scores;
};

class AmxChunkKernel final : public ChunkKernel {
 public:
  std::string name() const override { return "amx-bf16"; }
  std::int64_t longest_chunk(const UnitShape& shape) const override { return gqa::longest_chunk(shape); }

  std::size_t workspace_bytes(const UnitShape& shape) const override {
    return carved_bytes<Workspace>(Carver(), shape);
  }

  void begin(const UnitShape& shape, const BF16* q, std::byte* workspace) const override {
    const Workspace ws = gqa::arrays(shape, workspace);
    const std::int64_t steps = shape.layout.head_dim / 32;
    std::uint16_t* to = ws.q;
    for (std::int64_t tile = 0; tile < ws.head_tiles; ++tile)
      for (std::int64_t k = 0; k < steps; ++k)
        for (std::int64_t h = tile * ws.tile_heads; h < (tile + 1) * ws.tile_heads; ++h)
          for (std::int64_t d = 32 * k; d < 32 * (k + 1); ++d)
            *to++ = h < shape.heads ? q[h * shape.layout.head_dim + d].bits : std::uint16_t{0};
    gqa::clear_sums(shape, ws);
    configure(ws, 32);
  }

  void process(const UnitShape& shape, const Chunk& chunk, Prefetcher& next,
               std::byte* workspace) const override {
    shape.layout.fp8 ? process<WidenedTiles>(shape, chunk, next, workspace)
                     : process<PlainTiles>(shape, chunk, next, workspace);
  }

  void finish(const UnitShape& shape, std::byte* workspace, float* o, float* lse2) const override {
    amx::release();
    gqa::divide_sums(shape, gqa::arrays(shape, workspace), o, lse2);
  }

 private:
  template <typename BTiles>
  static void process(const UnitShape& shape, const Chunk& chunk, Prefetcher& next, std::byte* workspace) {
    const Workspace ws = gqa::arrays(shape, workspace);
    ChunkProducts<BTiles> products(shape, chunk, ws, next);
    const std::int64_t granule = shape.layout.granule;
    if (granule != 32) configure(ws, 32);
    products.probabilities();
    if (granule != 32) configure(ws, granule);
    products.add_values();
  }
};

}  // namespace

const ChunkKernel& amx_chunk_kernel() {
  static const AmxChunkKernel kernel;
  return kernel;
}

}  // namespace helix::cpu

#pragma GCC pop_options
#endif
