// The arithmetic of flash-decode in Highway's vectors, once for each of its targets: fp32 products and sums,
// four query heads at a time, the lanes along the tokens for S = Q K^T and along the value dimension for O =
// P V. Include it once highway.h is there.
#if defined(HELIX_VECTOR_ATTENTION_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef HELIX_VECTOR_ATTENTION_INL
#undef HELIX_VECTOR_ATTENTION_INL
#else
#define HELIX_VECTOR_ATTENTION_INL
#endif

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/cpu/attention/vector_kernel.hpp"
#include "kernels/cpu/machine/kv_fp8.hpp"
#include "kernels/ops/bf16.hpp"

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

// --- pages ------------------------------------------------------------------------------------------------

/// The bytes of the bf16 of a code of an e4m3 value (kv_fp8.hpp), looked up by its nibbles: they are
/// `of_upper` ^ `of_lower`; where the upper nibble is 15 `others` (which has the lower nibble) is XORed, too.
struct BytesOfCode {
  struct Tables {
    alignas(16) std::uint8_t of_upper[16] = {}, of_lower[16] = {}, others[16] = {};
  };
  Tables low, high;

  constexpr BytesOfCode() {
    fill(0, low);
    fill(8, high);
  }

 private:
  static constexpr void fill(int shift, Tables& tables) {
    const auto byte = [&](unsigned upper, unsigned lower) {
      const float value = to_float(from_kv_code(static_cast<std::uint8_t>(upper << 4 | lower)));
      return static_cast<std::uint8_t>(to_bf16(value).bits >> shift);
    };
    for (unsigned i = 0; i < 16; ++i) {
      if (i < 15) tables.of_upper[i] = byte(i, 15);
      tables.of_lower[i] = byte(1, i) ^ byte(1, 15);
      tables.others[i] = byte(15, i) ^ tables.of_lower[i];
    }
  }
};
constexpr BytesOfCode bytes_of_code;

/// Widens kBytes fp8 codes: the first halves of 16 bytes -> `first`, the second ones -> `second`.
template <int kBytes>
HWY_INLINE void widen(const std::byte* from, std::uint16_t* first, std::uint16_t* second) {
  constexpr hn::CappedTag<std::uint8_t, kBytes> d8;
  constexpr hn::Repartition<std::uint16_t, decltype(d8)> d16;
  const auto n = static_cast<std::int64_t>(hn::Lanes(d8));
  for (std::int64_t i = 0; i < kBytes; i += n) {
    const auto code = hn::LoadU(d8, as<const std::uint8_t>(from + i));
    const auto fifteen = hn::Set(d8, std::uint8_t{15});
    const auto upper = hn::ShiftRight<4>(code), lower = hn::And(code, fifteen);
    // An index with its top bit set looks up 0.
    const auto other = hn::IfThenElse(hn::Eq(upper, fifteen), lower, hn::Set(d8, std::uint8_t{0x80}));
    const auto look_up = [&](const BytesOfCode::Tables& tables) HWY_ATTR {
      return hn::Xor(hn::Xor(hn::TableLookupBytes(hn::LoadDup128(d8, tables.of_upper), upper),
                             hn::TableLookupBytes(hn::LoadDup128(d8, tables.of_lower), lower)),
                     hn::TableLookupBytesOr0(hn::LoadDup128(d8, tables.others), other));
    };
    const auto low = look_up(bytes_of_code.low), high = look_up(bytes_of_code.high);
    hn::StoreU(hn::BitCast(d16, hn::InterleaveLower(d8, low, high)), d16, first + i / 2);
    hn::StoreU(hn::BitCast(d16, hn::InterleaveUpper(d8, low, high)), d16, second + i / 2);
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

// --- a chunk ----------------------------------------------------------------------------------------------

/// k_pairs(segment) and v_pairs(segment) are where tiles of bf16 pairs of a segment's K and V lie; of V,
/// slots past the valid ones are zero.
template <typename KPairs, typename VPairs>
HWY_INLINE void process_chunk(const UnitShape& shape, const Chunk& chunk, Prefetcher& next,
                              const VectorWorkspace& ws, const KPairs& k_pairs, const VPairs& v_pairs) {
  const std::int64_t dim = shape.layout.head_dim, v_dim = shape.layout.v_dim;
  const auto columns_a_pass = 2 * static_cast<std::int64_t>(hn::Lanes(df));
  next.plan((shape.heads + 3) / 4 * chunk.columns * (dim / 16 + v_dim / 8) / columns_a_pass);

  for (const Segment* s = chunk.segments; s != chunk.segments + chunk.count; ++s) {
    const auto* const pairs = as<const std::uint32_t>(k_pairs(*s));
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
    const auto* const pairs = as<const std::uint32_t>(v_pairs(*s));
    for_head_blocks(shape.heads, [&](std::int64_t h, auto heads) HWY_ATTR {
      values_of_heads<decltype(heads)::value>(pairs, shape.layout.granule, s->slots, v_dim,
                                              ws.scores + h * VectorWorkspace::score_stride + s->column,
                                              ws.o + h * v_dim, next);
    });
  }
}

}  // namespace helix::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
