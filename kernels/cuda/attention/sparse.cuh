// Sparse attention's ops (kernels/ops/ops.hpp) on a GPU, plain ones: a thread scores a token in fp32 and keeps
// its key in registers; a block chooses for a request, bit by bit of the order of scores, which it reads 33 times
// from L2; a thread copies 16 bytes of a chosen row.
#pragma once

#include <bit>
#include <stdexcept>

#include "kernels/cuda/attention/kv_write.cuh"
#include "kernels/ops/score_order.hpp"

namespace helix::cuda {

inline constexpr int kScoreThreads = 128, kChooseThreads = 512;

/// The values of the 16 bytes that store_row wrote.
template <DType dtype, typename Take>
HELIX_DEVICE void load_row(Global<const std::byte> part, std::int64_t dims, int slot, std::int64_t dim,
                           const Take& take) {
  constexpr int per_unit = values_per_unit(dtype), bits = 16 / per_unit;
  const auto tile = part + KvLayout::tile_offset(dtype, dims, slot, dim);
  const int chunk = static_cast<int>(dim % kTileDims) / chunk_dims(dtype), token = slot % kTileTokens;
  const Vec<unsigned, 4> row =
      (tile + (chunk * kTileTokens + token) * 16).template as<const Vec<unsigned, 4>>()[0];
  float scale[2] = {1.0f, 1.0f};
  if constexpr (dtype == DType::nvfp4) {
    HELIX_UNROLL for (int block = 0; block < 2; ++block) {
      const auto scales = tile + (tile_value_bytes(dtype) + (chunk * 2 + block) * kTileTokens);
      const std::uint8_t stored = scales.template as<const std::uint8_t>()[token];
      scale[block] = to_float(FP8{stored});
    }
  }
  HELIX_UNROLL for (int i = 0; i < 8 * per_unit; ++i) {
    const unsigned code = row[i % 8 / 2] >> (i % 2 * 16 + i / 8 * bits) & ((1u << bits) - 1u);
    if constexpr (dtype == DType::bf16) {
      take(i, to_float(BF16{static_cast<std::uint16_t>(code)}));
    } else if constexpr (dtype == DType::fp8) {
      take(i, to_float(FP8{static_cast<std::uint8_t>(code)}));
    } else {
      take(i, e2m1_to_float(static_cast<std::uint8_t>(code)) * scale[i / kNvfp4Block]);
    }
  }
}

template <DType dtype, int dims>
HELIX_KERNEL HELIX_BOUNDS(kScoreThreads, 2) void index_scores(KvView keys, Global<const BF16> q,
                                                              Global<const float> weights, int heads,
                                                              float scale, Global<float> scores,
                                                              std::int64_t longest) {
  const Shared<float> queries = shared_memory<float>();
  const std::int64_t request = blockIdx.y;
  for (int i = static_cast<int>(threadIdx.x); i < heads * dims; i += kScoreThreads) {
    const BF16 value = q[request * heads * dims + i];
    queries[i] = to_float(value);
  }
  block_sync();
  const Global<const std::int64_t> lengths(keys.lengths);
  const std::int64_t length = lengths[request];
  const std::int64_t token = static_cast<std::int64_t>(blockIdx.x) * kScoreThreads + threadIdx.x;
  if (token >= length) return;

  const KvLayout layout(keys.shape);
  const auto page = part_of(keys, layout, request, token, RowPiece(layout, 0));
  float key[dims];
  HELIX_UNROLL for (int dim = 0; dim < dims; dim += chunk_dims(dtype))
      load_row<dtype>(page, dims, static_cast<int>(token % layout.page_tokens), dim,
                      [&](int i, float x) { key[dim + i] = x; });
  float sum = 0.0f;
  for (int h = 0; h < heads; ++h) {
    float dot = 0.0f;
    HELIX_UNROLL for (int d = 0; d < dims; ++d) {
      const float x = queries[h * dims + d];
      dot += x * key[d];
    }
    const float weight = weights[request * heads + h];
    sum += dot > 0.0f ? weight * scale * dot : 0.0f * dot;  // a NaN stays one
  }
  scores[request * longest + token] = sum;
}

/// Sum over the block's threads, in all of them.
HELIX_DEVICE int block_count(int x) {
  const Shared<int> of_warp = shared_memory<int>();
  HELIX_UNROLL for (int mask = kWarp / 2; mask > 0; mask /= 2) x += shuffle_xor(x, mask);
  block_sync();
  if (lane_index() == 0) of_warp[warp_index()] = x;
  block_sync();
  int total = 0;
  for (int w = 0; w < kChooseThreads / kWarp; ++w) {
    const int part = of_warp[w];
    total += part;
  }
  return total;
}

/// How many threads before this one have `flag` set, and how many in all.
struct Place {
  int before, total;
};
HELIX_DEVICE Place place_in_block(bool flag) {
  const Shared<int> of_warp = shared_memory<int>();
  const unsigned flags = ballot(flag);
  block_sync();
  if (lane_index() == 0) of_warp[warp_index()] = std::popcount(flags);
  block_sync();
  Place place{std::popcount(flags & ((1u << lane_index()) - 1u)), 0};
  for (int w = 0; w < kChooseThreads / kWarp; ++w) {
    const int part = of_warp[w];
    if (w < warp_index()) place.before += part;
    place.total += part;
  }
  return place;
}

/// take(i, place) for the `room` best of the entries i, or all, where place counts them in order; order(i) is 0 of
/// none. Returns how many there are.
template <typename Order, typename Take>
HELIX_DEVICE int for_each_best(std::int64_t count, std::int64_t room, const Order& order, const Take& take) {
  BestCut cut;
  const auto count_from = [&](std::uint32_t least) {
    int mine = 0;
    for (std::int64_t i = threadIdx.x; i < count; i += kChooseThreads) mine += order(i) >= least ? 1 : 0;
    return block_count(mine);
  };
  if (count > room) {
    for (int bit = 31; bit >= 0; --bit) {
      const std::uint32_t trial = cut.least | 1u << bit;
      if (count_from(trial) >= room) cut.least = trial;
    }
    if (cut.least > 0) {
      cut.of_least = cut.least == 0xffffffffu ? room : room - count_from(cut.least + 1);
    }
  }
  int taken = 0;
  std::int64_t equal = 0;
  for (std::int64_t first = 0; first < count; first += kChooseThreads) {
    const std::int64_t i = first + threadIdx.x;
    const std::uint32_t x = i < count ? order(i) : 0;
    const bool is_equal = x == cut.least && x > 0;
    const Place of_equal = place_in_block(is_equal);
    const bool best = x > cut.least || (is_equal && equal + of_equal.before < cut.of_least);
    const Place of_best = place_in_block(best);
    if (best) take(i, taken + of_best.before);
    equal += of_equal.total;
    taken += of_best.total;
  }
  return taken;
}

HELIX_KERNEL HELIX_BOUNDS(kChooseThreads, 1) void offer_best(Global<const std::int64_t> lengths,
                                                             Global<const float> scores, std::int64_t longest,
                                                             std::int64_t room, Global<ScoredToken> best) {
  const std::int64_t request = blockIdx.x;
  const auto row = scores + request * longest;
  const auto to = best + request * room;
  const auto score = [&](std::int64_t i) -> float { return row[i]; };
  const int taken = for_each_best(
      lengths[request], room, [&](std::int64_t i) { return score_order(score(i)); },
      [&](std::int64_t i, int place) {
        to[place] = ScoredToken{score(i), static_cast<std::int32_t>(i)};
      });
  for (std::int64_t i = taken + static_cast<std::int64_t>(threadIdx.x); i < room; i += kChooseThreads)
    to[i] = ScoredToken{0.0f, -1};
}

HELIX_KERNEL HELIX_BOUNDS(kChooseThreads,
                          1) void keep_best(std::int64_t parts, std::int64_t mine, std::int64_t batch,
                                            std::int64_t room, Global<const ScoredToken> gathered,
                                            Global<std::int32_t> tokens, Global<std::int64_t> counts) {
  const std::int64_t request = blockIdx.x;
  const auto entry = [&](std::int64_t i) -> ScoredToken {
    return gathered[(i / room * batch + request) * room + i % room];
  };
  const auto order = [&](std::int64_t i) {
    const ScoredToken one = entry(i);
    return one.token < 0 ? 0u : score_order(one.score);
  };
  // Those of this part follow each other, so that their places do, too.
  int own = 0, earlier = 0;
  for_each_best(parts * room, room, order, [&](std::int64_t i, int) {
    earlier += i / room < mine ? 1 : 0;
    own += i / room == mine ? 1 : 0;
  });
  const int first = block_count(earlier), count = block_count(own);
  for_each_best(parts * room, room, order, [&](std::int64_t i, int place) {
    if (i / room == mine) tokens[request * room + place - first] = entry(i).token;
  });
  if (threadIdx.x == 0) counts[request] = count;
}

template <DType dtype>
HELIX_KERNEL void gather_rows(KvView from, std::int64_t batch, Global<const std::int32_t> tokens,
                              Global<const std::int64_t> counts, std::int64_t room, KvView to) {
  const std::int64_t index = static_cast<std::int64_t>(blockIdx.x) * kKvWriteThreads + threadIdx.x;
  const KvLayout layout(from.shape);
  const RowPiece piece(layout, index);
  const std::int64_t request = piece.token / room, place = piece.token % room;
  if (request >= batch) return;
  const std::int64_t count = counts[request];
  if (place >= count) return;
  const std::int64_t token = tokens[request * room + place];
  const auto source = part_of(from, layout, request, token, piece);
  const auto target = part_of(to, layout, request, place, piece);
  const int chunk = static_cast<int>(piece.dim % kTileDims) / chunk_dims(dtype);
  const auto row = [&](const Global<std::byte>& part, std::int64_t slot, std::int64_t byte) {
    return part + (KvLayout::tile_offset(dtype, layout.k_dims, static_cast<int>(slot), piece.dim) + byte);
  };
  const std::int64_t source_slot = token % layout.page_tokens, target_slot = place % layout.page_tokens;
  const auto at = [&](std::int64_t slot) { return (chunk * kTileTokens + slot % kTileTokens) * 16; };
  const Vec<unsigned, 4> values =
      row(source, source_slot, at(source_slot)).template as<Vec<unsigned, 4>>()[0];
  row(target, target_slot, at(target_slot)).template as<Vec<unsigned, 4>>()[0] = values;
  if constexpr (dtype == DType::nvfp4) {
    for (int block = 0; block < 2; ++block) {
      const auto scale_at = [&](std::int64_t slot) {
        return tile_value_bytes(dtype) + (chunk * 2 + block) * kTileTokens + slot % kTileTokens;
      };
      const std::uint8_t scale =
          row(source, source_slot, scale_at(source_slot)).template as<std::uint8_t>()[0];
      row(target, target_slot, scale_at(target_slot)).template as<std::uint8_t>()[0] = scale;
    }
  }
}

inline void index_best(Stream stream, const KvView& keys, std::int64_t batch, const IndexQuery& query,
                       std::int64_t room, ScoredToken* best, float* scores, std::int64_t longest) {
  const KvShape& shape = keys.shape;
  const auto for_dims = [&](auto* narrow, auto* wide) { return shape.head_dim == 64 ? narrow : wide; };
  if (shape.head_dim != 64 && shape.head_dim != 128)
    throw std::logic_error("index_best: keys of neither 64 nor 128 values");
  const auto kernel =
      of_dtype(shape.dtype, for_dims(index_scores<DType::bf16, 64>, index_scores<DType::bf16, 128>),
               for_dims(index_scores<DType::fp8, 64>, index_scores<DType::fp8, 128>),
               for_dims(index_scores<DType::nvfp4, 64>, index_scores<DType::nvfp4, 128>));
  const auto blocks = static_cast<unsigned>((longest + kScoreThreads - 1) / kScoreThreads);
  launch(kernel, Dim3(blocks, static_cast<unsigned>(batch)), Dim3(kScoreThreads),
         static_cast<std::size_t>(query.heads * shape.head_dim) * sizeof(float), stream, keys, query.q,
         query.weights, static_cast<int>(query.heads), query.scale, scores, longest);
  launch(offer_best, Dim3(static_cast<unsigned>(batch)), Dim3(kChooseThreads),
         kChooseThreads / kWarp * sizeof(int), stream, keys.lengths, scores, longest, room, best);
}

inline void choose_best(Stream stream, std::int64_t parts, std::int64_t mine, std::int64_t batch,
                        const ScoredToken* gathered, const ChosenTokens& chosen) {
  launch(keep_best, Dim3(static_cast<unsigned>(batch)), Dim3(kChooseThreads),
         kChooseThreads / kWarp * sizeof(int), stream, parts, mine, batch, chosen.room, gathered,
         chosen.tokens, chosen.counts);
}

inline void gather_tokens(Stream stream, const KvView& from, std::int64_t batch, const ChosenTokens& chosen,
                          const KvView& to) {
  const auto kernel = of_dtype(from.shape.dtype, gather_rows<DType::bf16>, gather_rows<DType::fp8>,
                               gather_rows<DType::nvfp4>);
  launch(kernel, write_blocks(batch * chosen.room * RowPiece::per_token(from.shape)), kKvWriteThreads, 0,
         stream, from, batch, chosen.tokens, chosen.counts, chosen.room, to);
}

}  // namespace helix::cuda
