// V of a chunk as the products of P V take it: granules, in which no slot may hold garbage.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <utility>

#include "kernels/cpu/attention/kv_chunks.hpp"
#include "kernels/cpu/machine/amx.hpp"

#if HELIX_HAVE_AMX
#include "kernels/cpu/machine/avx512.hpp"

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512bf16,gfni")

namespace helix::cpu::gqa {

/// A granule of V of which only `valid` slots are: the others are zero, since they may be NaN, and 0 * NaN is
/// NaN. A 64-byte row of its tiles holds the same slots in each of 4 parts, so one mask does for all tiles.
inline void copy_partial(const KvLayout& layout, const std::byte* from, std::int64_t valid, std::byte* to) {
  constexpr std::size_t row_bytes = 64, part_bytes = 16, most_rows = 16;
  std::array<std::array<std::uint8_t, part_bytes>, most_rows> kept{};
  for (std::int64_t t = 0; t < valid; ++t)
    for (std::int64_t column = 0; column < 4; ++column) {
      const std::size_t at = layout.v_offset(t, column);
      std::fill_n(&kept[at / row_bytes][at % row_bytes], layout.value_bytes, std::uint8_t{0xff});
    }
  const std::size_t rows = static_cast<std::size_t>(layout.granule) * layout.value_bytes / 4;
  const std::size_t all_rows = rows * static_cast<std::size_t>(layout.v_dim / 16);
  for (std::size_t r = 0; r < all_rows; ++r) {
    const __m512i mask = _mm512_broadcast_i32x4(std::bit_cast<__m128i>(kept[r % rows]));
    _mm512_storeu_si512(to + r * row_bytes, _mm512_and_si512(mask, _mm512_loadu_si512(from + r * row_bytes)));
  }
}

/// Where the granules of V in a chunk lie, those with slots past the valid ones copied to `partial`; returns
/// how many there are.
inline std::int64_t granules_of_v(const KvLayout& layout, const Chunk& chunk, std::byte* partial,
                                  const std::byte** places) {
  const std::int64_t granule = layout.granule;
  const std::int64_t granule_bytes = layout.v_dim * granule * static_cast<std::int64_t>(layout.value_bytes);
  const std::byte** end = places;
  for (const Segment* s = chunk.segments; s != chunk.segments + chunk.count; ++s) {
    const std::byte* at = s->v;
    for (std::int64_t t = 0; t < s->slots; t += granule, at += granule_bytes) {
      *end++ = at;
      if (t + granule <= s->valid) continue;
      copy_partial(layout, at, s->valid - t, partial);
      end[-1] = std::exchange(partial, partial + granule_bytes);
    }
  }
  return end - places;
}

}  // namespace helix::cpu::gqa

#pragma GCC pop_options
#endif
