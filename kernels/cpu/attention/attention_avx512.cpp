// Flash-decode of GQA on AVX-512's vectors, for CPUs without AMX and for widths that its tiles do not take: S
// [heads, tokens] = Q K^T, the softmax that AMX has, too, and O [heads, v_dim] += P V.
#include "kernels/cpu/machine/amx.hpp"

#if HELIX_HAVE_AMX
#include <algorithm>
#include <cstring>
#include <new>
#include <type_traits>
#include <utility>

#include "kernels/cpu/attention/gqa512_products.hpp"
#include "kernels/cpu/attention/gqa_softmax.hpp"
#include "kernels/cpu/attention/gqa_values.hpp"

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512bf16,gfni")

namespace helix::cpu {
namespace {

using gqa::chunk_tiles, gqa::Softmax, gqa::Workspace;
using gqa512::Dots, gqa512::make_ready, gqa512::multiply, gqa512::MultiplyAdds, gqa512::PlainLine,
    gqa512::ReadyLine, gqa512::Sums, gqa512::WidenedLine, gqa512::with_part;

constexpr std::int64_t ready_tokens = 128;  // of V at a time

/// What the unit has for the products on top of what all of GQA's have.
struct Operands {
  Workspace shared;
  float *q, *p;      // as A of multiply-adds
  std::byte* ready;  // K or V of a block's columns, as multiplied: in L1

  Operands(Carver& carver, const UnitShape& shape)
      : shared(carver, shape),
        q(carver.take<float>(shape.heads * shape.layout.head_dim)),
        p(carver.take<float>(shape.heads * Workspace::p_stride)),
        ready(carver.take<std::byte>(most_ready_bytes * std::max(shape.layout.head_dim, ready_tokens))) {}

  static constexpr std::int64_t most_ready_bytes = 128;  // of one summed value
  static_assert(16 * Dots::most_columns * sizeof(Dots::Value) == most_ready_bytes &&
                16 * MultiplyAdds::most_columns * sizeof(MultiplyAdds::Value) == most_ready_bytes);

  const std::uint16_t* q_of(Dots) const { return shared.q; }
  const std::uint16_t* p_of(Dots) const { return shared.p; }
  const float* q_of(MultiplyAdds) const { return q; }
  const float* p_of(MultiplyAdds) const { return p; }
};

/// bf16 -> fp32; a multiple of 16.
void widen(const std::uint16_t* from, std::int64_t count, float* to) {
  for (std::int64_t i = 0; i < count; i += 16)
    _mm512_storeu_ps(to + i, as_floats(reinterpret_cast<__m256bh>(
                                 _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + i)))));
}

/// in_order: column by column and for all heads at once, as lines lie in memory. AMD's CPUs, whose prefetchers follow
/// a stream and drop requests that come in bursts, read a third faster so than by blocks. ready: a line is made what
/// is multiplied once for several blocks of heads.
enum class Reading { in_order, in_blocks, ready };

/// The products of one chunk, and the softmax between them.
template <typename Products, typename Line, Reading kReading>
class ChunkProducts {
  static constexpr bool kReady = kReading == Reading::ready, kInOrder = kReading == Reading::in_order;
  static constexpr int most_heads = kInOrder ? Products::most_in_order : Products::most_heads;
  static constexpr int most_columns = kInOrder ? 1 : Products::most_columns;

 public:
  ChunkProducts(const UnitShape& shape, const Chunk& chunk, const Operands& operands, Prefetcher& next)
      : shape_(shape),
        layout_(shape.layout),
        chunk_(chunk),
        operands_(operands),
        ws_(operands.shared),
        next_(next) {
    if (kInOrder) return;
    const auto parts = [](std::int64_t n, std::int64_t most) { return (n + most - 1) / most; };
    const std::int64_t lines_a_step = kReady ? 4 / Line::pairs : 4;
    const std::int64_t k_steps = parts(chunk.columns / 16, most_columns) * k_lines() / lines_a_step;
    const std::int64_t v_steps =
        parts(layout_.v_dim / 16, most_columns) * chunk.columns / layout_.granule * v_lines() / lines_a_step;
    next_.plan(parts(shape.heads, most_heads) * (k_steps + v_steps) +
               shape.heads * parts(chunk.columns / 16, ws_.block_columns()));
  }

  /// P of the chunk.
  void probabilities() {
    const std::byte** end = places_;
    for (const Segment* s = chunk_.segments; s != chunk_.segments + chunk_.count; ++s)
      for (std::int64_t t = 0; t < s->slots; t += 16) *end++ = s->k + layout_.k_offset(t, 0);
    Softmax softmax(shape_, chunk_, ws_);
    const std::int64_t tiles = end - places_, most_rows = 2 * ws_.tile_heads;
    for (std::int64_t head = 0; head < shape_.heads; head += most_rows)
      for (std::int64_t column = 0; column < tiles; column += ws_.block_columns()) {
        const std::int64_t heads = std::min(most_rows, shape_.heads - head);
        const std::int64_t columns = std::min(ws_.block_columns(), tiles - column);
        score_block(head, heads, column, columns);
        softmax.start(ws_.scores, head, heads, 16 * column, 16 * columns);
        for (; softmax.heads_left() > 0; softmax.next_head()) next_.step();
      }
    if constexpr (std::is_same_v<Products, MultiplyAdds>)
      for (std::int64_t h = 0; h < shape_.heads; ++h)
        widen(ws_.p + h * Workspace::p_stride, chunk_.columns, operands_.p + h * Workspace::p_stride);
  }

  /// O += P V.
  void add_values() {
    const std::int64_t granules = gqa::granules_of_v(layout_, chunk_, ws_.partial, places_);
    const std::int64_t tile_bytes = 64 * v_lines();
    const std::int64_t most = kInOrder ? 1 : kReady ? ready_tokens / layout_.granule : granules;
    for (std::int64_t first = 0; first < granules; first += most)
      for_blocks<Sums::added>(
          shape_.heads, layout_.v_dim / 16,
          [&](std::int64_t h, std::int64_t column) {
            return gqa512::Rows<typename Products::Value>{
                operands_.p_of(Products()) + h * Workspace::p_stride + first * layout_.granule,
                Workspace::p_stride, ws_.o + h * layout_.v_dim + 16 * column, layout_.v_dim};
          },
          [&](std::int64_t column, std::int64_t granule) {
            return places_[first + granule] + column * tile_bytes;
          },
          std::min(most, granules - first), v_lines());
  }

 private:
  std::int64_t k_lines() const { return layout_.head_dim / (2 * Line::pairs); }
  std::int64_t v_lines() const { return layout_.granule / (2 * Line::pairs); }

  /// C = or += A B, block by block: rows(head, column) are A and C, b(column, stretch) is where B's lines lie.
  /// All heads for some columns, whose lines then are in L1, before the next.
  template <Sums kSums, typename RowsAt, typename B>
  void for_blocks(std::int64_t heads, std::int64_t columns, const RowsAt& rows, const B& b,
                  std::int64_t stretches, std::int64_t lines) {
    for (std::int64_t c = 0; c < columns;)
      c += with_part<most_columns>(columns - c, [&](auto width) {
        const auto at = [&](int j, std::int64_t s) { return b(c + j, s); };
        if constexpr (kReady) {
          std::byte* to = operands_.ready;
          for (int j = 0; j < width(); ++j)
            for (std::int64_t s = 0; s < stretches; ++s) {
              to = make_ready<Products, Line>(at(j, s), lines, to);
              next_.step();
            }
        }
        const std::int64_t ready_lines = lines * Line::pairs;
        const auto ready_at = [&](int j, std::int64_t s) {
          return operands_.ready + (j * stretches + s) * ready_lines * gqa512::bytes_of<Products, ReadyLine>;
        };
        for (std::int64_t h = 0; h < heads;)
          h += with_part<most_heads>(heads - h, [&](auto count) {
            // Enough sums that none waits for itself.
            constexpr int chains = kInOrder ? std::clamp(8 / count(), 1, 4) : 1;
            if constexpr (kReady)
              multiply<Products, ReadyLine, kSums, count(), width()>(rows(h, c), ready_at, stretches,
                                                                     ready_lines, next_);
            else  // in order, only the first heads' lines are new
              multiply<Products, Line, kSums, count(), width(), chains, kInOrder>(
                  rows(h, c), at, stretches, lines, kInOrder && h > 0 ? idle_ : next_);
          });
      });
  }

  void score_block(std::int64_t head, std::int64_t heads, std::int64_t first, std::int64_t columns) {
    for_blocks<Sums::fresh>(
        heads, columns,
        [&](std::int64_t h, std::int64_t column) {
          return gqa512::Rows<typename Products::Value>{
              operands_.q_of(Products()) + (head + h) * layout_.head_dim, layout_.head_dim,
              ws_.scores + h * ws_.score_stride() + 16 * column, ws_.score_stride()};
        },
        [&](std::int64_t column, std::int64_t) { return places_[first + column]; }, 1, k_lines());
  }

  const UnitShape& shape_;
  const KvLayout& layout_;
  const Chunk& chunk_;
  const Operands& operands_;
  const Workspace& ws_;
  Prefetcher& next_;
  Prefetcher idle_;
  const std::byte* places_[chunk_tiles];  // of tiles of K of 16 tokens each, or of granules of V
};

template <typename Products>
class Avx512ChunkKernel final : public ChunkKernel {
 public:
  std::string name() const override { return avx512_name(std::is_same_v<Products, Dots>); }
  /// Where reading binds or nearly does. More heads, also of shorter pages, gain more from blocks.
  bool reads_in_order(const UnitShape& shape) const override {
    const bool two_blocks = !shape.layout.fp8 && shape.layout.padded_tokens >= 32;
    return shape.heads <= (two_blocks ? 2 : 1) * Products::most_in_order;
  }
  /// In order of one page: its K lies before its V, so that of two pages would be read by turns.
  std::int64_t longest_chunk(const UnitShape& shape) const override {
    const std::int64_t longest = gqa::longest_chunk(shape);
    return reads_in_order(shape) ? std::min(longest, shape.layout.padded_tokens) : longest;
  }

  std::size_t workspace_bytes(const UnitShape& shape) const override {
    return operands_bytes + carved_bytes<Operands>(Carver(), shape);
  }

  void begin(const UnitShape& shape, const BF16* q, std::byte* workspace) const override {
    const auto& operands = *new (workspace) Operands(carved<Operands>(workspace + operands_bytes, shape));
    const std::int64_t values = shape.heads * shape.layout.head_dim;
    std::memcpy(operands.shared.q, q, static_cast<std::size_t>(values) * sizeof(BF16));
    widen(operands.shared.q, values, operands.q);
    gqa::clear_sums(shape, operands.shared);
  }

  void process(const UnitShape& shape, const Chunk& chunk, Prefetcher& next,
               std::byte* workspace) const override {
    const Operands& operands = begun(workspace);
    const auto multiply_all = [&](auto line, auto reading) {
      ChunkProducts<Products, decltype(line), reading()> products(shape, chunk, operands, next);
      products.probabilities();
      products.add_values();
    };
    if constexpr (Products::most_in_order > 0)
      if (reads_in_order(shape)) {
        constexpr auto in_order = std::integral_constant<Reading, Reading::in_order>();
        shape.layout.fp8 ? multiply_all(WidenedLine(), in_order) : multiply_all(PlainLine(), in_order);
        return;
      }
    constexpr auto in_blocks = std::integral_constant<Reading, Reading::in_blocks>();
    if (!shape.layout.fp8)
      multiply_all(PlainLine(), in_blocks);
    else if (shape.heads <= Products::most_heads)
      multiply_all(WidenedLine(), in_blocks);
    else
      multiply_all(WidenedLine(), std::integral_constant<Reading, Reading::ready>());
  }

  void finish(const UnitShape& shape, std::byte* workspace, float* o, float* lse2) const override {
    gqa::divide_sums(shape, begun(workspace).shared, o, lse2);
  }

 private:
  /// Where the arrays lie is kept before them: chunks of one page are too short to work it out for each.
  static constexpr std::size_t operands_bytes = (sizeof(Operands) + 63) / 64 * 64;
  static const Operands& begun(const std::byte* workspace) {
    return *std::launder(reinterpret_cast<const Operands*>(workspace));
  }
};

}  // namespace

const ChunkKernel& avx512_chunk_kernel(bool dots) {
  static const Avx512ChunkKernel<Dots> by_dots;
  static const Avx512ChunkKernel<MultiplyAdds> by_multiply_adds;
  if (dots) return by_dots;
  return by_multiply_adds;
}

}  // namespace helix::cpu

#pragma GCC pop_options
#endif
