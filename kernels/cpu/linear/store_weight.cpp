// Weights of a checkpoint, given as floats, into the packed layout: rounded a row of a tile at a time, then turned.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <stdexcept>

#include "kernels/cpu/linear/linear.hpp"
#include "kernels/cpu/linear/packing.hpp"
#include "kernels/cpu/machine/parallel.hpp"
#include "kernels/ops/bf16.hpp"
#include "kernels/ops/fp8.hpp"
#include "kernels/ops/simd_clones.hpp"

namespace helix::cpu {
namespace {

/// What a tile holds of one output: 32 values, bf16 in pairs or bytes of fp8.
struct TileRow {
  std::uint32_t pairs[packing::tile_rows];
};

HELIX_SIMD_CLONES void round_bf16(const float* x, float factor, TileRow& out) {
  BF16 values[packing::block_inputs];
  for (int i = 0; i < packing::block_inputs; ++i) values[i] = to_bf16(x[i] * factor);
  std::memcpy(out.pairs, values, sizeof(values));
}

/// As to_fp8, of a value in the lowest byte, without a branch; no NaN comes here.
inline std::uint32_t fp8_bits(float x) {
  const std::uint32_t u = std::bit_cast<std::uint32_t>(x), sign = (u >> 24) & 0x80u;
  const float a = std::min(std::fabs(x), 448.0f);
  const std::uint32_t m = std::bit_cast<std::uint32_t>(a);
  const std::uint32_t subnormal = std::bit_cast<std::uint32_t>(a + 0x1p14f) & 0xfu;
  const std::uint32_t normal = (m + 0x7ffffu + ((m >> 20) & 1u) - (120u << 23)) >> 20;
  return sign | (a < 0x1p-6f ? subnormal : normal);
}

HELIX_SIMD_CLONES void round_fp8(const float* x, float factor, TileRow& out) {
  for (int p = 0; p < packing::tile_rows; ++p)
    out.pairs[p] = fp8_bits(x[2 * p] * factor) | fp8_bits(x[2 * p + 1] * factor) << 8;
}

void write_tile(const TileRow* rows, DType dtype, std::byte* tile) {
  for (std::int64_t p = 0; p < packing::tile_rows; ++p) {
    for (std::int64_t output = 0; output < packing::tile_outputs; ++output) {
      const std::uint32_t pair = rows[output].pairs[p];
      const auto at = static_cast<std::size_t>(packing::index_in_tile(output, 2 * p, dtype));
      if (dtype == DType::fp8) {
        const auto bytes = static_cast<std::uint16_t>(pair);
        std::memcpy(tile + at, &bytes, sizeof(bytes));
      } else {
        std::memcpy(tile + at * sizeof(BF16), &pair, sizeof(pair));
      }
    }
  }
}

}  // namespace

void store_weight(const PackedWeight& weight, std::int64_t index, std::int64_t first, std::int64_t rows,
                  const float* values, int threads) {
  if (first % packing::panel_outputs != 0 || first + rows > weight.n ||
      (rows % packing::panel_outputs != 0 && first + rows != weight.n)) {
    throw std::invalid_argument("store_weight: rows that are no whole panels");
  }
  std::byte* const data = weight.data + static_cast<std::size_t>(index) * weight.stride_bytes;
  const std::int64_t k = weight.k,
                     tile_bytes = packing::tile_values * packing::bytes_per_weight(weight.dtype);
  const auto round = weight.dtype == DType::fp8 ? round_fp8 : round_bf16;
  const float factor = 1.0f / weight.scale;
  in_parallel(threads, [&](int thread, int team) {
    const Range mine = split(packing::panels(rows), thread, team);
    for (std::int64_t panel = mine.begin; panel < mine.end; ++panel) {
      std::byte* tile =
          data + (first / packing::panel_outputs + panel) * packing::panel_bytes(k, weight.dtype);
      for (std::int64_t input = 0; input < k; input += packing::block_inputs) {
        for (std::int64_t half = 0; half < 2; ++half, tile += tile_bytes) {
          TileRow tile_rows[packing::tile_outputs]{};
          for (std::int64_t o = 0; o < packing::tile_outputs; ++o) {
            const std::int64_t row = panel * packing::panel_outputs + half * packing::tile_outputs + o;
            if (row >= rows) continue;
            const float* x = values + row * k + input;
            float padded[packing::block_inputs]{};
            if (k - input < packing::block_inputs) {
              std::copy_n(x, k - input, padded);
              x = padded;
            }
            round(x, factor, tile_rows[o]);
          }
          write_tile(tile_rows, weight.dtype, tile);
        }
      }
    }
  });
}

}  // namespace helix::cpu
