// Scores are made for 16 tokens at a time, a lane each, as a tile of the cache holds them: what a token costs
// is heads * width products and no sum over lanes. The best are found by their order's digits, the highest
// first (radix selection), which reads the scores a few times and moves none.
//   index_best     reads width values of the cache a token; its scores, once written, up to five times
//   gather_tokens  reads and writes a cache row a chosen token
#include "kernels/cpu/attention/sparse.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <stdexcept>
#include <vector>

#include "kernels/cpu/attention/kv_layout.hpp"
#include "kernels/cpu/machine/kv_fp8.hpp"
#include "kernels/cpu/machine/parallel.hpp"
#include "kernels/ops/score_order.hpp"
#include "kernels/ops/simd_clones.hpp"

namespace helix::cpu {
namespace {

constexpr std::int64_t lanes = 16;  // tokens of a tile

/// keys[dim][token] of the tile of 16 slots that begins with `slot`.
void load_tile(const KvLayout& layout, const std::byte* page, std::int64_t slot, float* keys) {
  for (std::int64_t dim = 0; dim < layout.head_dim; ++dim)
    for (std::int64_t lane = 0; lane < lanes; ++lane) {
      const std::byte* const at = page + layout.k_offset(slot + lane, dim);
      if (layout.fp8) {
        keys[dim * lanes + lane] = to_float(from_kv_code(static_cast<std::uint8_t>(*at)));
      } else {
        BF16 value;
        std::memcpy(&value, at, sizeof value);
        keys[dim * lanes + lane] = to_float(value);
      }
    }
}

HELIX_SIMD_CLONES void score_tile(std::int64_t dims, std::int64_t heads, const BF16* q, const float* weights,
                                  float scale, const float* keys, float* scores) {
  float sum[lanes] = {};
  for (std::int64_t h = 0; h < heads; ++h) {
    float dot[lanes] = {};
    for (std::int64_t d = 0; d < dims; ++d) {
      const float x = to_float(q[h * dims + d]);
#pragma omp simd
      for (std::int64_t i = 0; i < lanes; ++i) dot[i] += x * keys[d * lanes + i];
    }
    const float weight = weights[h] * scale;
#pragma omp simd
    for (std::int64_t i = 0; i < lanes; ++i) sum[i] += dot[i] > 0.0f ? weight * dot[i] : 0.0f * dot[i];
  }
  std::copy_n(sum, lanes, scores);
}

/// order(i) of `count` entries, 0 where there is none: the cut that leaves `room` of them, or all.
template <class Order>
BestCut cut_of_best(std::int64_t count, std::int64_t room, const Order& order) {
  if (count <= room) return {};
  BestCut cut;
  std::int64_t left = room;
  for (int shift = 24; shift >= 0; shift -= 8) {
    std::array<std::int64_t, 256> of_digit{};
    const std::uint32_t above = shift == 24 ? 0 : ~std::uint32_t{0} << (shift + 8);
    for (std::int64_t i = 0; i < count; ++i) {
      const std::uint32_t x = order(i);
      if ((x & above) == cut.least) ++of_digit[x >> shift & 0xff];
    }
    int digit = 255;
    for (; digit > 0 && of_digit[static_cast<std::size_t>(digit)] < left; --digit)
      left -= of_digit[static_cast<std::size_t>(digit)];
    cut.least |= static_cast<std::uint32_t>(digit) << shift;
  }
  cut.of_least = cut.least == 0 ? 0 : left;
  return cut;
}

/// take(i) for each entry that is left, in order.
template <class Order, class Take>
void for_each_best(std::int64_t count, BestCut cut, const Order& order, const Take& take) {
  for (std::int64_t i = 0; i < count; ++i) {
    const std::uint32_t x = order(i);
    if (x > cut.least || (x == cut.least && cut.of_least-- > 0)) take(i);
  }
}

}  // namespace

void index_best(const KvView& keys, std::int64_t batch, const IndexQuery& query, std::int64_t room,
                ScoredToken* best, float* scores, std::int64_t longest, int threads) {
  const KvLayout layout(keys.shape);
  const auto tiles_of = [&](std::int64_t b) {
    return layout.pages(keys.lengths[b]) * (layout.padded_tokens / lanes);
  };
  in_parallel(threads, [&](int thread, int team) {
    std::vector<float> tile(static_cast<std::size_t>(layout.head_dim * lanes));
    float of_tile[lanes];
    for (std::int64_t b = 0; b < batch; ++b) {
      const Range mine = split(tiles_of(b), thread, team);
      for (std::int64_t t = mine.begin; t < mine.end; ++t) {
        const std::int64_t page = t * lanes / layout.padded_tokens, slot = t * lanes % layout.padded_tokens;
        const std::int64_t first = page * layout.page_tokens + slot;
        const std::int64_t valid = std::min({lanes, layout.page_tokens - slot, keys.lengths[b] - first});
        if (valid <= 0) continue;
        load_tile(layout, head_of_page(keys, layout, b, page, 0), slot, tile.data());
        score_tile(layout.head_dim, query.heads, query.q + b * query.heads * layout.head_dim,
                   query.weights + b * query.heads, query.scale, tile.data(), of_tile);
        std::copy_n(of_tile, valid, scores + b * longest + first);
      }
    }
  });
  in_parallel(batch > 1 ? threads : 1, [&](int thread, int team) {
    const Range mine = split(batch, thread, team);
    for (std::int64_t b = mine.begin; b < mine.end; ++b) {
      const float* const row = scores + b * longest;
      const auto order = [row](std::int64_t i) { return score_order(row[i]); };
      ScoredToken* to = best + b * room;
      for_each_best(keys.lengths[b], cut_of_best(keys.lengths[b], room, order), order, [&](std::int64_t i) {
        *to++ = {row[i], static_cast<std::int32_t>(i)};
      });
      std::fill(to, best + (b + 1) * room, ScoredToken{0.0f, -1});
    }
  });
}

void choose_best(std::int64_t parts, std::int64_t mine, std::int64_t batch, const ScoredToken* gathered,
                 const ChosenTokens& chosen, int threads) {
  const std::int64_t room = chosen.room;
  in_parallel(batch > 1 ? threads : 1, [&](int thread, int team) {
    const Range requests = split(batch, thread, team);
    for (std::int64_t b = requests.begin; b < requests.end; ++b) {
      const auto entry = [&](std::int64_t i) -> const ScoredToken& {
        return gathered[(i / room * batch + b) * room + i % room];
      };
      const auto order = [&](std::int64_t i) {
        return entry(i).token < 0 ? 0u : score_order(entry(i).score);
      };
      std::int64_t count = 0;
      for_each_best(parts * room, cut_of_best(parts * room, room, order), order, [&](std::int64_t i) {
        if (i / room == mine) chosen.tokens[b * room + count++] = entry(i).token;
      });
      chosen.counts[b] = count;
    }
  });
}

void gather_tokens(const KvView& from, std::int64_t batch, const ChosenTokens& chosen, const KvView& to,
                   int threads) {
  const KvLayout layout(from.shape);
  if (!layout.mla) throw std::logic_error("gather_tokens: not a latent cache");
  // A row is the same bytes of each tile, wherever in its tile.
  const std::int64_t width = layout.fp8 ? 64 : 32;
  in_parallel(threads, [&](int thread, int team) {
    for (std::int64_t b = 0; b < batch; ++b) {
      const Range mine = split(chosen.counts[b], thread, team);
      for (std::int64_t i = mine.begin; i < mine.end; ++i) {
        const std::int64_t token = chosen.tokens[b * chosen.room + i], slot = token % layout.page_tokens;
        const std::byte* const source = head_of_page(from, layout, b, token / layout.page_tokens, 0);
        std::byte* const target = head_of_page(to, layout, b, i / layout.page_tokens, 0);
        for (std::int64_t dim = 0; dim < layout.head_dim; dim += width) {
          const auto bytes =
              static_cast<std::size_t>(std::min(width, layout.head_dim - dim)) * layout.value_bytes;
          std::memcpy(target + layout.k_offset(i % layout.page_tokens, dim),
                      source + layout.k_offset(slot, dim), bytes);
        }
      }
    }
  });
}

}  // namespace helix::cpu
