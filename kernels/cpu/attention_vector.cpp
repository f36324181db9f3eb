// Flash-decode through Google Highway, for every shape and instruction set: fp32 products and sums, four
// query heads at a time, the vector lanes along the tokens for S = Q K^T and along the value dimension for O
// = P V. fp8 and MLA pages are first widened or interleaved to the bf16 pair layout of a GQA page
// (kv_layout.hpp).
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/cpu/chunk_kernel.hpp"

// The fallback is EMU128, since SCALAR has no shuffles. Highway avoids EMU128 before gcc 12.3 because of gcc
// bug 106322, which is in multiply-high; that is not used here.
#ifndef HWY_BROKEN_EMU128
#define HWY_BROKEN_EMU128 0
#endif
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/attention_vector.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#ifndef HELIX_ATTENTION_VECTOR_ONCE
#define HELIX_ATTENTION_VECTOR_ONCE
namespace helix::cpu {

/// One worker's arrays for a unit.
struct VectorWorkspace {
  static constexpr std::int64_t score_stride = chunk_tokens + 16;  // rows must not alias in L1

  float *q, *scores, *o, *sum;
  float* max;                   // of the unscaled scores
  std::uint16_t *rows, *k, *v;  // bf16: widened MLA rows; pairs of K and of V

  VectorWorkspace(Carver& carver, const UnitShape& shape) {
    const KvLayout& layout = shape.layout;
    q = carver.take<float>(shape.heads * layout.head_dim);
    scores = carver.take<float>(shape.heads * score_stride);
    o = carver.take<float>(shape.heads * layout.v_dim);
    max = carver.take<float>(shape.heads);
    sum = carver.take<float>(shape.heads);
    const std::int64_t slots = std::min(layout.padded_tokens, chunk_tokens);
    rows = carver.take<std::uint16_t>(layout.mla && layout.fp8 ? slots * layout.head_dim : 0);
    k = carver.take<std::uint16_t>(layout.mla || layout.fp8 ? slots * layout.head_dim : 0);
    v = carver.take<std::uint16_t>(slots * layout.v_dim);
  }
};

}  // namespace helix::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace helix::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using Floats = hn::CappedTag<float, 16>;
using Vec = hn::Vec<Floats>;
constexpr Floats df;
constexpr hn::RebindToUnsigned<Floats> du32;
constexpr float infinity = std::numeric_limits<float>::infinity();

template <typename To, typename From>
HWY_INLINE To* as(From* p) {
  return reinterpret_cast<To*>(p);
}

// --- widening ---------------------------------------------------------------------------------------------

/// bf16 bits of the codes of e4m3 values (kv_fp8.hpp) in 16-bit lanes, whose upper bytes are ignored.
template <class D>
HWY_INLINE hn::Vec<D> bf16_of_fp8(D d, hn::Vec<D> code) {
  // Subnormals are multiples of 2^-9: eight values, looked up.
  alignas(16) static constexpr std::uint16_t subnormals[8] = {0,      0x3b00, 0x3b80, 0x3bc0,
                                                              0x3c00, 0x3c20, 0x3c40, 0x3c60};
  const auto rotated = hn::Not(code);
  const auto sign = hn::ShiftLeft<15>(rotated);
  const auto magnitude = hn::And(hn::ShiftRight<1>(rotated), hn::Set(d, std::uint16_t{0x7f}));
  const auto normal = hn::Add(hn::ShiftLeft<4>(magnitude), hn::Set(d, std::uint16_t{120 << 7}));
  const auto byte_index = hn::Add(hn::Or(hn::ShiftLeft<1>(magnitude), hn::ShiftLeft<9>(magnitude)),
                                  hn::Set(d, std::uint16_t{0x100}));
  const auto subnormal = hn::TableLookupBytes(hn::LoadDup128(d, subnormals),
                                              hn::And(byte_index, hn::Set(d, std::uint16_t{0x0f0f})));
  const auto number =
      hn::Or(sign, hn::IfThenElse(hn::Lt(magnitude, hn::Set(d, std::uint16_t{8})), subnormal, normal));
  const auto nan_code = hn::Set(d, std::uint16_t{0xff});
  return hn::IfThenElse(hn::Eq(hn::And(code, nan_code), nan_code), hn::Set(d, std::uint16_t{0x7fc0}), number);
}

/// Widens 64 fp8 bytes: even bytes -> `even`, odd bytes -> `odd`, `bytes / 2` values each.
HWY_INLINE void widen(const std::byte* from, std::int64_t bytes, std::uint16_t* even, std::uint16_t* odd) {
  constexpr hn::CappedTag<std::uint16_t, 16> d;
  const auto n = static_cast<std::int64_t>(hn::Lanes(d));
  for (std::int64_t i = 0; i < bytes / 2; i += n) {
    const auto x = hn::LoadU(d, as<const std::uint16_t>(from + 2 * i));
    hn::StoreU(bf16_of_fp8(d, x), d, even + i);
    hn::StoreU(bf16_of_fp8(d, hn::ShiftRight<8>(x)), d, odd + i);
  }
}

/// Tiles of fp8 words -> tiles of bf16 pairs.
HWY_INLINE void widen_tiles(const std::byte* from, std::int64_t values, std::uint16_t* to) {
  for (std::int64_t i = 0; i < values; i += 64) widen(from + i, 64, to + i, to + i + 32);
}

/// 16 rows of MLA's fp8 tiles -> bf16 tiles.
HWY_INLINE void widen_rows(const std::byte* from, std::int64_t head_dim, std::uint16_t* to) {
  for (std::int64_t d = 0; d < head_dim; d += 64) {
    const std::int64_t width = std::min<std::int64_t>(64, head_dim - d);
    for (std::int64_t t = 0; t < 16; ++t) {
      const std::byte* const row = from + 16 * d + t * width;
      if (width == 64) {
        widen(row, 64, to + 16 * d + 32 * t, to + 16 * d + 512 + 32 * t);
      } else {
        widen(row, 32, to + 16 * d + 32 * t, to + 16 * d + 32 * t + 16);
      }
    }
  }
}

/// A tile of 16 rows of 16 words -> its columns.
HWY_INLINE void transpose_tile(const std::uint32_t* from, std::uint32_t* to) {
  constexpr hn::Full128<std::uint32_t> d;
  constexpr hn::Full128<std::uint64_t> d64;
  for (int t = 0; t < 16; t += 4) {
    for (int w = 0; w < 16; w += 4) {
      const std::uint32_t* const at = from + t * 16 + w;
      const auto a = hn::LoadU(d, at), b = hn::LoadU(d, at + 16);
      const auto e = hn::LoadU(d, at + 32), f = hn::LoadU(d, at + 48);
      const auto ab_low = hn::BitCast(d64, hn::InterleaveLower(d, a, b));
      const auto ab_high = hn::BitCast(d64, hn::InterleaveUpper(d, a, b));
      const auto ef_low = hn::BitCast(d64, hn::InterleaveLower(d, e, f));
      const auto ef_high = hn::BitCast(d64, hn::InterleaveUpper(d, e, f));
      std::uint32_t* const out = to + w * 16 + t;
      hn::StoreU(hn::BitCast(d, hn::InterleaveLower(d64, ab_low, ef_low)), d, out);
      hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(d64, ab_low, ef_low)), d, out + 16);
      hn::StoreU(hn::BitCast(d, hn::InterleaveLower(d64, ab_high, ef_high)), d, out + 32);
      hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(d64, ab_high, ef_high)), d, out + 48);
    }
  }
}

/// MLA's bf16 tiles of rows -> tiles of V.
HWY_INLINE void interleave_values(const KvLayout& layout, const std::uint16_t* rows, std::int64_t slots,
                                  std::uint16_t* to) {
  constexpr hn::Full128<std::uint16_t> d;
  for (std::int64_t block = 0; block < slots; block += layout.granule)
    for (std::int64_t column = 0; column < layout.v_dim; column += 16)
      for (std::int64_t t = block; t < block + layout.granule; t += 2) {
        const std::uint16_t* const row =
            rows + t / 16 * 16 * layout.head_dim + column / 32 * 512 + t % 16 * 32 + column % 32;
        for (int i = 0; i < 16; i += 8, to += 16) {
          const auto a = hn::LoadU(d, row + i), b = hn::LoadU(d, row + 32 + i);
          hn::StoreU(hn::InterleaveLower(d, a, b), d, to);
          hn::StoreU(hn::InterleaveUpper(d, a, b), d, to + 8);
        }
      }
}

/// Zero the slots from `valid` on in tiles of V: they may be NaN, and 0 * NaN is NaN.
HWY_INLINE void clear_values_from(const KvLayout& layout, std::int64_t valid, std::int64_t slots,
                                  std::uint16_t* v) {
  const std::int64_t granule = layout.granule;
  for (std::int64_t t = valid; t < slots; ++t)
    for (std::int64_t d = 0; d < layout.v_dim; ++d)
      v[t / granule * granule * layout.v_dim + d / 16 * 16 * granule + t % granule / 2 * 32 + d % 16 * 2 +
        t % 2] = 0;
}

// --- products ---------------------------------------------------------------------------------------------

HWY_INLINE Vec low_of_pair(hn::Vec<decltype(du32)> pair) {
  return hn::BitCast(df, hn::ShiftLeft<16>(pair));
}
HWY_INLINE Vec high_of_pair(hn::Vec<decltype(du32)> pair) {
  return hn::BitCast(df, hn::And(pair, hn::Set(du32, 0xffff0000u)));
}

/// scores[h][0:slots] = q[h] . K for `kHeads` heads, K in tiles of pairs.
template <int kHeads>
HWY_INLINE void scores_of_heads(const std::uint32_t* k, std::int64_t slots, std::int64_t dim, const float* q,
                                float* scores, Prefetcher& next) {
  const auto n = static_cast<std::int64_t>(hn::Lanes(df));
  const auto columns = [&](std::int64_t t, auto width) HWY_ATTR {
    constexpr int kWidth = decltype(width)::value;
    Vec sum[kHeads][kWidth];
    const std::uint32_t* pairs[kWidth];
    for (int w = 0; w < kWidth; ++w) pairs[w] = k + (t + w * n) / 16 * 8 * dim + (t + w * n) % 16;
    for (auto& row : sum)
      for (Vec& x : row) x = hn::Zero(df);
    for (std::int64_t d = 0; d < dim; d += 2) {
      if (d % 16 == 0) next.step();
      Vec low[kWidth], high[kWidth];
      for (int w = 0; w < kWidth; ++w) {
        const auto pair = hn::LoadU(du32, pairs[w] + 8 * d);
        low[w] = low_of_pair(pair);
        high[w] = high_of_pair(pair);
      }
      for (int h = 0; h < kHeads; ++h) {
        const auto q_low = hn::Set(df, q[h * dim + d]), q_high = hn::Set(df, q[h * dim + d + 1]);
        for (int w = 0; w < kWidth; ++w)
          sum[h][w] = hn::MulAdd(q_high, high[w], hn::MulAdd(q_low, low[w], sum[h][w]));
      }
    }
    for (int h = 0; h < kHeads; ++h)
      for (int w = 0; w < kWidth; ++w)
        hn::StoreU(sum[h][w], df, scores + h * VectorWorkspace::score_stride + t + w * n);
  };
  std::int64_t t = 0;
  for (; t + 2 * n <= slots; t += 2 * n) columns(t, std::integral_constant<int, 2>());
  if (t < slots) columns(t, std::integral_constant<int, 1>());
}

/// o[h] += P[h] V for `kHeads` heads, V in tiles of pairs.
template <int kHeads>
HWY_INLINE void values_of_heads(const std::uint32_t* v, std::int64_t granule, std::int64_t slots,
                                std::int64_t dim, const float* p, float* o, Prefetcher& next) {
  const auto n = static_cast<std::int64_t>(hn::Lanes(df));
  const auto columns = [&](std::int64_t d, auto width) HWY_ATTR {
    constexpr int kWidth = decltype(width)::value;
    Vec sum[kHeads][kWidth];
    for (int h = 0; h < kHeads; ++h)
      for (int w = 0; w < kWidth; ++w) sum[h][w] = hn::LoadU(df, o + h * dim + d + w * n);
    for (std::int64_t block = 0; block < slots; block += granule) {
      const std::uint32_t* pairs[kWidth];
      for (int w = 0; w < kWidth; ++w)
        pairs[w] = v + block / 2 * dim + (d + w * n) / 16 * 8 * granule + (d + w * n) % 16;
      for (std::int64_t t = 0; t < granule; t += 2) {
        if (t % 8 == 0) next.step();
        Vec low[kWidth], high[kWidth];
        for (int w = 0; w < kWidth; ++w) {
          const auto pair = hn::LoadU(du32, pairs[w] + 8 * t);
          low[w] = low_of_pair(pair);
          high[w] = high_of_pair(pair);
        }
        for (int h = 0; h < kHeads; ++h) {
          const float* const p_pair = p + h * VectorWorkspace::score_stride + block + t;
          const auto p_low = hn::Set(df, p_pair[0]), p_high = hn::Set(df, p_pair[1]);
          for (int w = 0; w < kWidth; ++w)
            sum[h][w] = hn::MulAdd(p_high, high[w], hn::MulAdd(p_low, low[w], sum[h][w]));
        }
      }
    }
    for (int h = 0; h < kHeads; ++h)
      for (int w = 0; w < kWidth; ++w) hn::StoreU(sum[h][w], df, o + h * dim + d + w * n);
  };
  std::int64_t d = 0;
  for (; d + 2 * n <= dim; d += 2 * n) columns(d, std::integral_constant<int, 2>());
  if (d < dim) columns(d, std::integral_constant<int, 1>());
}

/// body(first head, number of heads as a constant) over blocks of up to four heads.
template <typename Body>
HWY_INLINE void for_head_blocks(std::int64_t heads, const Body& body) {
  std::int64_t h = 0;
  for (; h + 4 <= heads; h += 4) body(h, std::integral_constant<int, 4>());
  switch (heads - h) {
    case 1:
      return body(h, std::integral_constant<int, 1>());
    case 2:
      return body(h, std::integral_constant<int, 2>());
    case 3:
      return body(h, std::integral_constant<int, 3>());
  }
}

// --- softmax ----------------------------------------------------------------------------------------------

/// 2^x for x <= 0; relative error below 2e-7 (Taylor series of 2^f on [-1/2, 1/2], terms to f^6).
HWY_INLINE Vec exp2(Vec x) {
  const auto whole = hn::Round(x);
  const auto f = hn::Sub(x, whole);
  auto y = hn::Set(df, 1.5403530e-4f);
  y = hn::MulAdd(y, f, hn::Set(df, 1.3333558e-3f));
  y = hn::MulAdd(y, f, hn::Set(df, 9.6181291e-3f));
  y = hn::MulAdd(y, f, hn::Set(df, 5.5504109e-2f));
  y = hn::MulAdd(y, f, hn::Set(df, 2.4022651e-1f));
  y = hn::MulAdd(y, f, hn::Set(df, 6.9314718e-1f));
  y = hn::MulAdd(y, f, hn::Set(df, 1.0f));
  constexpr hn::RebindToSigned<Floats> di;
  const auto exponent = hn::ShiftLeft<23>(hn::Add(hn::ConvertTo(di, whole), hn::Set(di, 127)));
  // -inf makes f NaN; below 2^-126 the exponent would wrap. A NaN passes.
  return hn::IfThenZeroElse(hn::Lt(x, hn::Set(df, -126.0f)), hn::Mul(y, hn::BitCast(df, exponent)));
}

/// Scores of one head -> probabilities relative to the new maximum; returns the factor for what was summed
/// before. The maximum is subtracted before scaling: of huge scores the rounded products would differ by more
/// than 1.
HWY_INLINE float softmax_row(float* scores, std::int64_t columns, float scale_log2, float& max, float& sum) {
  const auto n = static_cast<std::int64_t>(hn::Lanes(df));
  const auto scale = hn::Set(df, scale_log2);
  auto top = hn::Set(df, max);
  for (std::int64_t t = 0; t < columns; t += n) top = hn::Max(top, hn::LoadU(df, scores + t));
  const float new_max = hn::GetLane(hn::MaxOfLanes(df, top));
  // All scores -inf so far: any finite reference gives the zeros that are due.
  const float reference = new_max == -infinity ? 0.0f : new_max;
  auto total = hn::Zero(df);
  for (std::int64_t t = 0; t < columns; t += n) {
    const auto p = exp2(hn::Mul(hn::Sub(hn::LoadU(df, scores + t), hn::Set(df, reference)), scale));
    hn::StoreU(p, df, scores + t);
    total = hn::Add(total, p);
  }
  const float factor = std::exp2((max - reference) * scale_log2);
  sum = sum * factor + hn::GetLane(hn::SumOfLanes(df, total));
  max = new_max;
  return factor;
}

void ProcessChunk(const UnitShape& shape, const Chunk& chunk, Prefetcher& next, const VectorWorkspace& ws) {
  const KvLayout& layout = shape.layout;
  const std::int64_t dim = layout.head_dim, v_dim = layout.v_dim;
  const auto columns_a_pass = 2 * static_cast<std::int64_t>(hn::Lanes(df));
  next.plan((shape.heads + 3) / 4 * chunk.columns * (dim / 16 + v_dim / 8) / columns_a_pass);

  const auto bf16_rows = [&](const Segment& s) HWY_ATTR {
    if (!layout.fp8) return as<const std::uint16_t>(s.k);
    for (std::int64_t t = 0; t < s.slots; t += 16) widen_rows(s.k + t * dim, dim, ws.rows + t * dim);
    return static_cast<const std::uint16_t*>(ws.rows);
  };

  for (const Segment* s = chunk.segments; s != chunk.segments + chunk.count; ++s) {
    const auto* pairs = as<const std::uint32_t>(ws.k);
    if (layout.mla) {
      const auto* const rows = as<const std::uint32_t>(bf16_rows(*s));
      for (std::int64_t tile = 0; tile < s->slots * dim / 2; tile += 256)
        transpose_tile(rows + tile, as<std::uint32_t>(ws.k) + tile);
    } else if (layout.fp8) {
      widen_tiles(s->k, s->slots * dim, ws.k);
    } else {
      pairs = as<const std::uint32_t>(s->k);
    }
    for_head_blocks(shape.heads, [&](std::int64_t h, auto heads) HWY_ATTR {
      scores_of_heads<decltype(heads)::value>(pairs, s->slots, dim, ws.q + h * dim,
                                              ws.scores + h * VectorWorkspace::score_stride + s->column,
                                              next);
    });
    if (s->valid < s->slots)
      for (std::int64_t h = 0; h < shape.heads; ++h) {
        float* const row = ws.scores + h * VectorWorkspace::score_stride + s->column;
        std::fill(row + s->valid, row + s->slots, -infinity);
      }
  }

  for (std::int64_t h = 0; h < shape.heads; ++h) {
    const float factor = softmax_row(ws.scores + h * VectorWorkspace::score_stride, chunk.columns,
                                     shape.scale_log2, ws.max[h], ws.sum[h]);
    if (factor == 1.0f) continue;
    for (std::int64_t d = 0; d < v_dim; ++d) ws.o[h * v_dim + d] *= factor;
  }

  for (const Segment* s = chunk.segments; s != chunk.segments + chunk.count; ++s) {
    const auto* pairs = as<const std::uint32_t>(ws.v);
    if (layout.mla) {
      interleave_values(layout, bf16_rows(*s), s->slots, ws.v);
    } else if (layout.fp8) {
      widen_tiles(s->v, s->slots * v_dim, ws.v);
    } else if (s->valid < s->slots) {
      std::memcpy(ws.v, s->v, static_cast<std::size_t>(s->slots * v_dim) * 2);
    } else {
      pairs = as<const std::uint32_t>(s->v);
    }
    if (s->valid < s->slots) clear_values_from(layout, s->valid, s->slots, ws.v);
    for_head_blocks(shape.heads, [&](std::int64_t h, auto heads) HWY_ATTR {
      values_of_heads<decltype(heads)::value>(pairs, layout.granule, s->slots, v_dim,
                                              ws.scores + h * VectorWorkspace::score_stride + s->column,
                                              ws.o + h * v_dim, next);
    });
  }
}

}  // namespace helix::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace helix::cpu {
namespace {

HWY_EXPORT(ProcessChunk);

VectorWorkspace arrays(const UnitShape& shape, std::byte* workspace) {
  Carver carver(workspace);
  return VectorWorkspace(carver, shape);
}

class VectorChunkKernel final : public ChunkKernel {
 public:
  std::size_t workspace_bytes(const UnitShape& shape) const override {
    Carver carver(nullptr);
    VectorWorkspace(carver, shape);
    return carver.used();
  }

  void begin(const UnitShape& shape, const BF16* q, std::byte* workspace) const override {
    const VectorWorkspace ws = arrays(shape, workspace);
    for (std::int64_t i = 0; i < shape.heads * shape.layout.head_dim; ++i) ws.q[i] = to_float(q[i]);
    std::fill_n(ws.o, shape.heads * shape.layout.v_dim, 0.0f);
    std::fill_n(ws.max, shape.heads, -std::numeric_limits<float>::infinity());
    std::fill_n(ws.sum, shape.heads, 0.0f);
  }

  void process(const UnitShape& shape, const Chunk& chunk, Prefetcher& next,
               std::byte* workspace) const override {
    HWY_DYNAMIC_DISPATCH(ProcessChunk)(shape, chunk, next, arrays(shape, workspace));
  }

  void finish(const UnitShape& shape, std::byte* workspace, float* o, float* lse2) const override {
    const VectorWorkspace ws = arrays(shape, workspace);
    const std::int64_t v_dim = shape.layout.v_dim;
    for (std::int64_t h = 0; h < shape.heads; ++h) {
      lse2[h] = ws.max[h] * shape.scale_log2 + std::log2(ws.sum[h]);
      const float factor = ws.sum[h] == 0.0f ? 0.0f : 1.0f / ws.sum[h];  // all scores -inf
      for (std::int64_t d = 0; d < v_dim; ++d) o[h * v_dim + d] = ws.o[h * v_dim + d] * factor;
    }
  }
};

}  // namespace

const ChunkKernel& vector_chunk_kernel() {
  static const VectorChunkKernel kernel;
  return kernel;
}

}  // namespace helix::cpu
#endif
