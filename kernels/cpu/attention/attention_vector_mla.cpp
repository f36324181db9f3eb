// Flash-decode of absorbed MLA through Google Highway: rows of the cache become the tiles of pairs that GQA's
// pages hold (kv_layout.hpp), transposed for K and interleaved for V.
#include "kernels/cpu/attention/vector_kernel.hpp"

// The fallback is EMU128, since SCALAR has no shuffles. Highway avoids EMU128 before gcc 12.3 because of gcc
// bug 106322, which is in multiply-high; that is not used here.
#ifndef HWY_BROKEN_EMU128
#define HWY_BROKEN_EMU128 0
#endif
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/attention/attention_vector_mla.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/cpu/attention/vector_attention-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace helix::cpu::HWY_NAMESPACE {

/// 16 rows of MLA's fp8 tiles -> bf16 tiles.
HWY_INLINE void widen_rows(const std::byte* from, std::int64_t head_dim, std::uint16_t* to) {
  for (std::int64_t d = 0; d < head_dim; d += 64) {
    const std::int64_t width = std::min<std::int64_t>(64, head_dim - d);
    for (std::int64_t t = 0; t < 16; ++t) {
      const std::byte* const row = from + 16 * d + t * width;
      if (width == 64) {
        widen<64>(row, to + 16 * d + 32 * t, to + 16 * d + 512 + 32 * t);
      } else {
        widen<32>(row, to + 16 * d + 32 * t, to + 16 * d + 32 * t + 16);
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

void ProcessMlaChunk(const UnitShape& shape, const Chunk& chunk, Prefetcher& next,
                     const VectorWorkspace& ws) {
  const KvLayout& layout = shape.layout;
  const std::int64_t dim = layout.head_dim;
  const auto bf16_rows = [&](const Segment& s) HWY_ATTR {
    if (!layout.fp8) return as<const std::uint16_t>(s.k);
    for (std::int64_t t = 0; t < s.slots; t += 16) widen_rows(s.k + t * dim, dim, ws.rows + t * dim);
    return static_cast<const std::uint16_t*>(ws.rows);
  };
  const auto k_pairs = [&](const Segment& s) HWY_ATTR {
    const auto* const rows = as<const std::uint32_t>(bf16_rows(s));
    for (std::int64_t tile = 0; tile < s.slots * dim / 2; tile += 256)
      transpose_tile(rows + tile, as<std::uint32_t>(ws.k) + tile);
    return ws.k;
  };
  const auto v_pairs = [&](const Segment& s) HWY_ATTR {
    interleave_values(layout, bf16_rows(s), s.slots, ws.v);
    clear_values_from(layout, s.valid, s.slots, ws.v);
    return ws.v;
  };
  process_chunk(shape, chunk, next, ws, k_pairs, v_pairs);
}

}  // namespace helix::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace helix::cpu {

HWY_EXPORT(ProcessMlaChunk);

const ChunkKernel& vector_mla_chunk_kernel() {
  static const VectorChunkKernel kernel([](auto&... chunk) {
    HWY_DYNAMIC_DISPATCH(ProcessMlaChunk)(chunk...);
  });
  return kernel;
}

}  // namespace helix::cpu
#endif
