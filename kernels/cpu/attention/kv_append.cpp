// The new token's K and V rows into their pages. Where a value goes is KvLayout's to say; rows are walked
// here in steps of its words, since asking for every value costs more than moving it.
#include <algorithm>
#include <cstring>

#include "kernels/cpu/attention/attention.hpp"
#include "kernels/cpu/attention/kv_layout.hpp"
#include "kernels/cpu/machine/kv_fp8.hpp"
#include "kernels/cpu/machine/parallel.hpp"

namespace helix::cpu {
namespace {

constexpr std::int64_t line_bytes = 64;  // of as many values of each of 16 tokens or columns

std::uint8_t fp8_of(BF16 x) {
  return kv_code(to_fp8(to_float(x)));
}

/// A row of K of a GQA page: its pairs, one in each line, of fp8 two.
void store_pairs(const BF16* row, std::int64_t count, bool fp8, std::byte* to) {
  if (!fp8) {
    for (std::int64_t d = 0; d < count; d += 2, to += line_bytes) std::memcpy(to, row + d, 2 * sizeof(BF16));
    return;
  }
  for (std::int64_t d = 0; d < count; d += 4, to += line_bytes) {
    for (std::int64_t pair = 0; pair < 2; ++pair) {
      const std::uint8_t values[2] = {fp8_of(row[d + 2 * pair]), fp8_of(row[d + 2 * pair + 1])};
      std::memcpy(to + 8 * pair, values, sizeof values);
    }
  }
}

/// Of V: one value in each pair of a line, a line in each tile of 16 columns.
void store_in_pairs(const BF16* row, std::int64_t count, bool fp8, std::size_t tile_bytes, std::byte* to) {
  for (std::int64_t d = 0; d < count; d += 16, to += tile_bytes)
    for (std::int64_t i = 0; i < 16; ++i) {
      if (fp8) {
        const std::uint8_t value = fp8_of(row[d + i]);
        std::memcpy(to + i / 4 * 16 + i % 4 * 2, &value, sizeof value);
      } else {
        std::memcpy(to + 4 * i, row + d + i, sizeof(BF16));
      }
    }
}

/// An MLA row: the consecutive bytes that each tile has of it.
void store_mla(const KvLayout& layout, std::int64_t slot, const BF16* row, std::byte* page) {
  const std::int64_t width = layout.fp8 ? 64 : 32;
  for (std::int64_t tile = 0; tile < layout.head_dim; tile += width) {
    std::byte* const to = page + layout.k_offset(slot, tile);
    const std::int64_t count = std::min(width, layout.head_dim - tile), half = count / 2;
    if (!layout.fp8) {
      std::memcpy(to, row + tile, static_cast<std::size_t>(count) * sizeof(BF16));
      continue;
    }
    std::uint8_t values[64];
    for (std::int64_t i = 0; i < half; ++i) {
      values[i / 8 * 16 + i % 8] = fp8_of(row[tile + i]);
      values[i / 8 * 16 + 8 + i % 8] = fp8_of(row[tile + half + i]);
    }
    std::memcpy(to, values, static_cast<std::size_t>(count));
  }
}

}  // namespace

std::size_t kv_page_bytes(const KvShape& shape) {
  return KvLayout(shape).page_bytes();
}

void kv_append(const KvView& cache, std::int64_t batch, const std::int64_t* slots, const BF16* k,
               std::int64_t ldk, const BF16* v, std::int64_t ldv, int threads) {
  const KvLayout layout(cache.shape);
  const std::size_t v_tile_bytes = static_cast<std::size_t>(16 * layout.granule) * layout.value_bytes;
  const std::int64_t rows = batch * cache.query_tokens;
  in_parallel(rows > 1 ? threads : 1, [&](int thread, int team) {
    const Range mine = split(rows, thread, team);
    for (std::int64_t r = mine.begin; r < mine.end; ++r) {
      if (slots[r] < 0) continue;
      const std::int64_t page = slots[r] / layout.page_tokens;
      const std::int64_t slot = slots[r] % layout.page_tokens;
      for (std::int64_t h = 0; h < layout.kv_heads; ++h) {
        std::byte* const k_part = head_of_page(cache, layout, r / cache.query_tokens, page, h);
        const BF16* const k_row = k + r * ldk + h * layout.head_dim;
        if (layout.mla) {
          store_mla(layout, slot, k_row, k_part);
          continue;
        }
        store_pairs(k_row, layout.head_dim, layout.fp8, k_part + layout.k_offset(slot, 0));
        store_in_pairs(v + r * ldv + h * layout.v_dim, layout.v_dim, layout.fp8, v_tile_bytes,
                       k_part + layout.k_bytes + layout.v_offset(slot, 0));
      }
    }
  });
}

}  // namespace helix::cpu
